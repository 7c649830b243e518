"""Where `numba_loops`, which numba compiles, come from: extra ``fast``."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd import forward_ad


@cache
def compiled_loops() -> ModuleType | None:
    """The module `numba_loops`, where numba is there and works; loading it takes a second."""
    if find_spec("numba") is None:
        return None
    try:
        from mnist_cnn.kernels import numba_loops
    except (ImportError, RuntimeError) as error:  # its NumPy is another; no place for its cache
        warnings.warn(f"training will be slow, since numba does not work: {error}", stacklevel=2)
        return None
    return numba_loops


def loops_for(x: Tensor) -> ModuleType | None:
    """`compiled_loops`, where `x` is on a CPU, and what is done with it is done now.

    Where a program is traced or compiled, and within the transforms of `torch.func` or the levels
    of `torch.autograd.forward_ad`, it is not.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    # Which no public function says.
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return None if x.device.type != "cpu" or traced or transformed else compiled_loops()
