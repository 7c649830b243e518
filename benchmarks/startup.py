"""How long the program takes to start, beside what Lightning's own command line takes.

Nine rounds of four commands take about four minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.programs import run
from benchmarks.records import Record, Row, markdown, provenance, summary, taking_turns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMANDS = {
    "import lightning.pytorch.cli": ["-c", "import lightning.pytorch.cli"],
    "import mnist_cnn": ["-c", "import mnist_cnn"],
    "mnist_cnn --help": ["-m", "mnist_cnn", "--help"],
    "mnist_cnn fit --help": ["-m", "mnist_cnn", "fit", "--help"],
}
REFERENCE = next(iter(COMMANDS))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=9)


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each command in each round."""
    for number in range(args.rounds):
        for peer in taking_turns(list(COMMANDS), number):
            done = run([sys.executable, *COMMANDS[peer]])
            yield {"peer": peer, "round": number + 1, "s": done.s}


def table(record: Record) -> str:
    """The record as a Markdown table."""
    peers = {peer: figures["s"] for peer, figures in summary(record["rows"]).items()}
    rows = [
        [
            f"`{peer}`",
            f"{seconds.median:.2f}",
            seconds.text(2),
            f"{seconds.median / peers[REFERENCE].median:.2f}" if REFERENCE in peers else "–",
        ]
        for peer, seconds in ((name, peers[name]) for name in COMMANDS if name in peers)
    ]
    rounds = max(seconds.n for seconds in peers.values())
    header = ["command", "s: median", "range", "of the first"]
    return f"{markdown(header, rows)}\n\n{rounds} round(s) on {provenance(record)}"


def draw(record: Record) -> Figure:
    """Bars of the seconds."""
    from benchmarks.plots import bars

    peers = summary(record["rows"])
    seconds = {peer: peers[peer]["s"] for peer in COMMANDS if peer in peers}
    return bars(seconds, "seconds from start to end", 2)
