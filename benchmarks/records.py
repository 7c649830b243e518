"""What the benchmarks write down: what they ran on, what each run took, and tables of it."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
WITHOUT_BF16 = "Without bf16, for which this CPU has no instructions."
#: A run: who ran ("peer"), in which round, and its figures.
Row = dict[str, Any]
#: Of a benchmark: machine, versions, settings, rows, summary, notes.
Record = dict[str, Any]


class Spread(NamedTuple):
    """A figure over several runs."""

    n: int
    median: float
    min: float
    max: float
    mean: float
    sd: float  # 0 for a single run

    def plus_minus(self, digits: int = 4) -> str:
        """Mean and standard deviation."""
        return f"{self.mean:.{digits}f} ± {self.sd:.{digits}f}"

    def text(self, digits: int) -> str:
        """The range, as a table shows it."""
        return f"{self.min:.{digits}f}–{self.max:.{digits}f}"


def spread(values: Sequence[float]) -> Spread:
    """What the runs of one kind say together.

    >>> spread([1.0, 4.0, 2.0]).median, spread([1.0, 4.0, 2.0]).text(1)
    (2.0, '1.0–4.0')
    """
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    mean = statistics.mean(values)
    return Spread(len(values), statistics.median(values), min(values), max(values), mean, sd)


def summary(rows: Iterable[Row]) -> dict[str, dict[str, Spread]]:
    """The figures of each peer over its runs: every number in its rows but the round's."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        figures = values.setdefault(row["peer"], {})
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "round":
                figures.setdefault(name, []).append(value)
    return {
        peer: {name: spread(of) for name, of in figures.items()} for peer, figures in values.items()
    }


def taking_turns(items: Sequence[T], number: int) -> list[T]:
    """The items in the order of a round; in each round another one is the first.

    >>> taking_turns("abc", 1)
    ['b', 'c', 'a']
    """
    first = number % len(items)
    return [*items[first:], *items[:first]]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    match = re.search(r"model name\s*: (.*)", cpu_info())
    cpu = match[1] if match else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}


def cpu_info() -> str:
    """What Linux says about the CPU; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    return info.read_text() if info.exists() else ""


def has_bf16() -> bool:
    """Whether the CPU has instructions for products in bf16."""
    return re.search(r"\b(avx512|amx)_bf16\b", cpu_info()) is not None


def our_versions() -> dict[str, str]:
    """Versions of what this project runs on."""
    return {name: version(name) for name in ("mnist-cnn", "torch", "lightning")}


def provenance(record: Record) -> str:
    """What a record was measured on, as words."""
    machine, versions = record["machine"], record["versions"]
    names = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{machine['cores']} cores of {machine['cpu']}; {names}."


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(markdown(["peer", "s"], [["Keras", "40"]]))
    | peer | s |
    |---|---|
    | Keras | 40 |
    """
    first, *others = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return "\n".join([first, "|---" * len(header) + "|", *others])


def write_record(path: Path, record: Record) -> None:
    """Write a record as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(path)
