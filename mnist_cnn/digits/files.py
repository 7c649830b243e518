"""Picture files: found, decoded and searched for digits, in parallel where there are many."""

from __future__ import annotations

import glob
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from mnist_cnn.digits.decode import PictureError, open_pictures
from mnist_cnn.digits.find import Candidate, find_digits, with_images
from mnist_cnn.errors import UserError

FILES_AT_ONCE = 4  # that a process is given to read
AHEAD = 128  # so many times as many are read before they are asked for: each may take megabytes


class Page(NamedTuple):
    """One picture of a file: what in it may be digits, or why nothing may."""

    file: str
    page: int  # from 1
    pages: int  # of the file
    candidates: Sequence[Candidate] = ()
    failure: str = ""

    @property
    def name(self) -> str:
        """What to call it in a table."""
        return self.file if self.pages == 1 else f"{self.file}, page {self.page}"


def read_file(file: str) -> list[Page]:
    """All pages of a file, at least one."""
    try:
        pictures = open_pictures(Path(file))
    except PictureError as error:
        return [Page(file, 1, 1, failure=str(error))]
    pages = []
    for number, picture in enumerate(pictures, start=1):
        page = Page(file, number, len(pictures))
        try:  # with images: here several processes make them
            pages.append(page._replace(candidates=with_images(find_digits(picture))))
        except PictureError as error:
            pages.append(page._replace(failure=str(error)))
    return pages


def read_files(files: Sequence[str]) -> Iterator[Page]:
    """The pages of files in their order."""
    with reading(files) as pages:
        yield from pages


@contextmanager
def reading(files: Sequence[str]) -> Iterator[Iterator[Page]]:
    """The pages of files in their order, read by a process on each core, which start at once.

    Raises:
        UserError: If one of these was killed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(cores or 1, len(files) // FILES_AT_ONCE)
    if workers < 2:
        yield chain.from_iterable(map(read_file, files))
        return
    pool = ProcessPoolExecutor(workers, initializer=_end_with_parent)
    starts = iter(range(0, len(files), FILES_AT_ONCE))
    parts = (pool.submit(_read_each, files[at : at + FILES_AT_ONCE]) for at in starts)
    ahead = deque(islice(parts, AHEAD))

    def in_order() -> Iterator[Page]:
        while ahead:
            yield from ahead.popleft().result()
            ahead.extend(islice(parts, 1))

    try:
        yield in_order()
    except BrokenProcessPool as error:
        raise UserError("a process that reads pictures was ended; is memory short?") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _read_each(files: Sequence[str]) -> list[Page]:
    return [page for file in files for page in read_file(file)]


def _end_with_parent() -> None:
    """End when the program does, even if it was killed, but not before it at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the pool's, or the machine's
    Thread(target=_end_after, args=[parent_process()], daemon=True).start()


def _end_after(process: Any) -> None:
    process.join()
    os._exit(1)


def find_files(paths: str | Iterable[str]) -> list[str]:
    """The files that paths stand for, each once.

    Args:
        paths: Files, folders, which stand for all files in them and in their folders that are not
            hidden, and glob patterns, in which ``**`` stands for folders in folders. What is in a
            folder or matches a pattern is sorted by name.

    Returns:
        The files. A path that leads to no file stands for itself, for its reader to complain.
    """
    files: dict[str, None] = {}
    for path in [paths] if isinstance(paths, str) else paths:
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        for match in matches or [path]:
            if os.path.isdir(match):
                files.update(dict.fromkeys(_files_under(match) or [match]))
            else:
                files[match] = None
    return list(files)


def _files_under(folder: str) -> list[str]:
    inside = glob.glob(os.path.join(glob.escape(folder), "**"), recursive=True)  # nothing hidden
    return [str(file) for file in sorted(map(Path, inside)) if file.is_file()]
