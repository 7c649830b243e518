"""Picture files: found, decoded and searched for digits, in parallel where there are many."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from mnist_cnn.digits.decode import PictureError, open_pictures
from mnist_cnn.digits.find import Candidate, find_digits, with_images
from mnist_cnn.processes import mapped


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
    """The pages of files in their order, read by this process; see `reading`."""
    return chain.from_iterable(map(read_file, files))


@contextmanager
def reading(files: Sequence[str]) -> Iterator[Iterator[Page]]:
    """The pages of files in their order, which a process on each core begins to read at once."""
    with mapped(read_file, files) as found:
        yield chain.from_iterable(found)


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
