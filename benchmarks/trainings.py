"""Whole trainings over seeds, this project's and its peers': what five benchmarks measure.

Each seed trains each once, in a process of its own, and they take turns in being the first. Names,
each with flags of the program's own behind it where they are wanted (``"cnn --data.chunks=4"``):

cnn, fast+bf16, …  python -m mnist_cnn fit --config configs/fast.yaml --config configs/bf16.yaml
bare               cnn in a plain loop, without Lightning, metrics, logs, checkpoints
keras              the published run in real Keras, once it has traced its functions
torch              the same net in the way of the official PyTorch example
lightning          a port of the Keras run to Lightning line by line
public             net, optimizer and schedule of the public record
gpu                the same net as torch's in a plain loop, the data on the GPU; no validation
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import programs, records
from benchmarks.records import Record, Row

TITLES = {
    "bare": "cnn.yaml in a bare loop",
    "keras": "Keras",
    "torch": "PyTorch example",
    "lightning": "plain Lightning port",
    "public": "public record net",
    "gpu": "plain loop",
}
#: The programs of those that are no `benchmarks.NAME_peer`.
PROGRAMS = {"torch": ("torch", "example"), "public": ("torch", "public"), "gpu": ("torch", "gpu")}


def title(name: str) -> str:
    """What the record and its tables call a training.

    >>> title("fast+bf16"), title("lightning --workers=8")
    ('fast.yaml + bf16.yaml', 'plain Lightning port --workers=8')
    """
    program, *flags = name.split()
    ours = " + ".join(f"{part}.yaml" for part in program.split("+"))
    return " ".join([TITLES.get(program, ours), *flags])


def options(peers: Sequence[str], seeds: int, epochs: int | None = None) -> dict[str, Any]:
    """The options, with a benchmark's own defaults.

    Where the CPU has no products in bf16 these are left out, unless they are asked for.
    """
    peers = [name for name in peers if records.has_bf16() or "bf16" not in name]
    ours = {"peers": peers, "seeds": seeds, "epochs": epochs, "accelerator": "cpu"}
    return ours | dict.fromkeys(("steps", "logs", "keras-python")) | {"ensembles": False}


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each training, and for each ensemble."""
    nets: dict[str, list[str]] = {name: [] for name in args.peers}
    seconds = dict.fromkeys(args.peers, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        logs = args.logs.resolve() if args.logs else Path(folder)
        for seed, name in records.taking_turns(args.peers, args.seeds):
            if name.split()[0] in TITLES:
                yield {"peer": title(name), "round": seed, **train_peer(name, seed, args, record)}
                continue
            row, net = train(name, seed, args, logs)
            yield {"peer": title(name), "round": seed, **row}
            nets[name].append(net)
            seconds[name] += row["train_s"]
            if args.ensembles and seed > 1:
                row = {"train_s": seconds[name], "val_accuracy": ensemble(nets[name])}
                yield {"peer": f"{title(name)}, ensemble of {seed}", "round": 1, **row}


def train(name: str, seed: int, args: argparse.Namespace, logs: Path) -> tuple[Row, str]:
    """Train with the command-line program; the figures, and the last checkpoint."""
    configs, *flags = name.split()
    flags += [f"--seed_everything={seed}", *programs.limits(args.steps, "train", "val")]
    if args.epochs:
        flags += [f"--trainer.max_epochs={args.epochs}", "--trainer.check_val_every_n_epoch=1"]
    done = programs.fit(configs, *flags, accelerator=args.accelerator, logs=logs)
    seconds = {"train_s": done.train_s, "s": done.train_s + done.val_s, "process_s": done.process_s}
    last = f"{done.folder}/checkpoints/last.ckpt"
    if args.accelerator == "gpu":  # where what is printed of an epoch is too coarse
        for epoch, row in zip(done.epochs, programs.history(last), strict=True):
            epoch |= {"s": row["s"], "train_s": row["s"] - row["val_s"]}
    return seconds | of_last(done.epochs), last


def train_peer(name: str, seed: int, args: argparse.Namespace, record: Record) -> Row:
    """Train another way; the versions that it names go into the record."""
    way, *flags = name.split()
    program, *command = PROGRAMS.get(way, (way,))
    flags += [f"--seed={seed}", *(f"--epochs={n}" for n in [args.epochs] if n)]
    flags += [f"--steps={n}" for n in [args.steps] if n]
    python = None
    if program == "keras":
        python = args.keras_python = args.keras_python or programs.keras_environment()
    # Each takes the GPU that it sees.
    env = {"CUDA_VISIBLE_DEVICES": ""} if args.accelerator == "cpu" else {}
    lines, process_s = programs.peer(program, *command, *flags, python=python, env=env)
    epochs = [line for line in lines if "loss" in line]
    record["versions"] |= lines[0] if program == "keras" else {}
    figures = [name for name in ("train_s", "s") if name in epochs[0]]
    seconds: Row = {figure: sum(epoch[figure] for epoch in epochs) for figure in figures}
    return {**seconds, "process_s": process_s, **of_last(epochs)}


def of_last(epochs: list[Row]) -> Row:
    """The figures after the last epoch, and those of all."""
    last: Row = {name: epochs[-1][name] for name in ("loss", "val_accuracy") if name in epochs[-1]}
    return {**last, "epochs": epochs}


def ensemble(checkpoints: list[str]) -> float:
    """The test accuracy of the nets' mean probability, as ``export`` says it."""
    flags = ["--format", "safetensors", "--out", f"{checkpoints[0]}.safetensors"]
    done = programs.run([sys.executable, "-m", "mnist_cnn", "export", *checkpoints, *flags])
    return float(programs.printed(r"test_accuracy: ([\d.]+)", done.out)[0])
