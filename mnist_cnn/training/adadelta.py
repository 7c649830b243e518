"""Adadelta in one walk through memory, where torch's takes eleven.

Source: Zeiler, "ADADELTA: an adaptive learning rate method", arXiv 1212.5701, as in
``torch.optim.Adadelta``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from mnist_cnn.kernels.numba_cache import compiled_loops


class Adadelta(torch.optim.Adadelta):
    """``torch.optim.Adadelta``: the same arguments, state and, up to rounding, the same steps.

    The one walk is for float32 and float64 on a CPU without weight decay, and needs numba (extra
    ``fast``). Everywhere else this is what it is made from.
    """

    def __init__(self, params: ParamsT, **settings: Any) -> None:
        super().__init__(params, **settings)
        if all(map(_is_plain, self.param_groups)) and (loops := compiled_loops()):
            # A step by nothing loads the loop: here, not in the first step of an epoch.
            dtypes = {weight.dtype for group in self.param_groups for weight in group["params"]}
            for nothing in (torch.zeros(1, dtype=dtype).numpy() for dtype in dtypes):
                loops.adadelta(*[nothing] * 4, *[nothing.dtype.type(1)] * 4)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; `closure` computes loss and gradients before it."""
        loops = compiled_loops() if all(map(_is_plain, self.param_groups)) else None
        if loops is None:
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights: list[Tensor] = []
            others: tuple[list[Tensor], ...] = ([], [], [], [])
            self._init_group(group, weights, *others)
            for weight, gradient, square_avg, acc_delta, step in zip(weights, *others, strict=True):
                step += 1
                # What Keras or another layout left is put in order once.
                square_avg, acc_delta = (_laid_out_as(weight, x) for x in (square_avg, acc_delta))
                self.state[weight] |= {"square_avg": square_avg, "acc_delta": acc_delta}
                tensors = weight, _laid_out_as(weight, gradient), square_avg, acc_delta
                arrays = [_flat(tensor) for tensor in tensors]
                rho = float(group["rho"])
                settings = float(group["lr"]), rho, 1 - rho, float(group["eps"])
                loops.adadelta(*arrays, *map(arrays[0].dtype.type, settings))
        return loss


def _is_plain(group: dict[str, Any]) -> bool:
    """Whether the one walk is for a group of weights."""
    others = ("weight_decay", "maximize", "differentiable", "capturable")
    return not any(group[name] for name in others) and all(
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.float64)
        and (weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last))
        for weight in group["params"]
    )


def _laid_out_as(weight: Tensor, x: Tensor) -> Tensor:
    """`x` in the order of `weight` in memory: itself, or a copy."""
    return x if x.stride() == weight.stride() else torch.empty_like(weight).copy_(x)


def _flat(x: Tensor) -> Any:
    """The numbers of a dense tensor as they lie in memory, as an array."""
    return x.detach().as_strided((x.numel(),), (1,)).numpy()
