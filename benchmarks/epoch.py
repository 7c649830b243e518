"""Seconds of a training epoch of 60,000 images, and with validation on 10,000, beside the peers.

All but Keras count their first step. Five seeds take about half an hour on two cores.
"""

from __future__ import annotations

from statistics import median

from benchmarks import records, trainings
from benchmarks.records import Figures, Record
from benchmarks.trainings import title

PEERS = ("cnn", "cnn+bf16", "bare", "keras", "torch", "lightning")
OURS, OURS_BF16, BARE, KERAS, _, PORT = map(title, PEERS)
TRAIN_IMAGES = 60_000
OPTIONS = trainings.options(PEERS, seeds=5, epochs=1)
measure = trainings.measure


def table(record: Record) -> str:
    """The record as a Markdown table, what the trainer costs, and whether bf16 does harm."""
    peers = fastest_first(record)
    columns = {
        "training, s: median": records.median("train_s", 1),
        "range": records.least_to_most("train_s", 1),
        "with validation, s": records.median("s", 1),
        "images/s": records.cell("train_s", lambda s: f"{TRAIN_IMAGES / median(s):.0f}"),
        "of Keras's time": records.ratio("train_s", peers.get(KERAS)),
        "of the plain port's": records.ratio("train_s", peers.get(PORT)),
    }
    lines = [records.table("an epoch of", peers, columns), ""]
    if OURS in peers and BARE in peers:
        overhead = median(peers[OURS]["train_s"]) / median(peers[BARE]["train_s"]) - 1
        lines.append(
            f"Trainer, metrics, logs and checkpoints add {100 * overhead:.1f} % to the bare loop."
        )
    accuracies = {p: peers[p]["val_accuracy"] for p in (OURS, OURS_BF16) if p in peers}
    return "\n".join([*lines, *records.compared(accuracies), f"On {records.provenance(record)}"])


def fastest_first(record: Record) -> dict[str, Figures]:
    """The figures of each peer, by the training's median."""
    peers = records.by_peer(record["rows"])
    return dict(sorted(peers.items(), key=lambda item: median(item[1]["train_s"])))
