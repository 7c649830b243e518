"""Real Keras and this project, side by side on this machine: the curve, the accuracy, the time.

Each is run as its user would run it. Keras lives in an environment of its own, which is made on
first use. Three seeds take an hour on two cores.
"""

from __future__ import annotations

from functools import partial
from statistics import median

from benchmarks import records, trainings
from benchmarks.programs import FIGURES
from benchmarks.records import Record

PEERS = ("keras", "cnn")
OPTIONS = trainings.options(PEERS, seeds=3, epochs=12)
measure = trainings.measure


def table(record: Record) -> str:
    """The record as a Markdown table of mean ± standard deviation over the seeds, and verdicts."""
    peers = [trainings.title(name) for name in PEERS]
    rows = [row for row in record["rows"] if row["peer"] in peers]
    epochs = records.by_peer(
        {"peer": epoch["epoch"], **{f"{row['peer']}: {name}": epoch[name] for name in FIGURES}}
        for row in rows
        for epoch in row["epochs"]
    )
    columns = {
        name: records.cell(name, partial(records.mean_sd, digits=1 if figure == "s" else 4))
        for figure in FIGURES
        for name in (f"{peer}: {figure}" for peer in peers)
    }
    keras, ours = (
        median(s for epoch in epochs.values() for s in epoch[f"{peer}: s"]) for peer in peers
    )
    *_, last = epochs.values()
    return "\n".join(
        [
            *(records.table("epoch", epochs, columns), ""),
            f"Median seconds an epoch, validation included: Keras {keras:.1f}, "
            f"mnist_cnn {ours:.1f}, ratio {ours / keras:.2f}.",
            *records.compared({peer: last[f"{peer}: val_accuracy"] for peer in peers}),
            f"{len(rows) // 2} seed(s) each. On {records.provenance(record)}",
        ]
    )
