"""Test accuracy after the last epoch, over seeds, and seconds of training.

    python -m benchmarks accuracy                  # fast.yaml beside the public record net
    python -m benchmarks accuracy --peers record --ensembles --seeds 3 --record record.json

On two cores twenty seeds of the first take a quarter of an hour, the second an hour.
"""

from __future__ import annotations

from statistics import mean

from benchmarks import records, trainings
from benchmarks.records import Record
from benchmarks.trainings import title

PUBLISHED = 0.9914  # best val_accuracy of the Keras run's twelve epochs
OPTIONS = trainings.options(("fast", "fast+bf16", "public"), seeds=20)
measure = trainings.measure


def table(record: Record, base: str = "public") -> str:
    """The record as a Markdown table, and which accuracies differ, which are equivalent.

    The time is compared with that of `base`.
    """
    peers = dict(sorted(records.by_peer(record["rows"]).items()))
    columns = {
        "n": records.cell("val_accuracy", lambda a: f"{len(a)}"),
        "test accuracy: mean ± deviation": records.cell("val_accuracy", records.mean_sd),
        "least": records.cell("val_accuracy", lambda a: f"{min(a):.4f}"),
        "wrong of 10,000": records.cell("val_accuracy", lambda a: f"{10_000 * (1 - mean(a)):.1f}"),
        "training, s: mean": records.cell("train_s", lambda s: f"{mean(s):.2f}"),
        "median": records.median("train_s", 2),
        "range": records.least_to_most("train_s", 2),
        f"of {title(base)}'s": records.ratio("train_s", peers.get(title(base))),
        "whole program, s": records.median("process_s", 1),
    }
    return "\n".join(
        [
            *(records.table("", peers, columns), ""),
            *records.compared({peer: of["val_accuracy"] for peer, of in peers.items()}),
            f"The published run's best is {PUBLISHED}.",
            f"On {records.provenance(record)}",
        ]
    )
