"""How the benchmarks draw what more than one of them shows."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks.records import Spread


def bars(figures: Mapping[str, Spread], xlabel: str, digits: int) -> Figure:
    """A bar for each peer, as long as its median, with a line from its least to its most."""
    figure = Figure(figsize=(8, 0.8 + 0.45 * len(figures)), layout="constrained")
    axis = figure.subplots()
    for name, spread in figures.items():
        colour = "tab:orange" if "mnist_cnn" in name else "tab:blue"
        reach = [[spread.median - spread.min], [spread.max - spread.median]]
        bar = axis.barh(name, spread.median, color=colour, xerr=reach, ecolor="0.3", capsize=3)
        axis.bar_label(bar, fmt=f"%.{digits}f", label_type="center", color="white")
    axis.invert_yaxis()
    axis.set(xlabel=xlabel)
    return figure
