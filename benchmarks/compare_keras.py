"""Real Keras and this project, side by side on this machine: the curve, the accuracy, the time.

    python -m benchmarks.compare_keras --seeds 3 --epochs 12

Trains both with the same seeds, one run at a time, taking turns, each as its user would run it:
``python -m mnist_cnn fit --config configs/cnn.yaml`` and ``keras_peer.py``. Keras lives in an
environment of its own, which is made on first use. Prints a table and writes a JSON record.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.programs import (
    FIGURES,
    ROOT,
    fit,
    fit_epochs,
    json_lines,
    keras_environment,
    keras_peer,
    run,
)
from benchmarks.records import machine, markdown, our_versions, provenance, write_record

Run = list[dict[str, float | None]]  # one row an epoch; None: not to be used


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, with seeds 1, 2, …")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument(
        "--keras-python", type=Path, help="a Python that has Keras; by default one is set up"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/compare_keras.json")
    parser.add_argument("--tb-logs", type=Path, help="where to keep this project's logs")
    args = parser.parse_args(argv)

    from mnist_cnn.mnist_files import prepare_mnist

    prepare_mnist("data")
    keras_python = args.keras_python or keras_environment()
    runs: dict[str, list[Run]] = {"keras": [], "mnist_cnn": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, args.seeds + 1):
            keras, versions = run_keras(keras_python, seed, args.epochs)
            runs["keras"].append(keras)
            ours = run_ours(seed, args.epochs, args.tb_logs or Path(folder))
            runs["mnist_cnn"].append(ours)
            print(f"seed {seed}: Keras {keras[-1]}, mnist_cnn {ours[-1]}", flush=True)

    record = {
        "machine": machine(),
        "versions": versions | our_versions(),
        "runs": runs,
        "notes": [],
    }
    write_record(args.out, record)
    print(table(record))


def run_keras(python: Path, seed: int, epochs: int) -> tuple[Run, dict[str, str]]:
    """Rows and versions of a run of Keras."""
    done = run(keras_peer(python, "--seed", str(seed), "--epochs", str(epochs)))
    versions, *rows = json_lines(done.out)
    return rows, versions


def run_ours(seed: int, epochs: int, tb_logs: Path) -> Run:
    """Rows of a run of ``python -m mnist_cnn fit``."""
    flags = ("--seed_everything", str(seed), "--trainer.max_epochs", str(epochs))
    done = run(fit("--config", "configs/cnn.yaml", *flags, logs=tb_logs))
    return fit_epochs(done.out, epochs)


def table(record: dict[str, Any]) -> str:
    """The record as a Markdown table of mean ± standard deviation over the seeds, and verdicts."""
    runs: dict[str, list[Run]] = record["runs"]
    keras, ours = runs["keras"], runs["mnist_cnn"]
    rows = []
    for epoch in range(len(keras[0])):
        cells = [
            _mean_and_spread(_values(peer, what, epoch), digits=1 if what == "s" else 4)
            for what in FIGURES
            for peer in (keras, ours)
        ]
        rows.append([f"{epoch + 1}", *cells])
    header = [f"{who} {what}" for what in FIGURES for who in ("Keras", "ours")]
    seconds = [statistics.median(_values(peer, "s")) for peer in (keras, ours)]
    lines = [
        markdown(["epoch", *header], rows),
        "",
        f"Median seconds an epoch, validation included: Keras {seconds[0]:.1f}, "
        f"mnist_cnn {seconds[1]:.1f}, ratio {seconds[1] / seconds[0]:.2f}.",
    ]
    final = [_values(peer, "val_accuracy", -1) for peer in (keras, ours)]
    if len(keras) > 1:
        from scipy.stats import ttest_ind

        p = ttest_ind(*final, equal_var=False).pvalue
        lines.append(
            f"Final test accuracy: Keras {_mean_and_spread(final[0])}, mnist_cnn "
            f"{_mean_and_spread(final[1])}; Welch's t-test of a difference: p = {p:.2f}."
        )
    lines.append(f"{len(keras)} seeds each on {provenance(record)}")
    return "\n".join([*lines, *record["notes"]])


def _values(runs: list[Run], what: str, epoch: int | None = None) -> list[float]:
    """A figure of all runs, of one epoch or of all."""
    rows = [row for run in runs for row in (run if epoch is None else [run[epoch]])]
    return [value for row in rows if (value := row[what]) is not None]


def _mean_and_spread(values: list[float], digits: int = 4) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


if __name__ == "__main__":
    main()
