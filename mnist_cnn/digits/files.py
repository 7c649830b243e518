"""Picture files as batches that ``predict`` takes: found, decoded and normalised in parallel."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mnist_cnn.digits.decode import PictureError, open_pictures
from mnist_cnn.digits.normalise import SIDE, normalise
from mnist_cnn.training.global_batches import Share

FILES_PER_WORKER = 64  # fewer are read before a further process has started


class Page(NamedTuple):
    """One picture of a file."""

    file: str
    page: int  # from 1
    pages: int  # of the file


class PictureBatch(NamedTuple):
    """A rank's share of a batch of files. A file with several pages has several images."""

    images: Tensor  # (B, 28, 28) uint8, ink bright on dark
    pages: list[Page]  # B
    failures: list[str]  # a line for each file or page that cannot be used


class PictureFiles(Dataset[PictureBatch]):
    """Files read when they are asked for, a share at a time."""

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, share: Share) -> PictureBatch:
        images: list[Tensor] = []
        pages: list[Page] = []
        failures: list[str] = []
        for file in (self.files[index] for index in share.indices.tolist()):
            try:
                pictures = open_pictures(Path(file))
            except PictureError as error:
                failures.append(f"{file} {error}")
                continue
            for number, picture in enumerate(pictures, start=1):
                page = Page(file, number, len(pictures))
                try:
                    images.append(normalise(picture))
                    pages.append(page)
                except PictureError as error:
                    failures.append(f"{name(page)} {error}")
        stacked = torch.stack(images) if images else torch.zeros(0, SIDE, SIDE, dtype=torch.uint8)
        return PictureBatch(stacked, pages, failures)

    @property
    def workers(self) -> int:
        """Processes that it pays to read with; 0 stands for none but this one."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        return min(cores, len(self) // FILES_PER_WORKER)


def name(page: Page) -> str:
    """What to call a page in a table."""
    return page.file if page.pages == 1 else f"{page.file}, page {page.page}"


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
    inside = (file for file in Path(folder).rglob("[!.]*") if file.is_file())
    visible = (f for f in inside if not any(p.startswith(".") for p in f.relative_to(folder).parts))
    return [str(file) for file in sorted(visible)]
