"""Rewrite the tables of README.md and docs/*.md from the records in ``benchmarks/results``.

    python -m docs.scripts.tables

A page says where a table belongs by ``<!-- table NAME -->`` and ``<!-- end -->``; NAME is a
function of this file. A test sees that all pages are current.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import benchmarks.accuracy
import benchmarks.epoch
import benchmarks.scaling
import benchmarks.startup
from benchmarks.records import markdown
from docs.scripts.curves import FIGURES
from docs.scripts.published_keras import EPOCHS
from tests.support.serve_load import table as serve_load_table

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(?<=<!-- table )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
TABLES: dict[str, Callable[[], str]] = {}


def table(function: Callable[[], str]) -> Callable[[], str]:
    """Let pages name a function."""
    TABLES[function.__name__] = function
    return function


@table
def published_curve() -> str:
    """Each epoch of the published run, beside this project's three seeds."""
    ours = epochs_of("cnn.yaml")
    rows = []
    for number, published in enumerate(EPOCHS):
        rows.append([f"{number + 1}"])
        for name, value in zip(FIGURES, published, strict=True):
            rows[-1] += [f"{value:.4f}", mean_and_sd([run[number][name] for run in ours])]
    best = mean_and_sd([max(epoch["val_accuracy"] for epoch in run) for run in ours])
    published_best = max(epoch[FIGURES.index("val_accuracy")] for epoch in EPOCHS)
    return (
        markdown(curve_header("published"), rows)
        + f"\n\nBest val_accuracy of a run: published {published_best:.4f}, here {best}.\n"
    )


@table
def keras_curve() -> str:
    """Each epoch of real Keras and of this project, three seeds each."""
    runs = {who: epochs_of(who) for who in ("Keras", "cnn.yaml")}
    rows = [
        [
            f"{number + 1}",
            *(
                mean_and_sd([run[number][name] for run in runs[who]])
                for name in FIGURES
                for who in runs
            ),
        ]
        for number in range(len(EPOCHS))
    ]
    from scipy.stats import ttest_ind

    last = final_accuracies()
    keras, ours = map(mean_and_sd, last)
    return (
        markdown(curve_header("Keras"), rows)
        + f"\n\nFinal test accuracy: Keras {keras}, here {ours}; Welch's t-test of a difference: "
        f"p = {ttest_ind(*last, equal_var=False).pvalue:.2f}.\n\n"
        + measured_on(record("compare_keras"))
    )


def curve_header(other: str) -> list[str]:
    """The columns of a table of epochs."""
    return ["epoch", *(text for name in FIGURES for text in (f"{name}, {other}", "here"))]


def benchmark(name: str, module: Any) -> None:
    """Let pages name the table that ``python -m benchmarks NAME --table`` prints."""
    TABLES[name] = lambda: "\n".join([module.table(record(name)), *record(name)["notes"]]) + "\n"


for module in (benchmarks.epoch, benchmarks.scaling, benchmarks.startup):
    benchmark(module.__name__.rpartition(".")[2], module)
TABLES["fast"] = lambda: benchmarks.accuracy.table(record("accuracy")) + "\n"
TABLES["best"] = lambda: benchmarks.accuracy.table(record("record")) + "\n"


@table
def accuracy() -> str:
    """The test accuracy that each way reaches, and what it takes."""
    keras, ours = (mean_and_sd(accuracies) for accuracies in final_accuracies())
    nets = mean_and_sd(figures_of("record", "record.yaml", "val_accuracy"))
    seconds = statistics.mean(figures_of("record", "record.yaml", "train_s"))
    (of_three,) = figures_of("record", "record.yaml, ensemble of 3", "val_accuracy")
    rows = [
        ["the published run, best of 12 epochs", "0.9914", "1,490 s to the best"],
        ["Keras on TensorFlow, 12 epochs", keras, f"12 × {epoch_seconds('Keras'):.0f} s"],
        ["`cnn.yaml`, 12 epochs", ours, f"12 × {epoch_seconds('cnn.yaml'):.0f} s"],
        ["`record.yaml`, 15 epochs", nets, f"{seconds:.0f} s"],
        ["the mean probability of these three nets", f"{of_three:.4f}", f"{3 * seconds:,.0f} s"],
    ]
    return (
        markdown(["three seeds each", "test accuracy", "training"], rows)
        + f"\n\nThe rows of `record.yaml`: {measured_on(record('record'))}"
        + f"\nThe others: {measured_on(record('epoch'))}"
    )


@table
def gpu() -> str:
    """Seconds of an epoch on a GPU."""
    return rows_of("h200")


@table
def other_cpu() -> str:
    """Seconds of an epoch on a CPU with AVX-512 but without AMX."""
    return rows_of("zen4")


