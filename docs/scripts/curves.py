"""Draw ``docs/curves.png``: loss and accuracy over the epochs, published and here.

    python -m docs.scripts.curves

The runs are those of ``benchmarks/results/compare_keras.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from docs.scripts.published_keras import EPOCHS

DOCS = Path(__file__).parents[1]
RECORD = DOCS.parent / "benchmarks" / "results" / "compare_keras.json"
#: Of an epoch of ours and of the published run, in the published run's order.
FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy")


def draw(ours: Sequence[Sequence[dict[str, float]]], path: Path) -> None:
    """Plot loss and accuracy over epochs, one thin line a run."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
        for name, part, colour in ((what, "train", "tab:blue"), (f"val_{what}", "val", "C1")):
            published = [epoch[FIGURES.index(name)] for epoch in EPOCHS]
            epochs = range(1, len(published) + 1)
            axis.plot(epochs, published, "--", color=colour, label=f"{part}, published Keras")
            for number, run in enumerate(ours):
                label = f"{part}, this project ({len(ours)} seeds)" if number == 0 else None
                values = [epoch[name] for epoch in run]
                axis.plot(epochs, values, color=colour, alpha=0.6, linewidth=1, label=label)
        axis.set(xlabel="epoch", title=what)
        axis.grid(alpha=0.3)
    axes[0].set(yscale="log")
    axes[1].set(ylim=(0.97, 0.995))
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Draw."""
    rows = json.loads(RECORD.read_text())["rows"]
    draw([row["epochs"] for row in rows if row["peer"] == "cnn.yaml"], DOCS / "curves.png")


if __name__ == "__main__":
    main()
