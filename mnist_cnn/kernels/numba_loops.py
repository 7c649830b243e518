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
def input_gradient(
    grad: Array,  # (B, P·Q, O)
    places: Array,  # (B, P·Q, O)
    shape: tuple[int, int, int],  # H, W, C
    weight: Array,  # (O, K, K·C)
    x_grad: Array,  # (B, H·W·C), added to
    first: int,  # the images to do
    end: int,
) -> None:
    """Add to each patch of an image the kernels that gradients came back to, times these."""
    _, width, channels = shape
    _, kernel, size = weight.shape
    channels_given = np.empty(grad.shape[2], np.int64)
    for image in range(first, end):
        for cell in range(grad.shape[1]):
            count = 0
            for channel in range(grad.shape[2]):  # without a branch: it could not be predicted
                channels_given[count] = channel
                count += grad[image, cell, channel] != 0
            for k in range(count):
                channel = channels_given[k]
                factor = grad[image, cell, channel]
                start = _first_of_patch(places[image, cell, channel], width, kernel) * channels
                for line in range(kernel):
                    patch, kernel_line = x_grad[image, start : start + size], weight[channel, line]
                    for i in range(size):
                        patch[i] += factor * kernel_line[i]
                    start += width * channels


@compiled
def weight_gradient(
    grad: Array,  # (B, P·Q, O)
    places: Array,  # (B, P·Q, O)
    shape: tuple[int, int, int],  # H, W, C
    x: Array,  # (B, H·W·C)
    weight_grad: Array,  # (O, K, K·C), added to
    first: int,  # the output channels to do
    end: int,
) -> None:
    """Add to a kernel the patches that it was given gradients for, times these."""
    _, width, channels = shape
    _, kernel, size = weight_grad.shape
    factors = np.empty(grad.shape[1], grad.dtype)
    starts = np.empty(grad.shape[1], np.int64)
    for image in range(grad.shape[0]):
        for channel in range(first, end):
            count = 0
            for cell in range(grad.shape[1]):  # without a branch: it could not be predicted
                factor = grad[image, cell, channel]
                factors[count] = factor
                starts[count] = places[image, cell, channel]
                count += factor != 0
            for k in range(count):
                starts[k] = _first_of_patch(starts[k], width, kernel) * channels
            for line in range(kernel):
                to = weight_grad[channel, line]
                for k in range(count):
                    factor, start = factors[k], starts[k] + line * width * channels
                    patch = x[image, start : start + size]
                    for i in range(size):
                        to[i] += factor * patch[i]


@compiled
def _first_of_patch(place: int, width: int, kernel: int) -> int:
    """The pixel of the input in the first corner of the patch that a pixel of the output sees."""
    out_width = width - kernel + 1
    return place + place // out_width * (kernel - 1)
