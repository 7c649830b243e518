"""Paths as a user writes them."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(path: str | Path) -> str:
    """A path with ``~`` and ``$NAME`` replaced, as a shell does it.

    Shells leave them in ``--out=~/x``, in quotes, and in configurations.

    >>> user_path("data"), user_path("~") == str(Path.home())
    ('data', True)
    """
    return os.path.expanduser(os.path.expandvars(path))
