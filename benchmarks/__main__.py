"""What this project's figures rest on: its speed beside its peers, its accuracy, its promises.

    python -m benchmarks                     # what there is
    python -m benchmarks epoch --seeds 5     # measures; writes benchmarks/results/epoch.json
    python -m benchmarks epoch --table       # shows the record that there is, as a Markdown table

Whole programs run, in turns. The record is written after every run, so that nothing is lost when a
benchmark is interrupted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import trainings
from benchmarks.programs import ROOT, warm_up
from benchmarks.records import Record, machine, our_versions, write_record

TRAININGS = ("epoch", "accuracy", "precision", "longer", "compare_keras", "gpu")
OTHERS = ("scaling", "startup", "device_counts", "pictures")
BENCHMARKS = {name: import_module(f"benchmarks.{name}") for name in (*TRAININGS, *OTHERS)}
#: The options that several benchmarks have; the ``OPTIONS`` of each say which, with its defaults.
OPTIONS: dict[str, dict[str, Any]] = {
    "peers": {"nargs": "+", "help": "(%(default)s)"},
    "rounds": {"type": int, "help": "(%(default)s)"},
    "seeds": {"type": int, "help": "seeds 1, 2, … (%(default)s)"},
    "epochs": {"type": int, "help": "else the configuration's, or 1"},
    "steps": {"type": int, "help": "of training (%(default)s); shortens the validation, too"},
    "ensembles": {"action": "store_true", "help": "also of the first 2, 3, … nets"},
    "logs": {"type": Path, "help": "keep logs and checkpoints in this folder"},
    "accelerator": {"choices": ("cpu", "gpu"), "help": "(%(default)s)"},
    "keras-python": {"type": Path, "help": "(one with Keras is set up: 2 GB)"},
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a benchmark, or read its record; print its table."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=as_written
    )
    commands = parser.add_subparsers(dest="name", metavar="NAME")
    for name, module in BENCHMARKS.items():
        text = module.__doc__ or ""
        if name in TRAININGS:
            text += "\n" + (trainings.__doc__ or "")
        command = commands.add_parser(
            name, help=text.partition("\n")[0], description=text, formatter_class=as_written
        )
        for option, default in getattr(module, "OPTIONS", {}).items():
            command.add_argument(f"--{option}", default=default, **OPTIONS[option])
        if hasattr(module, "add_arguments"):
            module.add_arguments(command)
        command.add_argument(
            "--table", action="store_true", help="measure nothing: show the record"
        )
        command.add_argument("--record", type=Path, help="(benchmarks/results/NAME.json)")
    args = parser.parse_args(argv)
    if args.name is None:
        parser.print_help()
        return
    module = BENCHMARKS[args.name]
    path = args.record or ROOT / "benchmarks" / "results" / f"{args.name}.json"
    record = json.loads(path.read_text()) if args.table else measure(args, path)
    print(module.table(record), *record["notes"], sep="\n")


def measure(args: argparse.Namespace, path: Path) -> Record:
    """Run a benchmark and keep its record in a file."""
    warm_up()
    settings = {
        name: value
        for name, value in vars(args).items()
        if name not in ("name", "table") and not isinstance(value, Path)
    }
    record: Record = {"machine": machine(), "versions": our_versions(), "settings": settings}
    record |= {"notes": [], "rows": []}
    for row in BENCHMARKS[args.name].measure(args, record):
        print(json.dumps(row), flush=True)
        record["rows"].append(row)
        write_record(path, record)
    return record


if __name__ == "__main__":
    main()
