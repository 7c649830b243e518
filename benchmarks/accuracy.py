"""Seconds of training to the published accuracy, beside the public record net in plain PyTorch.

Each seed trains each once, in a process of its own, and they take turns in being the first:

ours    python -m mnist_cnn fit --config configs/fast.yaml --seed_everything SEED
bf16    the same with --config configs/bf16.yaml; left out where the CPU has no such products
record  record_peer.py: the net, optimizer and schedule of the public record

All are measured on the 10,000 test images at their end. Twenty seeds take about a quarter of an
hour on two cores.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.programs import BF16, json_lines, run, trained
from benchmarks.records import (
    WITHOUT_BF16,
    Record,
    Row,
    has_bf16,
    markdown,
    provenance,
    summary,
    taking_turns,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, RECORD = "mnist_cnn, fast.yaml", "record net in plain PyTorch"
OURS_BF16 = f"{OURS}, bf16"
FAST = ("--config", "configs/fast.yaml")
CONFIGS = {OURS: FAST, OURS_BF16: (*FAST, *BF16)}
PUBLISHED = 0.9914  # best val_accuracy of the Keras run's twelve epochs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--seeds", type=int, default=20, help="runs of each, with seeds 1, 2, …")
    parser.add_argument("--steps", type=int, help="shorten the epochs")


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each training."""
    peers = [OURS, OURS_BF16, RECORD]
    if not has_bf16():
        peers.remove(OURS_BF16)
        record["notes"].append(WITHOUT_BF16)
    for seed in range(1, args.seeds + 1):
        for peer in taking_turns(peers, seed):
            row = (
                train_record(seed, args.steps)
                if peer == RECORD
                else train_ours(CONFIGS[peer], seed, args.steps)
            )
            yield {"peer": peer, "round": seed, **row}


def train_ours(configs: tuple[str, ...], seed: int, steps: int | None) -> Row:
    """The command-line program with its fast configuration."""
    limit = [f"--trainer.limit_train_batches={steps}"] if steps else []
    with tempfile.TemporaryDirectory() as logs:
        done = trained(*configs, f"--seed_everything={seed}", *limit, logs=logs)
    return {"train_s": done.train_s, "accuracy": done.accuracy, "process_s": done.process_s}


def train_record(seed: int, steps: int | None) -> Row:
    """The record net."""
    limit = [f"--steps={steps}"] if steps else []
    done = run([sys.executable, "benchmarks/record_peer.py", f"--seed={seed}", *limit])
    (row,) = json_lines(done.out)
    return {"train_s": row["train_s"], "accuracy": row["val_accuracy"], "process_s": done.s}


def table(record: Record) -> str:
    """The record as a Markdown table."""
    peers = summary(record["rows"])
    rows = []
    for peer, figures in peers.items():
        accuracy, seconds = figures["accuracy"], figures["train_s"]
        of_record = seconds.median / peers[RECORD]["train_s"].median if RECORD in peers else None
        rows.append(
            [
                peer,
                accuracy.plus_minus(),
                f"{accuracy.sd / math.sqrt(accuracy.n):.5f}",
                f"{seconds.median:.2f}",
                seconds.text(2),
                f"{of_record:.2f}" if of_record else "–",
                f"{figures['process_s'].median:.1f}",
            ]
        )
    header = ["", "test accuracy: mean ± deviation", "standard error", "training, s: median"]
    header += ["range", "of the record net's", "whole program, s"]
    seeds = max(figures["accuracy"].n for figures in peers.values())
    published = f"The published run's best is {PUBLISHED}."
    return f"{markdown(header, rows)}\n\n{published} {seeds} seed(s) on {provenance(record)}"


def draw(record: Record) -> Figure:
    """Accuracy over seconds, a dot for each training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    colours = {OURS: "tab:orange", OURS_BF16: "tab:red", RECORD: "tab:blue"}
    for peer, colour in colours.items():
        rows = [row for row in record["rows"] if row["peer"] == peer]
        seconds, accuracies = ([row[name] for row in rows] for name in ("train_s", "accuracy"))
        if rows:
            axis.scatter(seconds, accuracies, color=colour, alpha=0.7, label=peer)
    axis.axhline(PUBLISHED, linestyle="--", color="0.4", label="published Keras run, best of 12")
    axis.set(xlabel="seconds of training", ylabel="test accuracy", xlim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()
    return figure
