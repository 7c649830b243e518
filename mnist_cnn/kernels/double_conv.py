"""Two convolutions with rectifiers and a 2×2 max-pooling, whose gradient leaves out the zeros.

Max-pooling hands a gradient to one of four pixels; the rectifier and the dropout behind it stop
most of what is left. Once the Keras net is trained, 29 of the 30 numbers that come back to its
second convolution are zero, and the stock backward pass, half of the work of a step, multiplies
with them all. Here each number that is not zero adds its multiple of the kernel to the gradient of
the hidden image, and its multiple of the patch it saw to the gradient of the kernel: the same sums,
in another order, which does not depend on the number of threads. While that gradient is in the
cache it goes on to the first convolution, whose sums leave out the pixels that are 0.

Letters of the shapes: B images, D channels of R×S pixels; C hidden channels of H×W pixels, which
kernels of J×I make; O channels of P×Q pixels out, whose kernels are K×L.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor

from mnist_cnn.kernels.numba_cache import compiled_loops, loops_for

#: Pieces into which a batch is cut, whatever the number of threads, so that no sum depends on it.
PIECES = 12
#: Pixels that a kernel of the first convolution sees, up to which its gradient is summed here.
#: torch's pass, whose time does not depend on them, is faster for more.
FEW = 9


def double_conv(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    *,
    stride: tuple[int, ...] = (1, 1),
) -> Tensor:
    """``relu(max_pool2d(conv2d(relu(conv2d(x, weight1, bias1, stride)), weight2, bias2), 2))``.

    The sparse backward pass is for float32 and float64 on a CPU, on up to 12 threads, and needs
    numba (extra ``fast``). Everywhere else this is what it says, as it is where the gradient of
    the images is wanted, a program is traced or compiled, within the transforms of `torch.func`,
    for derivatives forwards, for second ones, and for many at once.

    Args:
        x: (B, D, R, S).
        weight1: (C, D, J, I), fastest in ``channels_last``, as is `weight2`.
        bias1: (C,), or None.
        weight2: (O, C, K, L).
        bias2: (O,), or None.
        stride: Of the first convolution.

    Returns:
        (B, O, P, Q).
    """
    floats = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    sparse = floats and torch.is_grad_enabled() and not x.requires_grad and loops_for(x)
    function = _DoubleConv.apply if sparse else _plain
    return function(x, weight1, bias1, weight2, bias2, stride)


def load() -> None:
    """Load the compiled loops where there are any: a second that the first step then saves."""
    kernel = torch.zeros(1, 1, 3, 3, requires_grad=True)
    with torch.enable_grad():
        double_conv(torch.zeros(1, 1, 6, 6), kernel, None, kernel, None).sum().backward()


def _plain(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    stride: tuple[int, ...],
) -> Tensor:
    hidden = F.relu(F.conv2d(x, weight1, bias1, stride), inplace=True)
    return F.relu(F.max_pool2d(F.conv2d(hidden, weight2, bias2), 2), inplace=True)


class _DoubleConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:  # as `_plain` has them
        x, weight1, bias1, weight2, bias2, stride = arguments
        hidden = F.conv2d(x, weight1, bias1, stride).relu_()
        pooled, places = F.max_pool2d(F.conv2d(hidden, weight2, bias2), 2, return_indices=True)
        output = pooled.relu_()
        ctx.save_for_backward(*arguments[:-1], hidden, places, output)
        ctx.stride = stride
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight1, bias1, weight2, bias2, hidden, places, output = ctx.saved_tensors
        needed = ctx.needs_input_grad
        # The gradient is to be differentiated, or it is many at once.
        if torch.is_grad_enabled() or is_legacy_batchedtensor(grad):
            return _by_torch((x, weight1, bias1, weight2, bias2, ctx.stride), grad, needed)
        loops = compiled_loops()
        assert loops is not None  # or it had not come here
        images, hidden, kernels = map(_channels_last, (x, hidden, weight2))
        back = [_channels_last(tensor).flatten(1, 2) for tensor in (grad, output, places)]
        # Flat as far as memory is walked in one go: an image, and a line of a kernel.
        arrays = [
            tensor.numpy() for tensor in (*back, images, hidden.flatten(1), kernels.flatten(2))
        ]
        first = any(needed[1:3])
        few = weight1[0].numel() <= FEW
        hidden_grad = x.new_empty(len(x) if first and not few else 0, hidden.shape[1:].numel())
        pieces = PIECES if first and few else 0
        sums = [
            x.new_zeros(pieces, *weight1.shape[2:], *weight1.shape[1::-1]),  # J, I, D, C
            x.new_zeros(PIECES, len(weight1)),
            x.new_zeros(PIECES, *kernels.shape[:2], kernels[0, 0].numel()),  # O, K, L·C
            x.new_zeros(PIECES, len(weight2)),
        ]
        arrays += [tensor.numpy() for tensor in (hidden_grad, *sums)]
        _in_pieces(len(x), partial(loops.gradients, *arrays, hidden.shape[2], ctx.stride))
        weight1_grad, bias1_grad, weight2_grad, bias2_grad = (tensor.sum(dim=0) for tensor in sums)
        weight1_grad = weight1_grad.permute(3, 2, 0, 1)
        weight2_grad = weight2_grad.view(kernels.shape).permute(0, 3, 1, 2)
        if len(hidden_grad):
            grad = hidden_grad.view(hidden.shape).permute(0, 3, 1, 2)
            settings = [len(weight1)], ctx.stride, (0, 0), (1, 1), False, (0, 0), 1
            _, weight1_grad, bias1_grad = torch.ops.aten.convolution_backward(
                grad, x, weight1, *settings, (False, True, True)
            )
        found = None, weight1_grad, bias1_grad, weight2_grad, bias2_grad, None
        return tuple(tensor if need else None for tensor, need in zip(found, needed, strict=True))


def _by_torch(
    arguments: tuple[Any, ...], grad: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """The gradients of those arguments that need one, by torch's own backward pass."""
    differentiable = torch.is_grad_enabled()
    pairs = list(zip(arguments, needed, strict=True))
    with torch.enable_grad():
        # Without the hooks of the user's.
        arguments = tuple(given.view_as(given) if need else given for given, need in pairs)
        output = _plain(*arguments)
    inputs = [given for given, need in zip(arguments, needed, strict=True) if need]
    found = iter(torch.autograd.grad(output, inputs, grad, create_graph=differentiable))
    return tuple(next(found) if need else None for need in needed)


def _channels_last(x: Tensor) -> Tensor:  # (B, C, H, W) → (B, H, W, C), in that order in memory
    return x.permute(0, 2, 3, 1).contiguous()


def _in_pieces(size: int, work: Callable[[int, int, int], None]) -> None:
    """Call ``work(piece, first, end)`` for all pieces, on as many threads as torch takes."""
    bounds = pairwise(size * piece // PIECES for piece in range(PIECES + 1))
    pool = _pool(torch.get_num_threads(), os.getpid())
    pieces = [pool.submit(work, piece, *ends) for piece, ends in enumerate(bounds)]
    for piece in pieces:
        piece.result()


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:  # one that forks has no threads
    return ThreadPoolExecutor(threads, thread_name_prefix="sparse")
