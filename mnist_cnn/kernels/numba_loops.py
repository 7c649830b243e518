"""Loops that numba compiles; on first use, for about ten seconds.

Letters of the shapes as in `double_conv`. `places` are max-pooling's: pixels of the convolution's
output, counted line by line. A patch is K lines of L·C numbers that lie in one piece.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, Any]
# FMA; but no assumption that there are no NaNs, which a user would like to see.
# Divisions as in NumPy: Python's check for zeros would keep a loop from being vectorised.
compiled = numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")

#: SplitMix64's.
GAMMA = np.uint64(0x9E3779B97F4A7C15)
FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@compiled
def adadelta(
    weight: Array,  # (N,), as are the next three; stepped
    gradient: Array,
    square_avg: Array,  # moved on
    acc_delta: Array,  # moved on
    lr: float,
    rho: float,
    rest: float,  # 1 - rho
    eps: float,
) -> None:
    """Take a step of Adadelta."""
    for i in range(weight.size):
        square_avg[i] = rho * square_avg[i] + rest * gradient[i] * gradient[i]
        delta = np.sqrt(acc_delta[i] + eps) / np.sqrt(square_avg[i] + eps) * gradient[i]
        acc_delta[i] = rho * acc_delta[i] + rest * delta * delta
        weight[i] -= lr * delta


@compiled
def dropout_mask(
    key: int,
    first: int,  # the word of the stream that is the first row's first
    dropped: int,  # of the 256 values of a byte
    scale: float,
    mask: Array,  # (rows, N), written: `scale` where a unit is kept, else 0
) -> None:
    """Draw as `mnist_cnn.training.randomness` says."""
    words = -(-mask.shape[1] // 8)  # 8 bytes a word, rounded up
    drawn = np.empty(8 * words, np.uint8)
    as_words = drawn.view(np.uint64)
    for row in range(len(mask)):
        start = first + row * words
        for i in range(words):
            z = np.uint64(key) + np.uint64(start + i) * GAMMA
            z = (z ^ (z >> np.uint64(30))) * FACTORS[0]
            z = (z ^ (z >> np.uint64(27))) * FACTORS[1]
            as_words[i] = z ^ (z >> np.uint64(31))
        for i in range(mask.shape[1]):
            mask[row, i] = scale if drawn[i] >= dropped else 0


@compiled
def gradients(
    grad: Array,  # (B, P·Q, O)
    output: Array,  # (B, P·Q, O)
    places: Array,  # (B, P·Q, O)
    images: Array,  # (B, R, S, D)
    hidden: Array,  # (B, H·W·C), rectified
    weight2: Array,  # (O, K, L·C)
    hidden_grads: Array,  # (B, H·W·C), written; (0, H·W·C) if it is not wanted
    weight1_grads: Array,  # (pieces, J, I, D, C), added to; (0, J, I, D, C) if it is not wanted
    bias1_grads: Array,  # (pieces, C), as are the next two
    weight2_grads: Array,  # (pieces, O, K, L·C)
    bias2_grads: Array,  # (pieces, O)
    width: int,  # W
    stride: tuple[int, int],  # of the first convolution
    piece: int,  # where to add
    first: int,  # the images to do
    end: int,
) -> None:
    """Go back from the output to the second convolution's kernels, and on to the first one's.

    All that an image needs stays in the cache meanwhile.
    """
    weight2_grad, bias2_grad = weight2_grads[piece], bias2_grads[piece]
    filters, lines, size = weight2.shape
    channels = bias1_grads.shape[1]
    line_size = width * channels
    cells = grad.shape[1]
    columns = size // channels
    out_width = width - columns + 1
    nonzero = np.empty(filters, np.int64)
    counts = np.empty(filters, np.int64)  # of each filter: how many, factors and starts of patches
    factors = np.empty((filters, cells), grad.dtype)
    starts = np.empty((filters, cells), np.int64)
    keep, go_on = len(hidden_grads) > 0, len(weight1_grads) > 0
    hidden_grad = np.empty(hidden.shape[1], grad.dtype)
    for image in range(first, end):
        pixels = hidden[image]
        if keep:
            hidden_grad = hidden_grads[image]
        hidden_grad[:] = 0
        counts[:] = 0
        for cell in range(cells):
            count = 0
            for channel in range(filters):  # without a branch: it could not be predicted
                nonzero[count] = channel
                # A NaN lets the gradient through, as in torch.
                stopped = output[image, cell, channel] <= 0
                count += (grad[image, cell, channel] != 0) & (not stopped)
            for channel in nonzero[:count]:
                factor, place = grad[image, cell, channel], places[image, cell, channel]
                start = (place + place // out_width * (columns - 1)) * channels
                factors[channel, counts[channel]] = factor
                starts[channel, counts[channel]] = start
                counts[channel] += 1
                bias2_grad[channel] += factor
                if keep or go_on:
                    for line in range(lines):
                        to = hidden_grad[start + line * line_size :]
                        for i in range(size):
                            to[i] += factor * weight2[channel, line, i]
        for channel in range(filters):
            for line in range(lines):
                _add_patches(
                    weight2_grad[channel, line],
                    pixels[line * line_size :],
                    factors[channel, : counts[channel]],
                    starts[channel],
                )
        for i in range(len(pixels)):
            hidden_grad[i] = 0 if pixels[i] <= 0 else hidden_grad[i]
        if go_on:
            sums = weight1_grads[piece], bias1_grads[piece]
            _first_gradients(images[image], hidden_grad, width, stride, *sums)


@compiled
def _first_gradients(
    image: Array,  # (R, S, D)
    grad: Array,  # (H·W·C)
    width: int,  # W
    stride: tuple[int, int],
    weight_grad: Array,  # (J, I, D, C), added to
    bias_grad: Array,  # (C,), added to
) -> None:
    """Go back from the hidden image to the first convolution's kernels."""
    rows, columns, depth, channels = weight_grad.shape
    height = len(grad) // (width * channels)
    factors = np.empty(height * width, grad.dtype)
    starts = np.empty(height * width, np.int64)
    for place in range(height * width):
        factors[place] = 1
        starts[place] = place * channels
    _add_patches(bias_grad, grad, factors, starts)
    for j in range(rows):
        for i in range(columns):
            for d in range(depth):
                count = 0
                for y in range(height):
                    for x in range(width):
                        pixel = image[y * stride[0] + j, x * stride[1] + i, d]
                        factors[count] = pixel
                        starts[count] = (y * width + x) * channels
                        count += pixel != 0
                _add_patches(weight_grad[j, i, d], grad, factors[:count], starts)


@compiled
def _add_patches(to: Array, pixels: Array, factors: Array, starts: Array) -> None:
    """Add parts of `pixels`, times their factors: four at a time, which stores fewer sums."""
    size, fours = len(to), len(factors) // 4 * 4
    for k in range(0, fours, 4):
        f0, f1, f2, f3 = factors[k], factors[k + 1], factors[k + 2], factors[k + 3]
        p0, p1 = pixels[starts[k] :], pixels[starts[k + 1] :]
        p2, p3 = pixels[starts[k + 2] :], pixels[starts[k + 3] :]
        for i in range(size):
            to[i] += f0 * p0[i] + f1 * p1[i] + f2 * p2[i] + f3 * p3[i]
    for k in range(fours, len(factors)):
        patch = pixels[starts[k] :]
        for i in range(size):
            to[i] += factors[k] * patch[i]
