"""Rectifier, convolution and 2×2 max-pooling in one, whose gradient on a CPU leaves out the zeros.

Max-pooling hands a gradient to one of four pixels; the rectifier and the dropout behind it stop
most of what is left. Once the Keras net is trained, 29 of the 30 numbers that come back to its
second convolution are zero, and the stock backward pass, half of the work of a step, multiplies
with them all. Here each number that is not zero adds its multiple of the kernel to the gradient of
the input, and its multiple of the patch it saw to the gradient of the kernel: the same sums, in
another order, which does not depend on the number of threads. The rectifier's own gradient is taken
on the way, while an image is in the cache.

Letters of the shapes: B images, C channels in, O channels out, K×K the kernel, H×W the input,
P×Q the pooled output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_cnn.kernels.numba_cache import compiled_loops, loops_for

#: Pieces into which a batch is cut, whatever the number of threads, so that no sum depends on it.
PIECES = 12


def relu_conv_max_pool(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, overwrite: bool = False
) -> Tensor:
    """``max_pool2d(conv2d(relu(x), weight, bias), 2)`` and its gradient.

    The sparse backward pass is for float32 and float64 on a CPU, on up to 12 threads, and needs
    numba (extra ``fast``). Everywhere else this is what it says, as it is where a program is traced
    or compiled, within the transforms of `torch.func`, and for a second derivative.

    Args:
        x: (B, C, H, W), fastest in ``channels_last``.
        weight: (O, C, K, K).
        bias: (O,), or None.
        overwrite: Rectify `x` where it is: for what a layer gave and nothing else uses.

    Returns:
        (B, O, P, Q).
    """
    floats = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    if floats and torch.is_grad_enabled() and loops_for(x):
        return _ReLUConvMaxPool.apply(x if overwrite else x.clone(), weight, bias)
    return _plain(x, weight, bias, overwrite)


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, overwrite: bool = False) -> Tensor:
    return F.max_pool2d(F.conv2d(F.relu(x, inplace=overwrite), weight, bias), 2)


def load() -> None:
    """Load the compiled loops where there are any: a second that the first step then saves."""
    image, kernel = (torch.zeros(1, 1, size, size, requires_grad=True) for size in (4, 3))
    with torch.enable_grad():
        relu_conv_max_pool(image, kernel, None).sum().backward()


class _ReLUConvMaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x.relu_()
        pooled, places = F.max_pool2d(F.conv2d(x, weight, bias), 2, return_indices=True)
        ctx.save_for_backward(x, weight, places)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # the gradient is to be differentiated
            x, weight, _ = ctx.saved_tensors
            return _differentiable(x, weight, grad, ctx.needs_input_grad)
        loops = compiled_loops()
        assert loops is not None  # or it had not come here
        x, weight, places, grad = map(_channels_last, (*ctx.saved_tensors, grad))
        x_grad = torch.empty_like(x) if ctx.needs_input_grad[0] else None  # (B, H, W, C)
        weight_grads = weight.new_zeros(PIECES, *weight.shape)  # (PIECES, O, K, K, C)
        # Flat as far as memory is walked in one go: an image, and a line of a kernel.
        images, lines = x.flatten(1).numpy(), weight.flatten(2).numpy()
        images_grad = images[:, :0] if x_grad is None else x_grad.flatten(1).numpy()
        sums = weight_grads.flatten(3).numpy()
        back = grad.flatten(1, 2).numpy(), places.flatten(1, 2).numpy(), tuple(x.shape[1:])

        def work(piece: int, first: int, end: int) -> None:
            loops.gradients(*back, images, lines, images_grad, sums[piece], first, end)

        _in_pieces(len(x), work)
        weight_grad = weight_grads.sum(dim=0).permute(0, 3, 1, 2)
        bias_grad = grad.sum(dim=(0, 1, 2)) if ctx.needs_input_grad[2] else None
        return None if x_grad is None else x_grad.permute(0, 3, 1, 2), weight_grad, bias_grad


def _differentiable(
    x: Tensor, weight: Tensor, grad: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight and bias that are needed, by torch's own backward pass."""
    x, weight = x.view_as(x), weight.view_as(weight)  # without the hooks of the user's
    inputs = [tensor for tensor, need in zip((x, weight), needed, strict=False) if need]
    pooled = _plain(x, weight, None)
    found = iter(torch.autograd.grad(pooled, inputs, grad, create_graph=True) if inputs else ())
    x_grad, weight_grad = (next(found) if need else None for need in needed[:2])
    return x_grad, weight_grad, grad.sum(dim=(0, 2, 3)) if needed[2] else None


def _channels_last(x: Tensor) -> Tensor:  # (B, C, H, W) → (B, H, W, C), in that order in memory
    return x.permute(0, 2, 3, 1).contiguous()


def _in_pieces(size: int, work: Callable[[int, int, int], None]) -> None:
    """Call ``work(piece, first, end)`` for all pieces, on as many threads as torch takes."""
    bounds = pairwise(size * piece // PIECES for piece in range(PIECES + 1))
    pool = _pool(torch.get_num_threads())
    pieces = [pool.submit(work, piece, *ends) for piece, ends in enumerate(bounds)]
    for piece in pieces:
        piece.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sparse")
