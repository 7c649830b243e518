"""Draw ``docs/benchmark-epoch.png`` and ``docs/benchmark-accuracy.png`` from the records.

python -m docs.scripts.plots
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from benchmarks import accuracy, epoch, records
from benchmarks.records import Record

DOCS = Path(__file__).parents[1]
RESULTS = DOCS.parent / "benchmarks" / "results"


def bars(record: Record) -> Figure:
    """A bar for each peer, as long as its median, with a line from its least to its most."""
    peers = epoch.fastest_first(record)
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


def dots(record: Record) -> Figure:
    """Accuracy over seconds of training, a dot for each run."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for peer, figures in records.by_peer(record["rows"]).items():
        axis.scatter(figures["train_s"], figures["val_accuracy"], alpha=0.7, label=peer)
    axis.axhline(
        accuracy.PUBLISHED, linestyle="--", color="0.4", label="published Keras run, best of 12"
    )
    axis.set(xlabel="seconds of training", ylabel="test accuracy", xlim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def draw(folder: Path = DOCS) -> None:
    """Draw both into a folder."""
    for name, plot in (("epoch", bars), ("accuracy", dots)):
        record = json.loads((RESULTS / f"{name}.json").read_text())
        plot(record).savefig(folder / f"benchmark-{name}.png", dpi=120)


if __name__ == "__main__":
    draw()
