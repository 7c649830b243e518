"""Images a second and peak memory against batch size, threads, processes and size of the data set.

Threads and processes are compared in every round, the others in the first two; each round begins
with another run. The first three train the first 16,384 images of configs/cnn.yaml, which are
slower than later ones: see mnist_cnn/sparse.py. The data set is 10 to 400 % of MNIST, and trains a
small net (4 and 8 filters, 16 units) for an epoch. Five rounds take about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.programs import fit, fit_seconds, run
from benchmarks.records import Record, Row, Spread, markdown, provenance, summary, taking_turns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN_IMAGES, IMAGES = 60_000, 16_384
ROUNDS_OF_CURVES = 2
NAMES = {
    "batch_size": "batch size",
    "threads": "threads",
    "processes": "processes, two threads in all",
    "share": "training images, × 60,000",
}
LABELS = {
    "train_s": "seconds of an epoch",
    "images_per_s": "images a second",
    "peak_mb": "peak memory of a process, MB",
}
SMALL_NET = ["--model.net.init_args.filters=[4, 8]", "--model.net.init_args.hidden=16"]


class Setting(NamedTuple):
    """What a run is made with."""

    batch_size: int = 128  # of all processes together
    processes: int = 1
    threads: int = 2  # of each process
    share: float = 0  # of the training images, for an epoch of the small net; 0: all, cnn.yaml

    @property
    def images(self) -> int:
        """Training images."""
        return round(TRAIN_IMAGES * (self.share or 1))

    @property
    def peer(self) -> str:
        """What the record and the table call it."""
        if self.share:
            return f"{100 * self.share:.0f} % of MNIST"
        return f"batch {self.batch_size}, processes x threads {self.processes} x {self.threads}"

    def train(self, steps: int | None) -> Row:
        """Train, and say how fast."""
        limit = steps or (None if self.share else IMAGES // self.batch_size)
        flags = [
            *("--config", "configs/cnn.yaml", "--trainer.max_epochs=1"),
            *(f"--data.batch_size={self.batch_size}", "--trainer.limit_val_batches=1"),
            *([f"--trainer.limit_train_batches={limit}"] if limit else []),
            *(SMALL_NET if self.share else []),
        ]
        program = ("benchmarks.repeated_fit", f"{self.share}") if self.share else ("mnist_cnn",)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), f"{self.threads}")
        with tempfile.TemporaryDirectory() as logs:
            done = run(fit(*flags, logs=logs, devices=self.processes, program=program), threads)
        train_s, _ = fit_seconds(done.out)
        images = min(self.images, limit * self.batch_size) if limit else self.images
        return {"train_s": train_s, "images_per_s": images / train_s, "peak_mb": done.peak_mb}


Runs = dict[Setting, dict[str, Spread]]


class Line(NamedTuple):
    """A straight line."""

    slope: float
    intercept: float

    def __call__(self, x: float) -> float:
        return self.intercept + self.slope * x


#: What varies, and the runs that show it; the first two alone with --quick.
PARTS = {
    "batch_size": tuple(Setting(batch_size) for batch_size in (128, 32, 512, 1024, 4096)),
    "threads": (Setting(threads=1), Setting()),
    "processes": (Setting(), Setting(processes=2, threads=1)),
    "share": tuple(Setting(share=share) for share in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)),
}
IN_EVERY_ROUND = {*PARTS["threads"], *PARTS["processes"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="shorten each run")
    parser.add_argument("--quick", action="store_true", help="two runs of each kind only")


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each run."""
    parts = [part[:2] if args.quick else part for part in PARTS.values()]
    settings = list(dict.fromkeys(chain(*parts)))
    for number in range(args.rounds):
        curves = number < ROUNDS_OF_CURVES
        due = [setting for setting in settings if curves or setting in IN_EVERY_ROUND]
        for setting in taking_turns(due, number):
            yield {"peer": setting.peer, "round": number + 1, **setting.train(args.steps)}


def table(record: Record) -> str:
    """The record as a Markdown table, and what it says of processes and of the data set's size."""
    measured = measured_parts(record)
    rows = [
        [
            NAMES[part],
            setting.peer,
            f"{figures['train_s'].median:.1f}",
            f"{figures['images_per_s'].median:.0f}",
            figures["images_per_s"].text(0),
            f"{figures['peak_mb'].median:.0f}",
        ]
        for part, runs in measured.items()
        for setting, figures in runs.items()
    ]
    header = ["against", "run", "training, s", "images/s: median", "range", "peak MB of a process"]
    lines = [markdown(header, rows), ""]
    rates = [figures["images_per_s"].median for figures in measured["processes"].values()]
    if len(rates) == 2:
        lines.append(
            f"Two processes of one thread reach {rates[1] / rates[0]:.2f} of one process of two."
        )
    if len(sizes := measured["share"]) > 1:
        seconds, memory = line(sizes, "train_s"), line(sizes, "peak_mb")
        apart = max(
            abs(figures["train_s"].median / seconds(setting.images) - 1)
            for setting, figures in sizes.items()
        )
        lines.append(
            f"An epoch of the small net takes {seconds(0):.2f} s and "
            f"{seconds.slope * TRAIN_IMAGES:.2f} s for each {TRAIN_IMAGES} images, to within "
            f"{100 * apart:.0f} %; an image takes {1e6 * memory.slope:.0f} bytes of memory."
        )
    settings = record["settings"]
    rounds = f"{settings['rounds']} round(s), curves in the first {ROUNDS_OF_CURVES},"
    return "\n".join([*lines, f"{rounds} on {provenance(record)}"])


def draw(record: Record) -> Figure:
    """A panel for each part: images a second, or seconds, and memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), layout="constrained")
    parts = measured_parts(record).items()
    for axis, (part, runs) in zip(figure.subplots(2, 2).flat, parts, strict=True):
        x = [getattr(setting, part) for setting in runs]
        panel(axis, x, runs, "train_s" if part == "share" else "images_per_s", "tab:orange")
        panel(axis.twinx(), x, runs, "peak_mb", "tab:grey")
        axis.set_xlabel(NAMES[part])
        axis.margins(x=0.1)
        if part == "share":
            axis.set_xlim(0, None)
            continue
        if part == "batch_size":
            axis.set_xscale("log")
            axis.minorticks_off()
        axis.set_xticks(x, [f"{value}" for value in x])
    return figure


def panel(axis: Axes, x: list[float], runs: Runs, what: str, colour: str) -> None:
    """Draw a figure of the runs, with its range."""
    spreads = [figures[what] for figures in runs.values()]
    medians = [spread.median for spread in spreads]
    reach = [[s.median - s.min for s in spreads], [s.max - s.median for s in spreads]]
    axis.errorbar(x, medians, reach, fmt="o-", color=colour, capsize=3)
    axis.set_ylabel(LABELS[what], color=colour)
    axis.set_ylim(0, 1.1 * max((spread.max for spread in spreads), default=1))


def measured_parts(record: Record) -> dict[str, Runs]:
    """The summary of the runs that there are of each part, in the order of what varies."""
    peers = summary(record["rows"])
    return {
        part: {
            setting: peers[setting.peer]
            for setting in sorted(settings, key=lambda setting: getattr(setting, part))
            if setting.peer in peers
        }
        for part, settings in PARTS.items()
    }


def line(sizes: Runs, what: str) -> Line:
    """A figure's least-squares line over the number of images."""
    medians = [figures[what].median for figures in sizes.values()]
    return Line(*statistics.linear_regression([setting.images for setting in sizes], medians))