@table
def device_counts() -> str:
    """What the number of devices changes, as the benchmark prints it."""
    return (RESULTS / "device_counts.md").read_text()


@table
def device_counts_exact() -> str:
    """The same with exact.yaml."""
    return (RESULTS / "device_counts_exact.md").read_text()


@table
def pictures() -> str:
    """Pictures read rightly, as the benchmark prints it."""
    return (RESULTS / "pictures.md").read_text()


@table
def wrong() -> str:
    """The test images that the included model reads wrongly, as wrong.py prints them."""
    return (RESULTS / "wrong.md").read_text()


@table
def serve_load() -> str:
    """The server under load, beside plain FastAPI."""
    measured = record("serve_load")
    if "litserve" in measured["versions"]:
        return "Not measured yet with the present server: `make serve-load` does it.\n"
    return serve_load_table(measured) + "\n"


@table
def headline() -> str:
    """The README's four figures."""
    keras, ours = (mean_and_sd(accuracies) for accuracies in final_accuracies())
    on_gpu = {row["key"]: row["seconds"] for row in record("h200")["rows"] if "key" in row}
    small = mean_and_sd(figures_of("accuracy", "fast.yaml", "val_accuracy"))
    small_seconds = statistics.median(figures_of("accuracy", "fast.yaml", "train_s"))
    large = mean_and_sd(figures_of("record", "record.yaml", "val_accuracy"))
    minutes = statistics.mean(figures_of("record", "record.yaml", "train_s")) / 60
    rows = [
        [
            "test accuracy after 12 epochs",
            f"**{ours}**; real Keras {keras}",
            "[results](docs/results.md#beside-real-keras-on-the-same-machine)",
        ],
        [
            "an epoch on two CPU cores",
            f"**{epoch_seconds('cnn.yaml'):.1f} s**; Keras {epoch_seconds('Keras'):.1f} s. On a "
            f"GPU Keras is faster today: {on_gpu['keras']} s on JAX against {on_gpu['cnn']} s",
            "[speed](docs/speed.md)",
        ],
        [
            "the published accuracy, 0.9914",
            f"**{small}** after {small_seconds:.1f} s of training (`fast.yaml`, two CPU cores)",
            "[speed](docs/speed.md#the-published-accuracy-in-two-seconds)",
        ],
        [
            "best accuracy of one net",
            f"**{large}** after {minutes:.0f} minutes (`record.yaml`, two CPU cores)",
            "[results](docs/results.md#the-best-accuracy)",
        ],
    ]
    return markdown(["", "", "more"], rows) + "\n"


def epochs_of(peer: str) -> list[list[dict[str, float]]]:
    """The epochs of each run of a peer in the comparison with Keras."""
    return [run["epochs"] for run in record("compare_keras")["rows"] if run["peer"] == peer]


def final_accuracies() -> list[list[float]]:
    """The test accuracies after the last epoch, of Keras's runs and of ours."""
    return [[run[-1]["val_accuracy"] for run in epochs_of(who)] for who in ("Keras", "cnn.yaml")]


def figures_of(name: str, peer: str, figure: str) -> list[float]:
    """A figure of all runs of a peer in a record."""
    return [row[figure] for row in record(name)["rows"] if row["peer"] == peer]


def epoch_seconds(peer: str) -> float:
    """The median seconds of an epoch's training."""
    return statistics.median(figures_of("epoch", peer, "train_s"))


def rows_of(name: str) -> str:
    """A record whose rows are the table's."""
    measured = record(name)
    rows = [[row["what"], row["seconds"]] for row in measured["rows"]]
    return markdown([measured["title"], "seconds"], rows) + "\n\n" + measured_on(measured)


def record(name: str) -> Any:
    """A benchmark's record."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def mean_and_sd(values: Sequence[float]) -> str:
    """Accuracies or losses of several seeds.

    >>> mean_and_sd([0.99, 0.992])
    '0.9910 ± 0.0014'
    """
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def measured_on(measured: dict[str, Any]) -> str:
    """The line below a table: machine and versions."""
    machine = measured["machine"]
    where = machine.get("gpu") or f"{machine['cores']} cores of an {machine['cpu']}"
    where = where.replace("(R)", "").replace(" Processor", "")
    versions = {k: v for k, v in measured["versions"].items() if k not in ("mnist-cnn", "backend")}
    return f"{where}; " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ".\n"


def current(page: str) -> str:
    """A page's text with all its tables written anew."""
    return MARKED.sub(lambda match: f"{match[1]}{match[2]}\n{TABLES[match[1]]()}\n", page)


def main() -> None:
    """Rewrite what is not current."""
    for page in PAGES:
        text = page.read_text()
        if current(text) != text:
            page.write_text(current(text))
            print(f"rewrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
