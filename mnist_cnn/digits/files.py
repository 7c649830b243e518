"""Picture files: found, decoded and searched for digits, in parallel where there are many."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from torch.utils.data import DataLoader, Dataset

from mnist_cnn.digits.decode import PictureError, open_pictures
from mnist_cnn.digits.find import Candidate, find_digits, with_images

FILES_PER_WORKER = 64  # fewer are read before a further process has started
FILES_AT_ONCE = 16  # that a process hands over; it reads as many again while these are used


class Page(NamedTuple):
    """One picture of a file: what in it may be digits, or why nothing may."""

    file: str
    page: int  # from 1
    pages: int  # of the file
    # Of NumPy, not of torch: each tensor that comes from another process keeps a file open, and a
    # process may have 1,024.
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


def read_each(files: Sequence[str]) -> list[Page]:
    """All pages of some files."""
    return [page for file in files for page in read_file(file)]


def read_files(files: list[str]) -> Iterator[Page]:
    """The pages of files in their order, read by as many processes as it pays to start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    workers = min(cores, len(files) // FILES_PER_WORKER)
    # A list of names does for a data set: the processes that collate its batches read the files.
    names = cast("Dataset[str]", files)
    for pages in DataLoader(names, FILES_AT_ONCE, num_workers=workers, collate_fn=read_each):
        yield from pages


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
