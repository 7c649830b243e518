"""Seconds of an epoch of the Keras net on a GPU, beside Keras on JAX and plain loops.

The first epoch of each, with all that is set up in it, is told from the later ones. Needs Keras and
JAX in the Python of ``--keras-python``; three rounds take five minutes on an H200.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import programs, records
from benchmarks.records import Record, Row

#: Each by its name in the table: a module of this folder, and its flags.
PEERS = {
    "Keras on JAX": ("keras", []),
    "Keras on JAX, 32 steps an execution": ("keras", ["--steps-per-execution=32"]),
    "plain Lightning port": ("lightning", ["--accelerator=gpu", "--workers=8"]),
    "plain loop": ("gpu", []),
    **{
        f"plain loop, recorded, {precision}": ("gpu", ["--record", f"--precision={precision}"])
        for precision in ("fp32", "tf32", "bf16")
    },
}
#: This project's: configurations, and flags.
OURS = {
    f"{configs.replace('+', '.yaml + ')}.yaml{name}": (configs, flags)
    for configs in ("cnn", "cnn+bf16")
    for name, flags in {
        "": [],
        ", not compiled": ["--model.compile=false"],
        ", not recorded": ["--model.record_step=false"],
    }.items()
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    names = [*PEERS, *OURS]
    parser.add_argument("--peers", nargs="+", default=names, metavar="NAME", help=f"of {names}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, help="shorten the epochs, and their validations")
    parser.add_argument("--accelerator", default="gpu", help="cpu, to try it")
    parser.add_argument("--keras-python", type=Path, default=Path(sys.executable))


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each training."""
    record["machine"]["accelerator"] = accelerator()
    for number, name in records.taking_turns(args.peers, args.rounds):
        epochs = []
        if name in OURS:
            configs, flags = OURS[name]
            flags = [*flags, f"--trainer.max_epochs={args.epochs}"]
            flags += programs.limits(args.steps, "train", "val")
            done = programs.fit(configs, *flags, accelerator=args.accelerator)
            epochs, process_s = done.epochs, done.process_s
        else:
            peer, flags = PEERS[name]
            flags = [flag.replace("gpu", args.accelerator) for flag in flags]
            flags += [f"--epochs={args.epochs}", *([f"--steps={args.steps}"] if args.steps else [])]
            lines, process_s = programs.peer(
                peer,
                *flags,
                python=args.keras_python if peer == "keras" else None,
                env={"KERAS_BACKEND": "jax"},
            )
            epochs = [line for line in lines if "loss" in line]
        row: Row = {"peer": name, "round": number, "process_s": process_s}
        for figure in ("train_s", "s"):
            seconds = [epoch[figure] for epoch in epochs if figure in epoch]
            if seconds:
                row[figure] = median(seconds[1:] or seconds)
            if len(seconds) > 1:
                row[f"first_{figure}"] = seconds[0]
        yield row | {"loss": epochs[-1]["loss"]}


def accelerator() -> str:
    """The GPU's name, asked for in another process: this one has to stay small."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    return programs.run([sys.executable, "-c", code]).out.strip() or "no GPU"


def table(record: Record) -> str:
    """The record as a Markdown table."""
    peers = records.by_peer(record["rows"])
    keras = min(
        (of for name, of in peers.items() if "Keras on" in name),
        key=lambda of: median(of["s"]),
        default=None,
    )
    columns = {
        "an epoch, s": records.median("train_s", 3),
        "with validation, s": records.median("s", 3),
        "range": records.least_to_most("s", 3),
        "of Keras's best": records.ratio("s", keras),
        "the first, s": records.median("first_s", 1),
        "whole program, s": records.median("process_s", 1),
    }
    where = f"{record['machine']['accelerator']}, {records.provenance(record)}"
    return "\n".join([records.table("trained by", peers, columns), "", f"On {where}"])
