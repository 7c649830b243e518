"""``python -m mnist_cnn predict digit.png photos/``: the digits in pictures."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
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
from mnist_cnn.digits.files import Page, find_files, read_files
from mnist_cnn.errors import OptionParser, UserError, warn
from mnist_cnn.file_system.paths import user_path
from mnist_cnn.nets import MAX_SHIFTS
from mnist_cnn.use.former_predict import PICTURES, names_pictures, todays
from mnist_cnn.use.reading import Reader, Reading
from mnist_cnn.use.tables import check_place, write_table

SHOWN = 50  # rows of the table in the terminal
BATCH = 250  # pictures that are computed at once
#: Exit status if some pictures could not be used, and others could.
SOME_FAILED = 3
#: How the options of Lightning's ``predict`` begin, which takes no pictures.
LIGHTNINGS = ("-c", "--config", "--print_config", "--trainer", "--data", "--model", "--pred")


def takes(arguments: Sequence[str]) -> bool:
    """Whether these arguments of ``predict`` are about pictures, or ask for help with that.

    Without pictures, Lightning's own ``predict`` takes MNIST's test images.
    """
    if any(argument.startswith(LIGHTNINGS) for argument in arguments):
        # Those that begin with a picture are a mistake.
        return not arguments[0].startswith("-") or names_pictures(arguments)
    given = _parser(pictures="*").parse_known_args(arguments)[0]
    return bool(given.pictures or given.out or given.accelerator) or given.test_shifts is not None


def main(arguments: Sequence[str]) -> None:
    """The command ``predict`` with pictures.

    Raises:
        UserError: If no picture can be used, or an option.
    """
    if arguments[0].startswith("-") and (now := todays(arguments)):
        warn(f"{PICTURES} is the former form of: mnist-cnn predict {shlex.join(now)}")
        arguments = now
    parser = _parser()
    # Options may stand between pictures; that way of parsing loses what follows a `--`.
    parse = parser.parse_args if "--" in arguments else parser.parse_intermixed_args
    given = parse(arguments)
    if given.out is not None:
        check_place("--out", given.out)
    model = load_net(newest(given.ckpt_path))
    names = class_words(model.facts["dataset"])
    reader = Reader(model, is_mnist=not names, test_shifts=given.test_shifts)
    reader.to(device(given.accelerator or "auto"))
    pages: list[Page] = []
    failed: list[Page] = []
    readings: list[Reading] = []
    files = find_files(given.pictures)
    for batch in _batches(_shown(read_files(files), len(files))):
        failed += [page for page in batch if not page.candidates]
        usable = [page for page in batch if page.candidates]
        if usable:
            readings += reader.read([page.candidates for page in usable])
        pages += [page._replace(candidates=()) for page in usable]  # of thousands, gigabytes
    for page in failed:
        print(f"error: {page.name} {page.failure}", file=sys.stderr)
    if not pages:
        raise UserError(f"none of {len(failed)} pictures can be used")
    print(*_table(pages, readings, names), sep="\n")
    if given.out is not None:
        keys = [{"file": page.file, "page": page.page} for page in pages]
        probabilities = torch.tensor([reading.main.probabilities for reading in readings])
        more = [] if names else [_more(reading) for reading in readings]
        write_table(Path(given.out), keys, probabilities, names, more)
        print(f"{len(pages)} predictions: {given.out}")
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


def _parser(pictures: str = "+") -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="mnist-cnn predict",
        description="Read the digits in pictures: PNG, JPEG, WebP, TIFF, BMP or GIF, drawn or "
        "photographed, any size, dark on light or light on dark.",
        epilog="Without PICTURES: MNIST's test images, with the options of `mnist-cnn test`. Exit "
        "status: 2 if no picture could be used, 3 if some could not.",
    )
    add = parser.add_argument
    add(
        "pictures",
        type=user_path,
        nargs=pictures,
        metavar="PICTURES",
        help="files, folders or glob patterns",
    )
    add(
        "--ckpt_path",
        type=user_path,
        default=str(BUNDLED),
        help="the model; last or best: the newest run's in tb_logs (default: the included one)",
    )
    add(
        "--out",
        type=user_path,
        metavar="FILE",
        help="where to write the table as well: .csv or .json",
    )
    add(
        "--test_shifts",
        type=int,
        choices=range(MAX_SHIFTS + 1),
        metavar="PIXELS",
        help="of a digit that is less sure than 0.99, average the answers to it and to the same "
        "moved by so many pixels in four directions (default: as the model says)",
    )
    add(
        "--accelerator",
        choices=("auto", "cpu", "gpu", "cuda", "mps"),
        help="where to compute (default: auto, on a GPU if there is one)",
    )
    return parser


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
