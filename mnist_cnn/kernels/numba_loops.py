"""Loops that numba compiles; on first use, for about ten seconds.

Letters of the shapes as in `conv_max_pool`. `places` are max-pooling's: pixels of the convolution's
output, counted line by line. A patch is K lines of K·C numbers that lie in one piece.
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
    places: Array,  # (B, P·Q, O)
    shape: tuple[int, int, int],  # H, W, C
    x: Array,  # (B, H·W·C)
    weight: Array,  # (O, K, K·C)
    x_grad: Array,  # (B, H·W·C), written; (B, 0) if it is not wanted
    weight_grad: Array,  # (O, K, K·C), added to
    first: int,  # the images to do
    end: int,
) -> None:
    """Go back from the pooled output to the kernels, and to the input before its rectifier.

    All that an image needs stays in the cache meanwhile.
    """
    _, width, channels = shape
    filters, kernel, size = weight.shape
    cells = grad.shape[1]
    out_width = width - kernel + 1
    nonzero = np.empty(filters, np.int64)
    counts = np.empty(filters, np.int64)  # of each filter: how many, factors and starts of patches
    factors = np.empty((filters, cells), grad.dtype)
    starts = np.empty((filters, cells), np.int64)
    for image in range(first, end):
        pixels, pixels_grad = x[image], x_grad[image]
        pixels_grad[:] = 0
        counts[:] = 0
        for cell in range(cells):
            count = 0
            for channel in range(filters):  # without a branch: it could not be predicted
                nonzero[count] = channel
                count += grad[image, cell, channel] != 0
            for channel in nonzero[:count]:
                factor, place = grad[image, cell, channel], places[image, cell, channel]
                start = (place + place // out_width * (kernel - 1)) * channels
                factors[channel, counts[channel]] = factor
                starts[channel, counts[channel]] = start
                counts[channel] += 1
                for line in range(kernel):
                    to = pixels_grad[start : start + size]
                    for i in range(len(to)):
                        to[i] += factor * weight[channel, line, i]
                    start += width * channels
        for channel in range(filters):
            for line in range(kernel):
                _add_patches(
                    weight_grad[channel, line],
                    pixels[line * width * channels :],
                    factors[channel, : counts[channel]],
                    starts[channel],
                )
        for i in range(len(pixels_grad)):  # a NaN lets the gradient through, as in torch
            pixels_grad[i] = 0 if pixels[i] <= 0 else pixels_grad[i]


@compiled
def _add_patches(to: Array, pixels: Array, factors: Array, starts: Array) -> None:
    """Add lines of patches, times their factors: four at a time, which stores fewer sums."""
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
