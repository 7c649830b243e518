"""Whether training in bf16 is as accurate as in float32: whole runs of cnn.yaml, and a test.

Five seeds of twelve epochs each take half an hour to an hour on two cores.
"""

from __future__ import annotations

from statistics import mean

from benchmarks import records, trainings
from benchmarks.records import Record
from benchmarks.trainings import title

PEERS = ("cnn", "cnn+bf16")
OPTIONS = trainings.options(PEERS, seeds=5)
measure = trainings.measure


def table(record: Record) -> str:
    """The record as a Markdown table, and whether the accuracies differ, are equivalent."""
    peers = dict(sorted(records.by_peer(record["rows"]).items()))
    columns = {
        "n": records.cell("val_accuracy", lambda a: f"{len(a)}"),
        "test accuracy: mean ± deviation": records.cell("val_accuracy", records.mean_sd),
        "least": records.cell("val_accuracy", lambda a: f"{min(a):.4f}"),
        "wrong of 10,000": records.cell("val_accuracy", lambda a: f"{10_000 * (1 - mean(a)):.1f}"),
        "training, s: median": records.median("train_s", 0),
        "range": records.least_to_most("train_s", 0),
        "of float32's": records.ratio("train_s", peers.get(title(PEERS[0]))),
    }
    return "\n".join(
        [
            *(records.table("", peers, columns), ""),
            *records.compared({peer: of["val_accuracy"] for peer, of in peers.items()}),
            f"On {records.provenance(record)}",
        ]
    )
