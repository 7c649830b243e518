"""Test accuracy and seconds of an epoch in bf16, beside float32: configs/cnn.yaml over seeds.

float32  python -m mnist_cnn fit --config configs/cnn.yaml --seed_everything SEED
bf16     the same with --config configs/bf16.yaml

They take turns, and are measured on the 10,000 test images after the last epoch. Five seeds of
twelve epochs take half an hour on two cores with bf16.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.epoch import OURS
from benchmarks.programs import trained
from benchmarks.records import Record, Row, has_bf16, markdown, provenance, summary, taking_turns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLOW = "This CPU has no instructions for bf16: the seconds are those of imitating them."
PEERS = {"float32": OURS["ours"], "bf16": OURS["bf16"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--seeds", type=int, default=5, help="runs of each, with seeds 1, 2, …")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, help="shorten the epochs")


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each training."""
    if not has_bf16():
        record["notes"].append(SLOW)
    limit = [f"--trainer.limit_train_batches={args.steps}"] if args.steps else []
    for seed in range(1, args.seeds + 1):
        for peer in taking_turns(list(PEERS), seed):
            flags = (f"--seed_everything={seed}", f"--trainer.max_epochs={args.epochs}", *limit)
            with tempfile.TemporaryDirectory() as logs:
                done = trained(*PEERS[peer], *flags, logs=logs)
            row = {"epoch_s": done.train_s / args.epochs, "accuracy": done.accuracy}
            yield {"peer": peer, "round": seed, **row}


def table(record: Record) -> str:
    """The record as a Markdown table, and Welch's t-test of the accuracies."""
    from scipy.stats import ttest_ind

    peers = summary(record["rows"])
    rows = [
        [
            peer,
            figures["accuracy"].plus_minus(),
            f"{figures['epoch_s'].median:.1f}",
            figures["epoch_s"].text(1),
        ]
        for peer, figures in peers.items()
    ]
    lines = [markdown(["", "test accuracy", "training, s an epoch: median", "range"], rows), ""]
    values = [[r["accuracy"] for r in record["rows"] if r["peer"] == peer] for peer in PEERS]
    if min(map(len, values)) > 1:
        p = ttest_ind(*values, equal_var=False).pvalue
        lines.append(f"Welch's t-test of a difference in accuracy: p = {p:.2f}.")
    settings = record["settings"]
    runs = f"{settings['seeds']} seed(s) of {settings['epochs']} epoch(s)"
    return "\n".join([*lines, f"{runs} on {provenance(record)}"])


def draw(record: Record) -> Figure:
    """Bars of the seconds."""
    from benchmarks.plots import bars

    peers = summary(record["rows"])
    seconds = {peer: figures["epoch_s"] for peer, figures in peers.items()}
    return bars(seconds, "seconds of a training epoch", 1)
