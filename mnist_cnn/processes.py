"""A function of many things, computed by a process on each core."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import parent_process
from threading import Thread
from typing import Any, TypeVar

from mnist_cnn.errors import UserError
from mnist_cnn.importing import SIGNALS

T = TypeVar("T")
R = TypeVar("R")

MOST = 61  # processes: Windows cannot wait for more
AT_ONCE = 4  # things that a process is given
AHEAD = 128  # so many times as many are computed before they are asked for: each may take megabytes


@contextmanager
def mapped(function: Callable[[T], R], things: Sequence[T]) -> Iterator[Iterator[R]]:
    """What a function makes of things, in their order; the processes start at once.

    Who asks is the main module, guarded by ``if __name__ == "__main__"``, which these import where
    Python starts them afresh.

    Args:
        function: One that `pickle` finds by its name.
        things: Where there are few, this process does.

    Raises:
        UserError: If a process was ended from outside.
    """
    workers = min(cores(), len(things) // AT_ONCE, MOST)
    try:
        pool = ProcessPoolExecutor(workers, initializer=_end_with_parent) if workers > 1 else None
    except (OSError, NotImplementedError):  # there are no semaphores here
        pool = None
    if pool is None:
        yield map(function, things)
        return
    starts = range(0, len(things), AT_ONCE)
    parts = (_submit(pool, function, things[at : at + AT_ONCE]) for at in starts)
    ahead: deque[Future[list[R]]] = deque()

    def in_order() -> Iterator[R]:
        while ahead:
            yield from ahead.popleft().result()
            ahead.extend(islice(parts, 1))

    try:
        ahead.extend(islice(parts, AHEAD))
        yield in_order()
    except BrokenProcessPool as error:
        raise UserError("a process that helps this one was ended; is memory short?") from error
    finally:
        with _signals_wait():
            pool.shutdown(cancel_futures=True)


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let signals wait while the pool starts processes or ends them.

    What their handlers raise in its midst is lost, or leaves processes that wait forever. Those
    that start within let signals wait as well, until `_end_with_parent`: these by the mask, which
    says nothing for other threads of this process.
    """
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number)) for number in SIGNALS
    }
    has_masks = hasattr(signal, "pthread_sigmask")  # Windows has not
    if has_masks:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        if has_masks:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[T], R], things: Sequence[T]
) -> Future[list[R]]:
    with _signals_wait():
        return pool.submit(_each, function, things)


def _each(function: Callable[[T], R], things: Sequence[T]) -> list[R]:
    return [function(thing) for thing in things]


def _end_with_parent() -> None:
    """End when the parent does, even if it was killed, but not before it at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the pool's, or the machine's
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    Thread(target=_end_after, args=[parent_process()], daemon=True).start()


def _end_after(process: Any) -> None:
    process.join()
    os._exit(1)
