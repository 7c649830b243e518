"""How many digits a checkpoint reads in pictures that are not MNIST's.

The pictures are made, not found: strokes of two hands, drawn or photographed, by
tests/support/scenes.py. Everything follows from the seed. Takes about seven minutes on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks import records
from benchmarks.records import Record, Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--checkpoint", type=Path, help="the model that is included by default")
    parser.add_argument("--count", type=int, default=200, help="pictures a row (%(default)s)")
    parser.add_argument("--mnist", type=int, default=10_000, help="of MNIST's (%(default)s)")


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each kind of picture."""
    import torch

    from mnist_cnn.checkpoints.classifier import load_classifier
    from mnist_cnn.checkpoints.files import BUNDLED
    from mnist_cnn.data import MNISTDataModule
    from mnist_cnn.use.reading import Reader
    from tests.support import scenes

    reader = Reader(load_classifier(args.checkpoint or BUNDLED)[0])
    data = MNISTDataModule()
    data.prepare_data()
    data.setup()
    images, labels = data.test_set.images[: args.mnist], data.test_set.labels[: args.mnist]
    with torch.inference_mode():
        answers = torch.cat([reader.classify(b).argmax(dim=1) for b in images.split(500)])
    right = float((answers == labels).float().mean())
    yield {"peer": f"MNIST's {args.mnist:,} test images themselves", "right": right}
    right = scenes.share_right(scenes.enlarged(data, args.mnist), reader)
    yield {"peer": "the same inverted, enlarged 7 times, off centre on white", "right": right}
    for row in (*scenes.ROWS, *scenes.NUMBERS):
        yield {"peer": row, "right": scenes.share_right(scenes.pictures(row, args.count), reader)}


def table(record: Record) -> str:
    """The record as a Markdown table."""
    columns = {"right": records.cell("right", lambda shares: f"{shares[0]:.1%}")}
    pictures = records.table("pictures", records.by_peer(record["rows"]), columns)
    return f"{pictures}\n\nOn {records.provenance(record)}"
