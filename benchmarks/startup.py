"""How long the program takes to start, beside what Lightning's own command line takes.

Nine rounds of four commands take about four minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from benchmarks import records
from benchmarks.programs import run
from benchmarks.records import Record, Row

COMMANDS = {
    "import lightning.pytorch.cli": ["-c", "import lightning.pytorch.cli"],
    "import mnist_cnn": ["-c", "import mnist_cnn"],
    "mnist_cnn --help": ["-m", "mnist_cnn", "--help"],
    "mnist_cnn fit --help": ["-m", "mnist_cnn", "fit", "--help"],
}
OPTIONS = {"rounds": 9}


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each command in each round."""
    for number, peer in records.taking_turns(list(COMMANDS), args.rounds):
        yield {"peer": peer, "round": number, "s": run([sys.executable, *COMMANDS[peer]]).s}


def table(record: Record) -> str:
    """The record as a Markdown table."""
    found = records.by_peer(record["rows"])
    peers = {f"`{peer}`": found[peer] for peer in COMMANDS if peer in found}
    columns = {
        "n": records.cell("s", lambda seconds: f"{len(seconds)}"),
        "s: median": records.median("s", 2),
        "range": records.least_to_most("s", 2),
        "of the first": records.ratio("s", next(iter(peers.values()))),
    }
    return f"{records.table('command', peers, columns)}\n\nOn {records.provenance(record)}"
