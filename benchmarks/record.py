"""Test accuracy of configs/record.yaml over seeds, and of the ensembles of the first 2, 3, … nets.

a net        python -m mnist_cnn fit --config configs/record.yaml --seed_everything SEED
an ensemble  python -m mnist_cnn export *.ckpt --format safetensors --out ensemble.safetensors

All are measured on the 10,000 test images after the last epoch. The checkpoints stay in tb_logs.
Where the CPU has bf16, configs/bf16.yaml is laid over. Five nets take an hour and a half on two
cores without it.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.programs import BF16, ROOT, printed, run, trained
from benchmarks.records import Record, Row, has_bf16, markdown, provenance, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = ["--config", "configs/record.yaml"]
NET, ENSEMBLE = "record.yaml", "ensemble of {}"
TEST_IMAGES = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--seeds", type=int, default=5, help="number of nets: seeds 1, 2, …")
    parser.add_argument("--steps", type=int, help="shorten the epochs, and make it one")
    parser.add_argument(
        "--logs", type=Path, default=ROOT / "tb_logs", help="folder of logs and checkpoints"
    )


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each training, and for each ensemble."""
    configs = [*RECORD, *(BF16 if has_bf16() else ())]
    checkpoints: list[str] = []
    seconds = 0.0
    for seed in range(1, args.seeds + 1):
        row, checkpoint = train(configs, seed, args.logs, args.steps)
        checkpoints.append(checkpoint)
        seconds += row["train_s"]
        yield {"peer": NET, "round": seed, **row}
        if seed > 1:
            accuracy = ensemble(checkpoints, args.logs)
            name = ENSEMBLE.format(seed)
            yield {"peer": name, "round": 1, "train_s": seconds, "accuracy": accuracy}


def train(configs: list[str], seed: int, logs: Path, steps: int | None) -> tuple[Row, str]:
    """Train a net; its figures, and its checkpoint."""
    short = (f"--trainer.limit_train_batches={steps}", "--trainer.max_epochs=1") if steps else ()
    every = ("--trainer.check_val_every_n_epoch=1",) if steps else ()
    done = trained(*configs, f"--seed_everything={seed}", *short, *every, logs=logs)
    folder = re.search(r"^Logs: +(.*)$", done.out, re.MULTILINE)
    assert folder  # the summary names it wherever there is a logger
    row = {"train_s": done.train_s, "accuracy": done.accuracy}
    return row, f"{folder[1]}/checkpoints/last.ckpt"


def ensemble(checkpoints: list[str], logs: Path) -> float:
    """The test accuracy of the mean probability, as ``export`` says it."""
    out = ("--format", "safetensors", "--out", f"{logs}/ensemble.safetensors")
    done = run([sys.executable, "-m", "mnist_cnn", "export", *checkpoints, *out])
    return printed(r"test_accuracy: ([\d.]+)", done.out)


def table(record: Record) -> str:
    """The record as a Markdown table."""
    rows = [
        [
            peer,
            f"{figures['accuracy'].n}",
            figures["accuracy"].plus_minus()
            if figures["accuracy"].n > 1
            else f"{figures['accuracy'].mean:.4f}",
            f"{TEST_IMAGES * (1 - figures['accuracy'].mean):.1f}",
            f"{figures['train_s'].mean:.0f}",
        ]
        for peer, figures in summary(record["rows"]).items()
    ]
    header = ["", "n", "test accuracy", "wrong of 10,000", "training, s"]
    return f"{markdown(header, rows)}\n\nAfter the last epoch, on {provenance(record)}"


def draw(record: Record) -> Figure:
    """Wrong images over the training's minutes, a dot for each net and ensemble."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for peer in summary(record["rows"]):
        rows = [row for row in record["rows"] if row["peer"] == peer]
        wrong = [TEST_IMAGES * (1 - row["accuracy"]) for row in rows]
        axis.scatter([row["train_s"] / 60 for row in rows], wrong, label=peer)
    most = max((TEST_IMAGES * (1 - row["accuracy"]) for row in record["rows"]), default=1)
    axis.set(xlabel="minutes of training", ylabel="wrong of 10,000 test images")
    axis.set(xlim=(0, None), ylim=(0, math.ceil(1.1 * most)))
    axis.grid(alpha=0.3)
    axis.legend()
    return figure
