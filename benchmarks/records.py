"""What the benchmarks write down, and what they say of it: figures over runs, tests, tables."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from mnist_cnn import __version__
from mnist_cnn.file_system.whole import write_whole

T = TypeVar("T")
#: A run, or a part of one: who ran ("peer"), in which round, and its figures.
Row = dict[str, Any]
#: Of a benchmark: machine, versions, settings, notes, rows.
Record = dict[str, Any]
MARGIN = 0.0005  # test accuracies that differ by less are equivalent: 5 of 10,000 images


#: The figures of a peer, each over its runs.
Figures = dict[str, list[float]]
Cell = Callable[[Figures], str]


def by_peer(rows: Iterable[Row]) -> dict[str, Figures]:
    """Every number in the rows of each peer.

    >>> by_peer([{"peer": "Keras", "s": 40.0}, {"peer": "Keras", "s": 41.5}])
    {'Keras': {'s': [40.0, 41.5]}}
    """
    peers: dict[str, Figures] = {}
    for row in rows:
        figures = peers.setdefault(row["peer"], {})
        for name, value in row.items():
            if isinstance(value, (int, float)):
                figures.setdefault(name, []).append(value)
    return peers


def taking_turns(peers: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Each peer in each round; in each round another one is the first.

    >>> [peer for _, peer in taking_turns("abc", 2)]
    ['a', 'b', 'c', 'b', 'c', 'a']
    """
    for number in range(1, rounds + 1):
        first = (number - 1) % len(peers)
        yield from ((number, peer) for peer in [*peers[first:], *peers[:first]])


def compared(accuracies: Mapping[str, list[float]]) -> list[str]:
    """For each two peers that were run twice or more: do they differ, are they equivalent?

    Welch's t-test asks the first; the second, two one-sided tests of it (Schuirmann 1987), whether
    the true difference lies within `MARGIN`.
    """
    from scipy.stats import ttest_ind

    def p(a: list[float], b: list[float], shift: float, alternative: str) -> float:
        moved = [value + shift for value in a]
        return ttest_ind(moved, b, equal_var=False, alternative=alternative).pvalue

    repeated = [(peer, found) for peer, found in accuracies.items() if len(found) > 1]
    return [
        f"Test accuracy, {one} against {other}: {mean_sd(a)} and {mean_sd(b)}; "
        f"Welch's t-test of a difference: p = {p(a, b, 0, 'two-sided'):.2g}; of equivalence within "
        f"±{MARGIN}: p = {max(p(a, b, MARGIN, 'greater'), p(a, b, -MARGIN, 'less')):.2g}."
        for (one, a), (other, b) in itertools.combinations(repeated, 2)
    ]


def mean_sd(values: list[float], digits: int = 4) -> str:
    """Mean and standard deviation; of a single run, its figure.

    >>> mean_sd([1, 2, 3], 1), mean_sd([2], 1)
    ('2.0 ± 1.0', '2.0')
    """
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def cell(name: str, text: Callable[[list[float]], str]) -> Cell:
    """What a table shows of a figure; a dash where a peer has none."""
    return lambda figures: text(figures[name]) if name in figures else "–"


def median(name: str, digits: int) -> Cell:
    """The median of a figure."""
    return cell(name, lambda values: f"{statistics.median(values):.{digits}f}")


def least_to_most(name: str, digits: int) -> Cell:
    """The range of a figure."""
    return cell(name, lambda values: f"{min(values):.{digits}f}–{max(values):.{digits}f}")


def ratio(name: str, other: Figures | None) -> Cell:
    """The median of a figure, of another peer's; a dash if that was not run."""
    if other is None:
        return lambda figures: "–"
    of = statistics.median(other[name])
    return cell(name, lambda values: f"{statistics.median(values) / of:.2f}")


def table(first: str, peers: Mapping[Any, Figures], columns: Mapping[str, Cell]) -> str:
    """A Markdown table: a row for each peer, a column for each way to show its figures."""
    rows = [[f"{peer}", *(show(of) for show in columns.values())] for peer, of in peers.items()]
    return markdown([first, *columns], rows)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(markdown(["peer", "s"], [["Keras", "40"]]))
    | peer | s |
    |---|---|
    | Keras | 40 |
    """
    first, *others = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return "\n".join([first, "|---" * len(header) + "|", *others])


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    match = re.search(r"model name\s*: (.*)", cpu_info())
    cpu = match[1] if match else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}


def cpu_info() -> str:
    """What Linux says about the CPU; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    return info.read_text() if info.exists() else ""


def has_bf16(kinds: str = "avx512|amx") -> bool:
    """Whether the CPU has instructions for products in bf16, of one of these kinds."""
    return re.search(rf"\b({kinds})_bf16\b", cpu_info()) is not None


def our_versions() -> dict[str, str]:
    """Versions of what this project runs on."""
    # Of this copy, which need not be installed.
    return {"mnist-cnn": __version__} | {name: version(name) for name in ("torch", "lightning")}


def provenance(record: Record) -> str:
    """What a record was measured on, as words."""
    machine, versions = record["machine"], record["versions"]
    names = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{machine['cores']} cores of {machine['cpu']}; {names}."


def write_record(path: Path, record: Record) -> None:
    """Write a record as JSON, whole or not at all."""
    write_whole(path, f"{json.dumps(record, indent=1)}\n".encode())
