"""Whether training in bf16 is as accurate as in float32: whole runs of cnn.yaml, and a test.

All of it, ten runs of twelve epochs, takes 25 minutes on two cores with AMX.
"""

from __future__ import annotations

from benchmarks import accuracy, trainings
from benchmarks.records import Record

OPTIONS = trainings.options(("cnn", "cnn+bf16"), seeds=5)
measure = trainings.measure


def table(record: Record) -> str:
    """The record as a Markdown table, and whether the accuracies differ, are equivalent."""
    return accuracy.table(record, base="cnn")
