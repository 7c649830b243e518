"""Convolution and 2×2 max-pooling in one, whose backward pass on a CPU leaves out the zeros.

Max-pooling hands a gradient to one of four pixels; the rectifier and the dropout behind it stop
most of what is left. Once the Keras net is trained, 29 of the 30 numbers that come back to its
second convolution are zero, and the stock backward pass, half of the work of a step, multiplies
with them all. Here each number that is not zero adds its multiple of the kernel to the gradient of
the input, and its multiple of the patch it saw to the gradient of the kernel: the same sums, in
another order, which does not depend on the number of threads.

Letters of the shapes: B images, C channels in, O channels out, K×K the kernel, H×W the input,
P×Q the pooled output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_cnn.kernels.numba_cache import compiled_loops

#: Pieces of each kind of work for a thread: some channels have more of it than others.
PIECES = 2


def conv_max_pool(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``max_pool2d(conv2d(x, weight, bias), 2)`` and its gradient.

    The sparse backward pass is for float32 and float64 on a CPU, and needs numba (extra ``fast``).
    Everywhere else this is what it says, as it is where a program is traced or compiled, within
    the transforms of `torch.func`, and for a second derivative.

    Args:
        x: (B, C, H, W), fastest in ``channels_last``.
        weight: (O, C, K, K).
        bias: (O,), or None.

    Returns:
        (B, O, P, Q).
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    transformed = torch._C._are_functorch_transforms_active()  # which no public function says
    if _is_for(x) and not (traced or transformed):
        return _ConvMaxPool.apply(x, weight, bias)
    return _plain(x, weight, bias)


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.max_pool2d(F.conv2d(x, weight, bias), 2)


def load() -> None:
    """Load the compiled loops where there are any: a second that the first step then saves."""
    image, kernel = (torch.zeros(1, 1, size, size, requires_grad=True) for size in (4, 3))
    with torch.enable_grad():
        conv_max_pool(image, kernel, None).sum().backward()


def _is_for(x: Tensor) -> bool:
    floats = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return (
        x.device.type == "cpu"
        and floats
        and torch.is_grad_enabled()
        and compiled_loops() is not None
    )


class _ConvMaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
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
        x_grad = torch.zeros_like(x) if ctx.needs_input_grad[0] else None  # (B, H, W, C)
        weight_grad = torch.zeros_like(weight)  # (O, K, K, C)
        bias_grad = grad.sum(dim=(0, 1, 2)) if ctx.needs_input_grad[2] else None
        # Flat as far as memory is walked in one go: an image, and a line of a kernel.
        given = grad.flatten(1, 2).numpy(), places.flatten(1, 2).numpy(), tuple(x.shape[1:])
        images, lines = x.flatten(1).numpy(), weight_grad.flatten(2).numpy()
        work = _share(len(lines), loops.weight_gradient, *given, images, lines)
        if x_grad is not None:
            images, lines = x_grad.flatten(1).numpy(), weight.flatten(2).numpy()
            work += _share(len(images), loops.input_gradient, *given, lines, images)
        for piece in work:
            piece.result()
        weight_grad = weight_grad.permute(0, 3, 1, 2)
        return None if x_grad is None else x_grad.permute(0, 3, 1, 2), weight_grad, bias_grad


def _differentiable(
    x: Tensor, weight: Tensor, grad: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight and bias that are needed, by torch's own backward pass."""
    x, weight = x.view_as(x), weight.view_as(weight)  # without the hooks of the user's
    inputs = [tensor for tensor, need in zip((x, weight), needed, strict=False) if need]
    pooled = _plain(x, weight)
    found = iter(torch.autograd.grad(pooled, inputs, grad, create_graph=True) if inputs else ())
    x_grad, weight_grad = (next(found) if need else None for need in needed[:2])
    return x_grad, weight_grad, grad.sum(dim=(0, 2, 3)) if needed[2] else None


def _channels_last(x: Tensor) -> Tensor:  # (B, C, H, W) → (B, H, W, C), in that order in memory
    return x.permute(0, 2, 3, 1).contiguous()


def _share(size: int, kernel: Callable[..., None], *args: Any) -> list[Future[None]]:
    """Start `kernel` on pieces of the range of `size`, on as many threads as torch takes."""
    threads = torch.get_num_threads()
    pieces = PIECES * threads
    bounds = (size * piece // pieces for piece in range(pieces + 1))
    return [_pool(threads).submit(kernel, *args, *piece) for piece in pairwise(bounds)]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sparse")
