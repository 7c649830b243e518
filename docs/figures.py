"""Redraw ``docs/curves.png`` and print the README's table, from the event files of runs.

    python docs/figures.py tb_logs/cnn/version_0 tb_logs/cnn/version_1 tb_logs/cnn/version_2

The runs are the same configuration with different seeds.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_cnn.reports.curves import CURVES

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "tb_logs" / "published-keras"
Curves = dict[str, list[float]]  # a value an epoch


def read_curves(folder: Path) -> Curves:
    """The curves over epochs of the run whose event files lie in `folder`."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [e.value for e in events.Scalars(f"over_epochs/{tag}")] for tag in CURVES}


def draw(published: Curves, ours: list[Curves], path: Path) -> None:
    """Plot loss and accuracy over epochs, one thin line a run."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
        for part, colour in (("train", "tab:blue"), ("val", "tab:orange")):
            tag = f"{part}/{what}"
            epochs = range(1, len(published[tag]) + 1)
            axis.plot(epochs, published[tag], "--", color=colour, label=f"{part}, published Keras")
            for i, run in enumerate(ours):
                label = f"{part}, this project ({len(ours)} seeds)" if i == 0 else None
                epochs = range(1, len(run[tag]) + 1)
                axis.plot(epochs, run[tag], color=colour, alpha=0.6, linewidth=1, label=label)
        axis.set(xlabel="epoch", title=what)
        axis.grid(alpha=0.3)
    axes[0].set(yscale="log")
    axes[1].set(ylim=(0.97, 0.995))
    axes[0].legend()
    figure.savefig(path, dpi=120)


def table(published: Curves, ours: list[Curves]) -> str:
    """A Markdown table: the published figures, and the mean ± standard deviation of the runs."""

    def spread(values: list[float]) -> str:
        return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"

    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    lines = [
        "| epoch | " + " | ".join(f"{n}, published | {n}, ours" for n in names) + " |",
        "|---" * 9 + "|",
    ]
    for epoch in range(len(published[CURVES[0]])):
        cells = [
            f"{published[tag][epoch]:.4f} | {spread([run[tag][epoch] for run in ours])}"
            for tag in CURVES
        ]
        lines.append(f"| {epoch + 1} | " + " | ".join(cells) + " |")
    best = spread([max(run["val/accuracy"]) for run in ours])
    lines.append(
        f"\nBest val_accuracy: published {max(published['val/accuracy']):.4f}, ours {best}"
    )
    return "\n".join(lines)


def main() -> None:
    """Draw and print."""
    folders = [Path(argument) for argument in sys.argv[1:]]
    if len(folders) < 2:
        sys.exit(f"usage: {sys.argv[0]} RUN_FOLDER RUN_FOLDER …: at least two runs")
    published, ours = read_curves(PUBLISHED), [read_curves(folder) for folder in folders]
    draw(published, ours, ROOT / "docs" / "curves.png")
    print(table(published, ours))


if __name__ == "__main__":
    main()
