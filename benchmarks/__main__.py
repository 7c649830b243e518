"""How fast this project is beside its peers, and how good; whole programs run, in turns.

    python -m benchmarks                        # the first four, about an hour on two cores
    python -m benchmarks epoch --rounds 5       # one of them
    python -m benchmarks epoch --redraw         # table and plot of the last one again

A benchmark writes its record to benchmarks/results/NAME.json after every run, so that nothing is
lost when it is interrupted, draws docs/benchmark-NAME.png and prints the table that the README
shows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks import accuracy, epoch, precision, record, scaling, startup
from benchmarks.programs import ROOT, warm_up
from benchmarks.records import Record, machine, our_versions, summary, write_record

SPEED = {"epoch": epoch, "accuracy": accuracy, "scaling": scaling, "startup": startup}
BENCHMARKS = {**SPEED, "precision": precision, "record": record}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one benchmark, or all of them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="name", metavar="NAME")
    for name, module in BENCHMARKS.items():
        text = module.__doc__ or ""
        command = commands.add_parser(
            name,
            help=text.partition("\n")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--redraw", action="store_true", help="run nothing: show the record")
        command.add_argument(
            "--results", type=Path, default=ROOT / "benchmarks/results", help="folder of the record"
        )
        command.add_argument(
            "--plots", type=Path, default=ROOT / "docs", help="folder of the picture"
        )
    args = parser.parse_args(argv)
    for name in [args.name] if args.name else SPEED:
        benchmark(args if args.name else parser.parse_args([name]))


def benchmark(args: argparse.Namespace) -> None:
    """Run a benchmark, or read its record; print its table and draw its plot."""
    module, path = BENCHMARKS[args.name], args.results / f"{args.name}.json"
    measured = json.loads(path.read_text()) if args.redraw else measure(args, path)
    print("", module.table(measured), *measured["notes"], sep="\n")
    args.plots.mkdir(parents=True, exist_ok=True)
    module.draw(measured).savefig(args.plots / f"benchmark-{args.name}.png", dpi=120)


def measure(args: argparse.Namespace, path: Path) -> Record:
    """Run a benchmark and keep its record in a file."""
    warm_up()
    plain = {
        name: value
        for name, value in vars(args).items()
        if name not in ("name", "redraw") and not isinstance(value, Path)
    }
    measured: Record = {"machine": machine(), "versions": our_versions(), "settings": plain}
    measured |= {"notes": [], "summary": {}, "rows": []}
    for row in BENCHMARKS[args.name].measure(args, measured):
        print(json.dumps(row), flush=True)
        measured["rows"].append(row)
        measured["summary"] = {
            peer: {name: spread._asdict() for name, spread in figures.items()}
            for peer, figures in summary(measured["rows"]).items()
        }
        write_record(path, measured)
    return measured


if __name__ == "__main__":
    main()
