"""Importing torch and Lightning, which takes seconds."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

#: What asks a program to end: a scheduler or `kill`, Ctrl-C, and SLURM before its time limit.
SIGNALS = (signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))


@contextmanager
def importing() -> Iterator[None]:
    """Import modules within: a signal ends the program, and Python looks for no garbage.

    Looking for it takes two fifths of the time that Lightning takes: modules make a million
    objects, which stay. Nor is it looked for among them later, in the end least of all.
    """
    leave_on_signals(os._exit)  # an exception while torch is imported makes it abort
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        leave_on_signals(sys.exit)


def leave_on_signals(leave_with: Callable[[int], NoReturn]) -> None:
    """Leave on SIGTERM, Ctrl-C and SIGUSR1 with status 128 + number, and no traceback.

    A training changes that to finishing its step and saving it first: see `resume`. Until then
    Ctrl-C, which reaches all processes of a run, is a matter of the one that started the others:
    it would wait for them in vain otherwise, and they end with it (see `end_with_launcher`).

    Args:
        leave_with: ``sys.exit``, which lets what is under way clean up, or ``os._exit``.
    """

    def leave(number: int, frame: Any) -> None:
        leave_with(128 + number)

    for number in SIGNALS:
        signal.signal(number, leave)
    if sys.platform == "linux" and "LOCAL_RANK" in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
