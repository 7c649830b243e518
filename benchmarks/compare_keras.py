"""Real Keras and this project, side by side on this machine: the curve, the accuracy, the time.

Each is run as its user would run it. Keras lives in an environment of its own, which is made on
first use. Three seeds take an hour on two cores.
"""

from __future__ import annotations

import argparse
from statistics import median

from benchmarks import records, trainings
from benchmarks.programs import FIGURES
from benchmarks.records import Record, Row

PEERS = ("keras", "cnn")
measure = trainings.measure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    trainings.add_arguments(parser, PEERS, seeds=3, epochs=12)


def table(record: Record) -> str:
    """The record as a Markdown table of mean ± standard deviation over the seeds, and verdicts."""
    rows: list[Row] = [{**e, "peer": row["peer"]} for row in record["rows"] for e in row["epochs"]]
    peers = [trainings.title(name) for name in PEERS]
    show = {name: records.cell(name, records.mean_sd) for name in FIGURES}
    show["s"] = records.cell("s", lambda seconds: records.mean_sd(seconds, 1))
    cells = []
    for epoch in sorted({row["epoch"] for row in rows}):
        figures = records.by_peer(row for row in rows if row["epoch"] == epoch)
        cells.append([f"{epoch}", *(show[name](figures[p]) for name in FIGURES for p in peers)])
    header = [f"{peer}: {name}" for name in FIGURES for peer in peers]
    keras, ours = (median(records.by_peer(rows)[peer]["s"]) for peer in peers)
    return "\n".join(
        [
            *(records.markdown(["epoch", *header], cells), ""),
            f"Median seconds an epoch, validation included: Keras {keras:.1f}, "
            f"mnist_cnn {ours:.1f}, ratio {ours / keras:.2f}.",
            *records.compared({peer: figures[peer]["val_accuracy"] for peer in peers}),
            f"{len(record['rows']) // 2} seed(s) each. On {records.provenance(record)}",
        ]
    )
