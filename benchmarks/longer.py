"""What longer training of record.yaml buys: accuracy on held-out training images, and minutes.

Each number of epochs is a run with a schedule of its own, on 50,000 images; the other 10,000 are
looked at after the last epoch. Half an hour in bf16 on two cores with AMX, hours without.

    python -m benchmarks longer --seeds 1
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator
from statistics import mean

from benchmarks import records, trainings
from benchmarks.records import Record, Row

IMAGES, HELD_OUT, BATCH_SIZE = 60_000, 10_000, 128
EPOCHS = (5, 15, 30, 60)
RECORDS_OWN = 15  # epochs of record.yaml
PLAIN_END = 0.2  # of the epochs: the images stay as they are


def flags(epochs: int, held_out: int) -> str:
    """Of ``fit``, to train record.yaml for so many epochs.

    >>> flags(60, 0).split()[-1]
    '--model.augment_epochs=48'
    """
    steps = epochs * math.ceil((IMAGES - held_out) / BATCH_SIZE)
    return " ".join(
        [
            f"--data.val_size={held_out}",
            f"--trainer.max_epochs={epochs}",
            f"--trainer.check_val_every_n_epoch={epochs}",
            f"--best_checkpoint.every_n_epochs={epochs}",
            f"--model.lr_scheduler.init_args.total_steps={steps}",
            f"--model.augment_epochs={epochs - round(PLAIN_END * epochs)}",
        ]
    )


NET = "record+bf16" if records.has_bf16("amx") else "record"
OPTIONS = trainings.options([f"{NET} {flags(epochs, HELD_OUT)}" for epochs in EPOCHS], seeds=1)
del OPTIONS["epochs"]  # each peer has its own


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each training."""
    args.epochs = None
    return trainings.measure(args, record)


def table(record: Record) -> str:
    """The record as a Markdown table."""
    found = records.by_peer(record["rows"])
    runs = {(_epochs(peer), peer.partition(" --")[0]): of for peer, of in found.items()}
    columns = {
        "n": records.cell("val_accuracy", lambda a: f"{len(a)}"),
        "accuracy": records.cell("val_accuracy", records.mean_sd),
        "wrong of 10,000": records.cell("val_accuracy", lambda a: f"{10_000 * (1 - mean(a)):.0f}"),
        "training, minutes": records.cell("train_s", lambda s: f"{mean(s) / 60:.1f}"),
    }
    named = {f"{name}, {epochs} epochs": of for (epochs, name), of in sorted(runs.items())}
    return f"{records.table('', named, columns)}\n\nOn {records.provenance(record)}"


def _epochs(peer: str) -> int:
    found = re.search(r"--trainer.max_epochs=(\d+)", peer)
    return int(found[1]) if found else RECORDS_OWN
