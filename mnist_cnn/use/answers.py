"""What pictures show, by a model: printed as a table, and written to a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from mnist_cnn.checkpoints.files import BUNDLED
from mnist_cnn.checkpoints.run_folder import newest
from mnist_cnn.checkpoints.trained import load_net
from mnist_cnn.data_sets import class_words
from mnist_cnn.digits.files import Page
from mnist_cnn.errors import UserError
from mnist_cnn.nets import MAX_SHIFTS
from mnist_cnn.use.reading import Reader, Reading
from mnist_cnn.use.tables import write_table

SHOWN = 50  # rows of the table in the terminal
BATCH = 128  # pictures that are computed at once
#: Exit status if some pictures could not be used, and others could.
SOME_FAILED = 3


def answer(pages: Iterator[Page], files: int, given: argparse.Namespace) -> None:
    """Compute, print and write.

    Args:
        pages: Of the pictures.
        files: How many these come from.
        given: The options of the command line.

    Raises:
        UserError: If no picture can be used, or an option.
    """
    if given.test_shifts is not None and not 0 <= given.test_shifts <= MAX_SHIFTS:
        raise UserError(f"--test_shifts {given.test_shifts}: must be from 0 to {MAX_SHIFTS}")
    model = load_net(newest(str(BUNDLED) if given.ckpt_path is None else given.ckpt_path))
    names = class_words(model.facts["dataset"])
    reader = Reader(model, is_mnist=not names, test_shifts=given.test_shifts)
    reader.to(device(given.accelerator or "auto"))
    read: list[Page] = []
    failed: list[Page] = []
    readings: list[Reading] = []
    for batch in _batches(_shown(pages, files)):
        failed += [page for page in batch if not page.candidates]
        usable = [page for page in batch if page.candidates]
        if usable:
            readings += reader.read([page.candidates for page in usable])
        read += [page._replace(candidates=()) for page in usable]  # of thousands, gigabytes
    for page in failed:
        print(f"error: {page.name} {page.failure}", file=sys.stderr)
    if not read:
        raise UserError(f"none of {len(failed)} pictures can be used")
    print(*_table(read, readings, names), sep="\n")
    if given.out is not None:
        keys = [{"file": page.file, "page": page.page} for page in read]
        probabilities = torch.tensor([reading.main.probabilities for reading in readings])
        more = [] if names else [_more(reading) for reading in readings]
        write_table(Path(given.out), keys, probabilities, names, more)
        print(f"{len(read)} predictions: {given.out}")
    if failed:
        sys.exit(SOME_FAILED)


def device(accelerator: str) -> torch.device:
    """Where to compute: ``cpu``, ``cuda``, ``mps``, ``gpu``: either, or by ``auto`` the best.

    Raises:
        UserError: If there is no GPU of that kind and one is asked for.
    """
    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there = [kind for kind, is_there in gpus.items() if is_there]
    if accelerator == "cpu" or (accelerator == "auto" and not there):
        return torch.device("cpu")
    wanted = [kind for kind in there if accelerator in ("auto", "gpu", kind)]
    if not wanted:
        raise UserError(f"--accelerator {accelerator}: there is none on this machine")
    return torch.device(wanted[0])


def _shown(pages: Iterator[Page], files: int) -> Iterable[Page]:
    """The pages, with a progress bar on a terminal while they are read."""
    terminal = Console(stderr=True)
    hidden = not terminal.is_terminal
    return track(pages, "Reading", files, console=terminal, transient=True, disable=hidden)


def _batches(pages: Iterable[Page]) -> Iterator[list[Page]]:
    left = iter(pages)
    while batch := list(islice(left, BATCH)):
        yield batch


def _more(reading: Reading) -> dict[str, Any]:
    """What a row of the table says beside the digit that is most like ink."""
    digits = [
        {"digit": digit.digit, "confidence": round(digit.confidence, 6), "box": digit.box}
        for digit in reading.digits
    ]
    return {"number": reading.number, "doubt": reading.doubt, "digits": digits}


def _table(pages: list[Page], readings: list[Reading], class_names: list[str]) -> list[str]:
    """Lines for the terminal; without names of the classes where they are the digits."""
    names = [page.name for page in pages[:SHOWN]]
    width = max(len(name) for name in names)
    wide = max(len("number"), *(len(reading.number) for reading in readings[:SHOWN]))
    classes = "".join(f"{digit:7}" for digit in range(len(readings[0].main.probabilities)))
    more = "  class" if class_names else f"  {'number':>{wide}}  doubt"
    lines = [f"{'file':{width}}  digit  confidence{classes}{more}"]
    for name, reading in zip(names, readings, strict=False):
        main = reading.main
        figures = "".join(f"{p:7.3f}" for p in main.probabilities)
        more = f"{reading.number:>{wide}}  {reading.doubt}"
        named = class_names[main.digit] if class_names else more
        line = f"{name:{width}}  {main.digit:5}  {main.confidence:10.4f}{figures}  {named}"
        lines.append(line.rstrip())
    if len(pages) > SHOWN:
        lines.append(f"... and {len(pages) - SHOWN} more: --out FILE has them all")
    return lines
