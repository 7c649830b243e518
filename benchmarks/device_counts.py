"""The device-count table: what 1, 2, 3 and 4 CPU processes make of one seed.

Every run is the command-line program with configs/cnn.yaml, and with configs/exact.yaml over it:
same seed, same global batch, dropout on. Three processes do not divide 128, so theirs is compared
with one process, both with 126. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import programs, records
from benchmarks.records import Record, Row

if TYPE_CHECKING:
    from torch import Tensor

#: (processes, global batch); each batch's first is the run that the others are compared with.
RUNS = ((1, 128), (2, 128), (4, 128), (1, 126), (3, 126))
STEPS_OF_WEIGHTS = 5
OPTIONS = {"steps": 20}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--configs", nargs="+", default=["cnn", "cnn+exact"], help="(%(default)s)")


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each run: the loss of each step, and how far from one process it is."""
    for configs in args.configs:
        first: dict[int, Any] = {}
        for devices, batch_size in RUNS:
            losses, weights = train(configs, devices, batch_size, args.steps)
            losses_of_one, weights_of_one = first.setdefault(batch_size, (losses, weights))
            pairs = zip(weights, weights_of_one, strict=True)
            yield {
                "peer": f"{configs}, {devices} x {batch_size // devices}",
                "losses": losses,
                "loss": [abs(a - b) for a, b in zip(losses, losses_of_one, strict=True)],
                "weights": max(float((a - b).abs().max()) for a, b in pairs),
            }


def train(
    configs: str, devices: int, batch_size: int, steps: int
) -> tuple[list[float], list[Tensor]]:
    """The loss of each of the first training steps, and the weights after some of them."""
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = ["--trainer.max_epochs=1", *programs.limits(steps, "train"), *programs.limits(1, "val")]
    flags += ["--trainer.log_every_n_steps=1", f"--data.batch_size={batch_size}"]
    with tempfile.TemporaryDirectory() as logs:
        save: Row = {"every_n_train_steps": min(STEPS_OF_WEIGHTS, steps), "save_top_k": -1}
        save |= {"dirpath": logs, "filename": "{step}", "auto_insert_metric_name": False}
        callback = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": save}
        flags.append(f"--trainer.callbacks+={json.dumps([callback])}")
        run = programs.fit(configs, *flags, devices=devices, logs=Path(logs)).folder
        events = EventAccumulator(run).Reload()
        first = min(Path(logs).glob("*.ckpt"), key=lambda path: int(path.stem))
        checkpoint = torch.load(first, weights_only=True)
    losses = [event.value for event in events.Scalars("over_images/train/loss_of_step")]
    weights = checkpoint["state_dict"].items()
    return losses, [value for name, value in weights if name.startswith("net.")]


def table(record: Record) -> str:
    """The record as a Markdown table of the greatest differences from one process."""
    runs = [row for row in record["rows"] if "losses" in row]
    steps = sorted({min(10, len(runs[0]["loss"])), len(runs[0]["loss"])})
    header = ["processes x images", *(f"loss of {n} steps" for n in steps)]
    rows = [
        [row["peer"], *(f"{max(row['loss'][:n]):.0e}" for n in steps), f"{row['weights']:.0e}"]
        for row in runs
    ]
    header += [f"weights after {STEPS_OF_WEIGHTS} steps"]
    return f"{records.markdown(header, rows)}\n\nOn {records.provenance(record)}"
