"""Seconds of a training epoch of 60,000 images, and with validation on 10,000, beside the peers.

Each round has a seed of its own, runs each peer once, in a process of its own, and begins with
another one:

ours       python -m mnist_cnn fit --config configs/cnn.yaml: metrics, logs, checkpoints and all
bf16       the same with --config configs/bf16.yaml; left out where the CPU has no such products
bare       the same training in a plain loop, without Lightning, metrics, logs, checkpoints
keras      the published run in real Keras, once it has traced its functions
torch      the same net in the way of the official PyTorch example
lightning  a port of the Keras run to Lightning line by line

All but Keras count their first step. Five rounds take about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.programs import (
    BF16,
    fit,
    fit_epochs,
    fit_seconds,
    json_lines,
    keras_environment,
    keras_peer,
    run,
)
from benchmarks.records import (
    WITHOUT_BF16,
    Record,
    Row,
    Spread,
    has_bf16,
    markdown,
    provenance,
    spread,
    summary,
    taking_turns,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The flags of this project's own, the commands of the others.
OURS = {"ours": ["--config", "configs/cnn.yaml"], "bf16": ["--config", "configs/cnn.yaml", *BF16]}
OTHERS = {
    "bare": [sys.executable, "-m", "benchmarks.bare_loop"],
    "torch": [sys.executable, "benchmarks/torch_peer.py"],
    "lightning": [sys.executable, "benchmarks/lightning_peer.py"],
}
TITLES = {
    "ours": "mnist_cnn",
    "bf16": "mnist_cnn, bf16",
    "bare": "mnist_cnn's net in a bare loop",
    "keras": "Keras on {backend}",
    "torch": "PyTorch example",
    "lightning": "plain Lightning port",
}
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
TRAIN_IMAGES, BATCH_SIZE = 60_000, 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="+", choices=TITLES, help="all, unless given")
    parser.add_argument("--steps", type=int, help="shorten the epoch, and the validation")
    parser.add_argument(
        "--keras-python", type=Path, help="a Python that has Keras; by default one is set up"
    )


def measure(args: argparse.Namespace, record: Record) -> Iterator[Row]:
    """Yield a row for each epoch."""
    peers = args.peers or list(TITLES)
    if not args.peers and not has_bf16():
        peers.remove("bf16")
        record["notes"].append(WITHOUT_BF16)
    others = dict(OTHERS)
    if "keras" in peers:
        python = args.keras_python or keras_environment()
        others["keras"] = keras_peer(python, "--epochs=1", "--warm-up")
    for number in range(args.rounds):
        for peer in taking_turns(peers, number):
            seed = number + 1
            if peer in OURS:
                row = our_epoch(OURS[peer], seed, args.steps)
            else:
                row, versions = other_epoch(others[peer], seed, args.steps)
                record["versions"] |= versions
            backend = BACKENDS.get(record["versions"].get("backend"))
            images = min(TRAIN_IMAGES, BATCH_SIZE * (args.steps or TRAIN_IMAGES))
            yield {
                "peer": TITLES[peer].format(backend=backend),
                "round": number + 1,
                **{name: row[name] for name in ("train_s", "s", "loss", "val_accuracy")},
                "images_per_s": images / row["train_s"],
            }


def our_epoch(configs: list[str], seed: int, steps: int | None) -> Row:
    """An epoch of the command-line program."""
    limits = [f"--trainer.limit_{part}_batches={steps}" for part in ("train", "val") if steps]
    with tempfile.TemporaryDirectory() as logs:
        flags = ("--trainer.max_epochs=1", f"--seed_everything={seed}", *limits)
        done = run(fit(*configs, *flags, logs=logs))
    train_s, val_s = fit_seconds(done.out)
    (epoch,) = fit_epochs(done.out, 1)
    return {**epoch, "train_s": train_s, "s": train_s + val_s}


def other_epoch(command: list[str], seed: int, steps: int | None) -> tuple[Row, dict[str, str]]:
    """An epoch of a peer, and the versions that it names."""
    limit = [f"--steps={steps}"] if steps else []
    *versions, row = json_lines(run([*command, f"--seed={seed}", *limit]).out)
    return row, versions[0] if versions else {}


def table(record: Record) -> str:
    """The record as a Markdown table, and what it says of the trainer's overhead."""
    peers = fastest_first(record)
    medians = {peer: figures["train_s"].median for peer, figures in peers.items()}

    def ratio(peer: str, other: str) -> str:
        others = [seconds for name, seconds in medians.items() if name.startswith(other)]
        return f"{medians[peer] / others[0]:.2f}" if others else "–"

    rows = [
        [
            peer,
            f"{figures['train_s'].median:.1f}",
            figures["train_s"].text(1),
            f"{figures['s'].median:.1f}",
            f"{figures['images_per_s'].median:.0f}",
            ratio(peer, "Keras"),
            ratio(peer, TITLES["lightning"]),
        ]
        for peer, figures in peers.items()
    ]
    header = ["an epoch of", "training, s: median", "range", "with validation, s", "images/s"]
    lines = [markdown([*header, "of Keras's time", "of the plain port's"], rows), ""]
    if TITLES["ours"] in medians and TITLES["bare"] in medians:
        overhead = medians[TITLES["ours"]] / medians[TITLES["bare"]] - 1
        lines.append(
            f"Trainer, metrics, logs and checkpoints add {100 * overhead:.1f} % to the bare loop."
        )
    ours, bf16 = (
        [row["val_accuracy"] for row in record["rows"] if row["peer"] == TITLES[peer]]
        for peer in OURS
    )
    if min(len(ours), len(bf16)) > 1:
        from scipy.stats import ttest_ind

        p = ttest_ind(ours, bf16, equal_var=False).pvalue
        lines.append(
            f"Test accuracy after the epoch: {spread(ours).plus_minus()} in float32, "
            f"{spread(bf16).plus_minus()} in bf16; Welch's t-test of a difference: p = {p:.2f}."
        )
    rounds = max(figures["train_s"].n for figures in peers.values())
    return "\n".join([*lines, f"{rounds} round(s) on {provenance(record)}"])


def draw(record: Record) -> Figure:
    """Bars of the training's seconds."""
    from benchmarks.plots import bars

    seconds = {peer: figures["train_s"] for peer, figures in fastest_first(record).items()}
    return bars(seconds, "seconds of a training epoch", 1)


def fastest_first(record: Record) -> dict[str, dict[str, Spread]]:
    """The summary, by the training's median."""
    peers = summary(record["rows"]).items()
    return dict(sorted(peers, key=lambda item: item[1]["train_s"].median))
