"""Images a second and peak memory against batch size, threads, processes and size of the data set.

Each round has a run of each kind, and begins with another one. Batch sizes, threads and processes
train the first 16,384 images of configs/cnn.yaml, which are slower than later ones: see
mnist_cnn/kernels/double_conv.py. The data set is 10 to 400 % of MNIST, and trains a small net
(4 and 8 filters, 16 units) for an epoch. A round takes about four minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import linear_regression, median
from typing import NamedTuple

import numpy as np

from benchmarks import programs, records
from benchmarks.records import Figures, Record, Row

TRAIN_IMAGES, IMAGES = 60_000, 16_384
SMALL_NET = ["--model.net.init_args.filters=[4, 8]", "--model.net.init_args.hidden=16"]


class Setting(NamedTuple):
    """What a run is made with; the record and the table call it by its `str`."""

    batch_size: int = 128  # of all processes together
    processes: int = 1
    threads: int = 2  # of each process
    share: float = 0  # of the training images, for an epoch of the small net; 0: all, cnn.yaml

    def __str__(self) -> str:
        if self.share:
            return f"{100 * self.share:.0f} % of MNIST"
        return f"batch {self.batch_size}, processes x threads {self.processes} x {self.threads}"

    @property
    def images(self) -> int:
        """Training images in the data set."""
        return round(TRAIN_IMAGES * (self.share or 1))

    def train(self, steps: int | None) -> Row:
        """Train, and say how fast."""
        steps = steps or (None if self.share else IMAGES // self.batch_size)
        with tempfile.TemporaryDirectory() as folder:
            done = programs.fit(
                "cnn",
                *("--trainer.max_epochs=1", f"--data.batch_size={self.batch_size}"),
                *(*programs.limits(steps, "train"), *programs.limits(1, "val")),
                *([*SMALL_NET, *self.data(Path(folder))] if self.share else []),
                devices=self.processes,
                env=dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), f"{self.threads}"),
            )
        images = min(self.images, steps * self.batch_size) if steps else self.images
        rate = images / done.train_s
        return {"train_s": done.train_s, "images_per_s": rate, "peak_mb": done.peak_mb}

    def data(self, folder: Path) -> list[str]:
        """Flags for a share of the training images: others are held out, or all come again."""
        if self.share <= 1:
            return [f"--data.val_size={TRAIN_IMAGES - self.images}"]
        times = round(self.share) - 1
        raw = programs.ROOT / "data" / "MNIST" / "raw"
        images, labels = (
            np.tile(np.fromfile(raw / f"train-{name}-ubyte", np.uint8, offset=header), times)
            for name, header in (("images-idx3", 16), ("labels-idx1", 8))
        )
        np.savez(folder / "again.npz", images=images.reshape(-1, 28, 28), labels=labels)
        return [f"--data.extra={folder / 'again.npz'}"]


SHARES = [Setting(share=share) for share in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)]
TWO_PROCESSES = Setting(processes=2, threads=1)
SETTINGS = [
    *(Setting(batch_size) for batch_size in (32, 128, 512, 1024, 4096)),
    *(Setting(threads=1), TWO_PROCESSES, *SHARES),
]
OPTIONS = {"rounds": 5, "steps": None}


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each run."""
    for number, setting in records.taking_turns(SETTINGS, args.rounds):
        yield {"peer": f"{setting}", "round": number, **setting.train(args.steps)}


def table(record: Record) -> str:
    """The record as a Markdown table, and what it says of processes and of the data set's size."""
    found = records.by_peer(record["rows"])
    peers = {setting: found[f"{setting}"] for setting in SETTINGS if f"{setting}" in found}
    columns = {
        "n": records.cell("train_s", lambda seconds: f"{len(seconds)}"),
        "training, s": records.median("train_s", 1),
        "images/s: median": records.median("images_per_s", 0),
        "range": records.least_to_most("images_per_s", 0),
        "peak MB of a process": records.median("peak_mb", 0),
    }
    lines = [records.table("run", peers, columns), ""]
    if {Setting(), TWO_PROCESSES} <= peers.keys():
        one, two = (median(peers[of]["images_per_s"]) for of in (Setting(), TWO_PROCESSES))
        lines.append(f"Two processes of one thread reach {two / one:.2f} of one process of two.")
    if set(SHARES) <= peers.keys():
        lines.append(growth({setting: peers[setting] for setting in SHARES}))
    return "\n".join([*lines, f"On {records.provenance(record)}"])


def growth(sizes: dict[Setting, Figures]) -> str:
    """The least-squares lines of seconds and memory over the number of images, as words."""
    images = [setting.images for setting in sizes]
    seconds = [median(figures["train_s"]) for figures in sizes.values()]
    memory = [1e6 * median(figures["peak_mb"]) for figures in sizes.values()]
    slope, start = linear_regression(images, seconds)
    apart = max(abs(s / (start + slope * n) - 1) for n, s in zip(images, seconds, strict=True))
    return (
        f"An epoch of the small net takes {start:.2f} s and {slope * TRAIN_IMAGES:.2f} s for each "
        f"{TRAIN_IMAGES} images, to within {100 * apart:.0f} %; an image takes "
        f"{linear_regression(images, memory).slope:.0f} bytes of memory."
    )
