"""Whole trainings over seeds, this project's and its peers': what three benchmarks measure.

Each seed trains each once, in a process of its own, and they take turns in being the first. Names:

cnn, fast+bf16, …  python -m mnist_cnn fit --config configs/fast.yaml --config configs/bf16.yaml
bare               cnn in a plain loop, without Lightning, metrics, logs, checkpoints; one epoch
keras              the published run in real Keras, once it has traced its functions
torch              the same net in the way of the official PyTorch example; one epoch
lightning          a port of the Keras run to Lightning line by line; one epoch
public             net, optimizer and schedule of the public record; one epoch
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import programs, records
from benchmarks.records import Record, Row

TITLES = {
    "bare": "cnn.yaml in a bare loop",
    "keras": "Keras",
    "torch": "PyTorch example",
    "lightning": "plain Lightning port",
    "public": "public record net",
}


def title(name: str) -> str:
    """What the record and its tables call a training.

    >>> title("fast+bf16")
    'fast.yaml + bf16.yaml'
    """
    return TITLES.get(name) or " + ".join(f"{part}.yaml" for part in name.split("+"))


def add_arguments(
    parser: argparse.ArgumentParser, peers: Sequence[str], seeds: int, epochs: int | None = None
) -> None:
    """Add the options, with a benchmark's own defaults.

    Where the CPU has no products in bf16 these are left out, unless they are asked for.
    """
    peers = [name for name in peers if records.has_bf16() or "bf16" not in name]
    parser.add_argument("--peers", nargs="+", default=peers, help=f"({' '.join(peers)})")
    parser.add_argument("--seeds", type=int, default=seeds, help="seeds 1, 2, … (%(default)s)")
    parser.add_argument("--epochs", type=int, default=epochs, help="else the configuration's")
    parser.add_argument("--steps", type=int, help="shorten the epochs, and their validations")
    parser.add_argument("--ensembles", action="store_true", help="also of the first 2, 3, … nets")
    parser.add_argument("--logs", type=Path, help="keep logs and checkpoints in this folder")
    parser.add_argument("--keras-python", type=Path, help="(one with Keras is set up: 2 GB)")


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each training, and for each ensemble."""
    nets: dict[str, list[str]] = {name: [] for name in args.peers}
    seconds = dict.fromkeys(args.peers, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        logs = args.logs.resolve() if args.logs else Path(folder)
        for seed, name in records.taking_turns(args.peers, args.seeds):
            if name in TITLES:
                yield {"peer": title(name), "round": seed, **train_peer(name, seed, args, record)}
                continue
            row, net = train(name, seed, args, logs)
            yield {"peer": title(name), "round": seed, **row}
            nets[name].append(net)
            seconds[name] += row["train_s"]
            if args.ensembles and seed > 1:
                row = {"train_s": seconds[name], "val_accuracy": ensemble(nets[name])}
                yield {"peer": f"{title(name)}, ensemble of {seed}", "round": 1, **row}


def train(configs: str, seed: int, args: argparse.Namespace, logs: Path) -> tuple[Row, str]:
    """Train with the command-line program; the figures, and the last checkpoint."""
    flags = [f"--seed_everything={seed}", *programs.limits(args.steps, "train", "val")]
    if args.epochs:
        flags += [f"--trainer.max_epochs={args.epochs}", "--trainer.check_val_every_n_epoch=1"]
    done = programs.fit(configs, *flags, logs=logs)
    seconds = {"train_s": done.train_s, "s": done.train_s + done.val_s, "process_s": done.process_s}
    last = {figure: done.epochs[-1][figure] for figure in ("loss", "val_accuracy")}
    return {**seconds, **last, "epochs": done.epochs}, f"{done.folder}/checkpoints/last.ckpt"


def train_peer(name: str, seed: int, args: argparse.Namespace, record: Record) -> Row:
    """Train another way; the versions that it names go into the record."""
    flags, python = [f"--seed={seed}", *([f"--steps={args.steps}"] if args.steps else [])], None
    if name == "keras":
        python = args.keras_python = args.keras_python or programs.keras_environment()
        flags += [f"--epochs={args.epochs}"] if args.epochs else []
    lines, process_s = programs.peer(name, *flags, python=python)
    epochs = [line for line in lines if "loss" in line]
    record["versions"] |= lines[0] if name == "keras" else {}
    seconds = {figure: sum(epoch[figure] for epoch in epochs) for figure in ("train_s", "s")}
    last = {figure: epochs[-1][figure] for figure in ("loss", "val_accuracy")}
    return {**seconds, "process_s": process_s, **last, "epochs": epochs}


def ensemble(checkpoints: list[str]) -> float:
    """The test accuracy of the nets' mean probability, as ``export`` says it."""
    flags = ["--format", "safetensors", "--out", f"{checkpoints[0]}.safetensors"]
    done = programs.run([sys.executable, "-m", "mnist_cnn", "export", *checkpoints, *flags])
    return float(programs.printed(r"test_accuracy: ([\d.]+)", done.out)[0])
