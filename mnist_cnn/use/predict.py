"""``python -m mnist_cnn predict digit.png photos/``: the digits in pictures.

Imports no torch: that takes as long as reading hundreds of pictures, which is done meanwhile.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from mnist_cnn.digits.files import find_files, reading
from mnist_cnn.errors import OptionParser, warn
from mnist_cnn.file_system.paths import user_path
from mnist_cnn.importing import importing
from mnist_cnn.use.former_predict import PICTURES, names_pictures, todays
from mnist_cnn.use.tables import check_place

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
    files = find_files(given.pictures)
    with reading(files) as pages:
        with importing():
            from mnist_cnn.use.answers import answer
        answer(pages, len(files), given)


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
