"""Programs that the benchmarks measure, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
BF16 = ("--config", "configs/bf16.yaml")
FIGURES = ("s", "loss", "accuracy", "val_loss", "val_accuracy")  # of an epoch


class Done(NamedTuple):
    """A program that has ended well."""

    out: str
    s: float  # from its start to its end
    peak_mb: float  # the most memory that one of its processes had resident, in 10^6 bytes


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Done:
    """Run a program in the project's folder; leave with the end of what it said if it fails.

    Linux counts what this process has resident as the program's, at its start: for a true
    `Done.peak_mb` this process has to stay small, and import no torch.

    Args:
        command: The program and its arguments.
        env: Environment variables on top of this process's.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **(env or {})}, stdout=out, stderr=err
        )
        _, status, usage = os.wait4(process.pid, 0)  # of it and of the processes it started
        seconds = perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, err):
            file.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}\nfailed:\n{(out.read() + err.read())[-3000:]}")
        unit = 1 if sys.platform == "darwin" else 1024  # bytes
        return Done(out.read(), seconds, usage.ru_maxrss * unit / 1e6)


def fit(
    *flags: str, logs: str | Path, devices: int = 1, program: Sequence[str] = ("mnist_cnn",)
) -> list[str]:
    """The command ``python -m mnist_cnn fit``, on the CPU.

    Args:
        flags: Flags; they begin with the configuration.
        logs: The folder that it logs to.
        devices: Number of processes that share the training.
        program: Module, and arguments before ``fit``, of a program that stands in for it.
    """
    return [
        *(sys.executable, "-m", *program, "fit", *flags),
        *("--trainer.accelerator=cpu", f"--trainer.devices={devices}"),
        *(["--trainer.strategy=ddp"] if devices > 1 else []),
        f"--trainer.logger.init_args.save_dir={logs}",
    ]


def warm_up() -> None:
    """Let a step of the program fetch MNIST, and compile what it compiles on its first use."""
    limits = (f"--trainer.limit_{part}_batches=1" for part in ("train", "val"))
    with tempfile.TemporaryDirectory() as logs:
        run(fit("--config", "configs/cnn.yaml", "--trainer.max_epochs=1", *limits, logs=logs))


def fit_epochs(out: str, epochs: int) -> list[dict[str, float | None]]:
    """The epochs of a ``fit``, read off the lines that it prints."""
    number = r"\s+([\d.]+)"
    lines = re.findall(rf"^ *(\d+)/\d+{number * len(FIGURES)}$", out, re.MULTILINE)
    rows: list[dict[str, float | None]] = [
        dict(zip(("epoch", *FIGURES), map(float, line), strict=True)) for line in lines
    ]
    return rows[-epochs:]  # the summary at the end repeats them


class Trained(NamedTuple):
    """What a ``fit`` says of itself at its end."""

    train_s: float
    accuracy: float  # on the test images
    process_s: float  # of the whole program
    out: str


def trained(*flags: str, logs: str | Path) -> Trained:
    """Run the command-line program's ``fit`` with the flags, to its end."""
    done = run(fit(*flags, logs=logs))
    accuracy = printed(r"Test accuracy: ([\d.]+)", done.out)
    return Trained(fit_seconds(done.out)[0], accuracy, done.s, done.out)


def fit_seconds(out: str) -> tuple[float, float]:
    """Seconds of training and of validation in all epochs of a ``fit``, as its summary says."""
    return printed(r"Training took ([\d.]+) s, validation", out), printed(
        r"Training took .* validation ([\d.]+) s", out
    )


def printed(pattern: str, out: str) -> float:
    """The number that a program printed, the one group of a regular expression."""
    match = re.search(pattern, out)
    if match is None:
        sys.exit(f"nothing like {pattern!r} in what was printed:\n{out[-3000:]}")
    return float(match[1])


def json_lines(out: str) -> list[dict[str, Any]]:
    """The lines of a program's output that are JSON objects."""
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def keras_peer(python: Path, *flags: str) -> list[str]:
    """The command of the published run in real Keras."""
    return [str(python), "benchmarks/keras_peer.py", *flags]


def keras_environment() -> Path:
    """A virtual environment with Keras on TensorFlow, made on first use (2 GB)."""
    folder = ROOT / "build" / "keras-env"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"Setting up Keras in {folder} …", flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "keras", "tensorflow-cpu"], check=True
        )
        (folder / "ready").touch()
    return python
