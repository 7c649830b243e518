"""Starts the programs that are measured, each in a process of its own, and reads their results."""

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
from typing import NamedTuple

from benchmarks.records import Row

ROOT = Path(__file__).parent.parent
FIGURES = ("s", "loss", "accuracy", "val_loss", "val_accuracy")  # of an epoch


class Done(NamedTuple):
    """A program that has ended well."""

    out: str
    s: float  # from its start to its end
    peak_mb: float  # the most memory that one of its processes had resident, in 10^6 bytes


class Fit(NamedTuple):
    """What a ``fit`` says of itself."""

    train_s: float  # of all epochs, validation left out
    val_s: float
    epochs: list[Row]
    folder: str  # of its logs and checkpoints
    process_s: float
    peak_mb: float


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Done:
    """Run a program in the project's folder; leave with the end of what it said if it fails.

    Linux counts what this process has resident as the program's, at its start: for a true
    `Done.peak_mb` this process has to stay small, and import no torch. The environment variables
    `env` come on top of this process's.
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
    configs: str,  # names, the later laid over the earlier ones: fast+bf16
    *flags: str,
    devices: int = 1,  # processes that share the training
    accelerator: str = "cpu",
    logs: Path | None = None,  # where it logs to; else a folder that is deleted at the end
    env: Mapping[str, str] | None = None,
) -> Fit:
    """Run ``python -m mnist_cnn fit`` to its end."""
    with tempfile.TemporaryDirectory() as temporary:
        done = run(
            [
                *(sys.executable, "-m", "mnist_cnn", "fit"),
                *(f"--config=configs/{name}.yaml" for name in configs.split("+")),
                *(f"--trainer.accelerator={accelerator}", f"--trainer.devices={devices}"),
                *(["--trainer.strategy=ddp"] if devices > 1 else []),
                *(f"--trainer.logger.init_args.save_dir={logs or temporary}", *flags),
            ],
            env,
        )
    train_s, val_s = printed(r"Training took ([\d.]+) s, validation ([\d.]+) s", done.out)
    (folder,) = printed(r"Logs: +(.*)", done.out)
    seconds = float(train_s), float(val_s)
    return Fit(*seconds, epochs(done.out), folder, done.s, done.peak_mb)


def limits(steps: int | None, *parts: str) -> list[str]:
    """Flags that shorten the parts of an epoch, ``train`` and ``val``."""
    return [f"--trainer.limit_{part}_batches={steps}" for part in parts if steps]


def epochs(out: str) -> list[Row]:
    """The epochs of a ``fit``, read off the lines that it prints."""
    number = r"\s+([\d.]+)"
    lines = re.findall(rf"^ *(\d+)/\d+{number * len(FIGURES)}$", out, re.MULTILINE)
    rows = [
        {"epoch": int(n), **dict(zip(FIGURES, map(float, of), strict=True))} for n, *of in lines
    ]
    return list({row["epoch"]: row for row in rows}.values())  # the summary repeats them


def history(checkpoint: str) -> list[Row]:
    """What a run's last checkpoint says of each epoch: seconds in all ("s"), in validation."""
    code = (
        "import json, sys, torch; content = torch.load(sys.argv[1], weights_only=True);"
        "print(json.dumps(content['callbacks']['Report']['history']))"
    )
    rows: list[Row] = json.loads(run([sys.executable, "-c", code, checkpoint]).out)
    return rows


def printed(pattern: str, out: str) -> tuple[str, ...]:
    """What the groups of a regular expression find in a program's output."""
    match = re.search(pattern, out)
    if match is None:
        sys.exit(f"nothing like {pattern!r} in what was printed:\n{out[-3000:]}")
    return match.groups()


def peer(
    program: str, *flags: str, python: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[list[Row], float]:
    """The JSON lines of another way to train, ``benchmarks.{program}_peer``; its seconds in all."""
    done = run([str(python or sys.executable), "-m", f"benchmarks.{program}_peer", *flags], env)
    return [json.loads(line) for line in done.out.splitlines() if line.startswith("{")], done.s


def warm_up() -> None:
    """Let a step of the program fetch MNIST, and compile what it compiles on its first use."""
    fit("cnn", "--trainer.max_epochs=1", *limits(1, "train", "val"))


def keras_environment() -> Path:
    """A virtual environment with Keras on TensorFlow, made on first use (2 GB)."""
    folder = ROOT / "build" / "keras-env"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"Setting up Keras in {folder} …", flush=True)
        venv.create(folder, with_pip=True)
        run([str(python), "-m", "pip", "install", "--quiet", "keras", "tensorflow-cpu"])
        (folder / "ready").touch()
    return python
