"""Where `numba_loops`, which numba compiles, come from: extra ``fast``."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType


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
