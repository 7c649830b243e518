"""Plots of the records that say more as a picture."""

from __future__ import annotations

from statistics import median

from matplotlib.figure import Figure

from benchmarks.accuracy import PUBLISHED
from benchmarks.epoch import fastest_first
from benchmarks.records import Record


def epoch(record: Record) -> Figure:
    """A bar for each peer, as long as its median, with a line from its least to its most."""
    peers = fastest_first(record)
    figure = Figure(figsize=(8, 0.8 + 0.45 * len(peers)), layout="constrained")
    axis = figure.subplots()
    for peer, figures in peers.items():
        s = figures["train_s"]
        colour = "tab:orange" if "cnn.yaml" in peer else "tab:blue"
        reach = [[median(s) - min(s)], [max(s) - median(s)]]
        bar = axis.barh(peer, median(s), color=colour, xerr=reach, ecolor="0.3", capsize=3)
        axis.bar_label(bar, fmt="%.1f", label_type="center", color="white")
    axis.invert_yaxis()
    axis.set(xlabel="seconds of a training epoch")
    return figure


def accuracy(record: Record) -> Figure:
    """Accuracy over seconds of training, a dot for each run."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for peer in dict.fromkeys(row["peer"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["peer"] == peer]
        seconds, accuracies = ([row[name] for row in rows] for name in ("train_s", "val_accuracy"))
        axis.scatter(seconds, accuracies, alpha=0.7, label=peer)
    axis.axhline(PUBLISHED, linestyle="--", color="0.4", label="published Keras run, best of 12")
    axis.set(xlabel="seconds of training", ylabel="test accuracy", xlim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


PLOTS = {"epoch": epoch, "accuracy": accuracy}
