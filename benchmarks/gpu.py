"""Seconds of an epoch of the Keras net on a GPU, beside Keras on JAX and plain loops.

The first epoch of each, with all that is set up in it, is told from the later ones. Needs Keras and
JAX in the Python of ``--keras-python``. How long it takes has not been measured: each of three
rounds starts eleven programs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import programs, records, trainings
from benchmarks.records import Record, Row

PEERS = (
    *("cnn", "cnn --model.record_step=false"),
    *("cnn+bf16", "cnn+bf16 --model.record_step=false"),
    *(f"gpu --record --precision={precision}" for precision in ("fp32", "tf32", "bf16")),
    *("gpu", "keras", "keras --steps-per-execution=32", "lightning --workers=8"),
)
OPTIONS = trainings.options((), seeds=3, epochs=4)
OPTIONS |= {"peers": PEERS, "accelerator": "gpu", "keras-python": Path(sys.executable)}


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each training."""
    os.environ["KERAS_BACKEND"] = "jax"  # of the programs that are started
    # Asked for in another process: this one has to stay small.
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    gpu = programs.run([sys.executable, "-c", code]).out.strip()
    record["machine"]["accelerator"] = gpu or "no GPU"
    yield from trainings.measure(args, record)


def table(record: Record) -> str:
    """The record as a Markdown table."""
    peers = records.by_peer(map(first_and_later, record["rows"]))
    on_keras = [of for name, of in peers.items() if name.startswith(trainings.title("keras"))]
    best = min(on_keras, key=lambda of: median(of["s"]), default=None)
    columns = {
        "an epoch, s": records.median("train_s", 3),
        "with validation, s": records.median("s", 3),
        "range": records.least_to_most("s", 3),
        "of Keras's best": records.ratio("s", best),
        "the first, s": records.median("first_s", 1),
        "whole program, s": records.median("process_s", 1),
    }
    where = f"{record['machine']['accelerator']}, {records.provenance(record)}"
    return f"{records.table('trained by', peers, columns)}\n\nOn {where}"


def first_and_later(row: Row) -> Row:
    """A training's seconds: of its first epoch, and the median of the later ones."""
    figures = {"peer": row["peer"], "process_s": row["process_s"]}
    for name in ("train_s", "s"):
        if seconds := [epoch[name] for epoch in row["epochs"] if name in epoch]:
            figures |= {name: median(seconds[1:] or seconds), f"first_{name}": seconds[0]}
    return figures
