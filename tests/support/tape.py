"""A CUDA graph's stand-in on a CPU: operations recorded with their memory, and repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: What asks for a value, which a stream that is being captured cannot give.
WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal")


class Tape(TorchDispatchMode):
    """Keeps each operation with the tensors that it read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func._schema.name in WAITING:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        made = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):  # what was cast, was recorded
            for func, args, kwargs, made in self.operations:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class TapedRecording:
    """In the place of `mnist_cnn.training.recorded._Recording`."""

    def __init__(self, function: Callable[..., Tensor], arguments: Sequence[Tensor]) -> None:
        self.arguments = [argument.clone() for argument in arguments]
        self.tape = Tape()
        with self.tape:
            self.result = function(*self.arguments)

    def __call__(self, *arguments: Tensor) -> Tensor:
        for own, given in zip(self.arguments, arguments, strict=True):
            own.copy_(given)
        self.tape.replay()
        return self.result
