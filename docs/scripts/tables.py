"""Rewrite the tables of README.md and docs/*.md from the records in ``benchmarks/results``.

    python -m docs.scripts.tables

A page says where a table belongs by ``<!-- table NAME -->`` and ``<!-- end -->``; NAME is a
function of this file. A test sees that all pages are current.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from docs.scripts.curves import FIGURES
from docs.scripts.published_keras import EPOCHS

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(?<=<!-- table )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
TABLES: dict[str, Callable[[], str]] = {}

KERAS, PORT = "Keras on TensorFlow", "plain Lightning port"
RECORD_NET = "record net in plain PyTorch"
#: What the pages call the runs of the records.
NAMES = {
    "mnist_cnn": "this project, with metrics, logs and checkpoints, float32",
    "mnist_cnn, bf16": "this project with `bf16.yaml`",
    "mnist_cnn's net in a bare loop": "its net in a bare loop, float32",
    "PyTorch example": "loop and loader of the official PyTorch example",
    PORT: "a plain Lightning port",
    "mnist_cnn, fast.yaml": "`fast.yaml`",
    "mnist_cnn, fast.yaml, bf16": "`fast.yaml` with `bf16.yaml`",
    RECORD_NET: "the record's net in plain PyTorch",
}


def table(function: Callable[[], str]) -> Callable[[], str]:
    """Let pages name a function."""
    TABLES[function.__name__] = function
    return function


@table
def published_curve() -> str:
    """Each epoch of the published run, beside this project's three seeds."""
    ours = record("compare_keras")["runs"]["mnist_cnn"]
    rows = []
    for number, published in enumerate(EPOCHS):
        rows.append([f"{number + 1}"])
        for name, value in zip(FIGURES, published, strict=True):
            rows[-1] += [f"{value:.4f}", mean_and_sd([run[number][name] for run in ours])]
    best = mean_and_sd([max(epoch["val_accuracy"] for epoch in run) for run in ours])
    published_best = max(epoch[FIGURES.index("val_accuracy")] for epoch in EPOCHS)
    return (
        markdown(curve_header("published"), rows)
        + f"\nBest val_accuracy of a run: published {published_best:.4f}, here {best}.\n"
    )


@table
def keras_curve() -> str:
    """Each epoch of real Keras and of this project, three seeds each."""
    runs = record("compare_keras")["runs"]
    rows = [
        [
            f"{number + 1}",
            *(
                mean_and_sd([run[number][name] for run in runs[who]])
                for name in FIGURES
                for who in ("keras", "mnist_cnn")
            ),
        ]
        for number in range(len(EPOCHS))
    ]
    from scipy.stats import ttest_ind

    last = final_accuracies()
    keras, ours = map(mean_and_sd, last)
    return (
        markdown(curve_header("Keras"), rows)
        + f"\nFinal test accuracy: Keras {keras}, here {ours}; Welch's t-test of a difference: "
        f"p = {ttest_ind(*last, equal_var=False).pvalue:.2f}.\n\n"
        + measured_on(record("compare_keras"))
    )


def curve_header(other: str) -> list[str]:
    """The columns of a table of epochs."""
    return ["epoch", *(text for name in FIGURES for text in (f"{name}, {other}", "here"))]


@table
def epoch() -> str:
    """Seconds of an epoch beside the peers."""
    peers = by_peer(record("epoch"))
    medians = epoch_seconds()
    rows = [
        [
            NAMES.get(peer, peer),
            f"{medians[peer]:.1f} s",
            span([row["train_s"] for row in rows], 1),
            f"{medians[peer] / medians[KERAS]:.2f}",
            f"{medians[peer] / medians[PORT]:.2f}",
        ]
        for peer, rows in sorted(peers, key=lambda item: medians[item[0]])
    ]
    header = ["an epoch of 60,000 images", "training, median", "range"]
    header += ["of Keras's time", "of the plain port's"]
    overhead = medians["mnist_cnn"] / medians["mnist_cnn's net in a bare loop"] - 1
    return (
        markdown(header, rows)
        + f"\nTrainer, metrics, logs and checkpoints add {overhead:.1%} to the bare loop.\n\n"
        + measured_on(record("epoch"))
    )


@table
def fast() -> str:
    """Accuracy and seconds of fast.yaml beside the record net."""
    peers = by_peer(record("accuracy"))
    reference = statistics.median(row["train_s"] for row in dict(peers)[RECORD_NET])
    rows = []
    for peer in (RECORD_NET, "mnist_cnn, fast.yaml", "mnist_cnn, fast.yaml, bf16"):
        runs = dict(peers)[peer]
        seconds = [run["train_s"] for run in runs]
        rows.append(
            [
                NAMES[peer],
                mean_and_sd([run["accuracy"] for run in runs]),
                f"{statistics.median(seconds):.2f} s",
                span(seconds, 2),
                f"{statistics.median(seconds) / reference:.2f}",
                f"{statistics.median(run['process_s'] for run in runs):.1f} s",
            ]
        )
    header = ["", "test accuracy: mean ± deviation", "training, median", "range"]
    header += ["of the record net's time", "whole program"]
    return markdown(header, rows) + f"\n{len(runs)} seeds each. " + measured_on(record("accuracy"))


@table
def accuracy() -> str:
    """The test accuracy that each way reaches, and what it takes."""
    keras, ours = (mean_and_sd(accuracies) for accuracies in final_accuracies())
    seconds = epoch_seconds()
    net, *_, ensemble = (rows for _, rows in by_peer(record("record")))
    nets = mean_and_sd([row["accuracy"] for row in net])
    net_seconds = statistics.mean(row["train_s"] for row in net)
    (of_all,) = ensemble
    header = ["", "test accuracy", "training", "command"]
    cells = [
        *("the published run, best of 12 epochs", "0.9914", "1,490 s to the best", ""),
        *(f"{KERAS}, 12 epochs, three seeds", keras, f"12 × {seconds[KERAS]:.0f} s"),
        "`make compare-keras`",
        *("`cnn.yaml`, 12 epochs, three seeds", ours, f"12 × {seconds['mnist_cnn']:.0f} s"),
        "`mnist-cnn fit`",
        *("`record.yaml`, 15 epochs, three seeds", nets, f"{net_seconds:.0f} s"),
        "`mnist-cnn fit --config record.yaml`",
        *("the mean probability of these three nets", f"{of_all['accuracy']:.4f}"),
        *(f"{of_all['train_s']:,.0f} s", 'make benchmark ARGS="record --seeds 3"'),
    ]
    rows = [cells[place : place + 4] for place in range(0, len(cells), 4)]
    return (
        markdown(header, rows)
        + f"\nThe rows of `record.yaml`: {measured_on(record('record'))}"
        + f"\nThe others: {measured_on(record('epoch'))}"
    )


@table
def startup() -> str:
    """Seconds that commands take to start."""
    peers = by_peer(record("startup"))
    medians = {peer: statistics.median(row["s"] for row in rows) for peer, rows in peers}
    first = next(iter(medians.values()))
    rows = [[f"`{peer}`", f"{s:.2f} s", f"{s / first:.2f}"] for peer, s in medians.items()]
    header = ["command", "median", "of the first"]
    return markdown(header, rows) + "\n" + measured_on(record("startup"))


@table
def batch_sizes() -> str:
    """Images a second and memory for each batch size."""
    found = {}
    for peer, rows in by_peer(record("scaling")):
        if match := re.fullmatch(r"batch (\d+), processes x threads 1 x 2", peer):
            found[int(match[1])] = rows
    rates, memory = (
        [f"{statistics.median(row[what] for row in found[size]):.0f}" for size in sorted(found)]
        for what in ("images_per_s", "peak_mb")
    )
    return (
        markdown(
            ["batch size", *map(str, sorted(found))],
            [["images/s", *rates], ["peak memory, MB", *memory]],
        )
        + "\n"
        + measured_on(record("scaling"))
    )


@table
def processes() -> str:
    """Images a second of threads and processes."""
    labels = {"1 x 1": "one thread", "1 x 2": "two threads", "2 x 1": "two processes of one thread"}
    peers = dict(by_peer(record("scaling")))
    rates = {
        label: statistics.median(
            row["images_per_s"] for row in peers[f"batch 128, processes x threads {shape}"]
        )
        for shape, label in labels.items()
    }
    most = rates["two threads"]
    rows = [[label, f"{rate:.0f}", f"{rate / most:.2f}"] for label, rate in rates.items()]
    return markdown(["`cnn.yaml`, batches of 128", "images/s", "of two threads'"], rows)


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
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in measured["rows"]:
        groups.setdefault((row["connections"], row["server"]), []).append(row)
    rows = [
        [
            f"{connections}",
            server,
            f"{statistics.median(row['requests/s'] for row in of):.0f}",
            f"{statistics.median(row['p50_ms'] for row in of):.1f}",
            f"{statistics.median(row['p99_ms'] for row in of):.1f}",
            f"{sum(row['lost'] + row['wrong'] for row in of)}",
        ]
        for (connections, server), of in groups.items()
    ]
    header = ["connections", "server", "requests/s", "p50, ms", "p99, ms", "lost or wrong"]
    return markdown(header, rows) + "\n" + measured_on(measured)


@table
def headline() -> str:
    """The README's four figures."""
    keras, ours = (mean_and_sd(accuracies) for accuracies in final_accuracies())
    seconds = epoch_seconds()
    on_gpu = {row["key"]: row["seconds"] for row in record("h200")["rows"] if "key" in row}
    small = dict(by_peer(record("accuracy")))["mnist_cnn, fast.yaml"]
    small_seconds = statistics.median(row["train_s"] for row in small)
    large = dict(by_peer(record("record")))["record.yaml"]
    minutes = statistics.mean(row["train_s"] for row in large) / 60
    rows = [
        [
            "test accuracy after 12 epochs",
            f"**{ours}**; real Keras {keras}",
            "[results](docs/results.md#beside-real-keras-on-the-same-machine)",
        ],
        [
            "an epoch on two CPU cores",
            f"**{seconds['mnist_cnn']:.1f} s**; Keras {seconds[KERAS]:.1f} s. On a GPU Keras is "
            f"faster today: {on_gpu['keras']} s on JAX against {on_gpu['cnn']} s",
            "[speed](docs/speed.md)",
        ],
        [
            "the published accuracy, 0.9914",
            f"**{mean_and_sd([row['accuracy'] for row in small])}** after {small_seconds:.1f} s "
            "of training (`fast.yaml`, two CPU cores)",
            "[speed](docs/speed.md#the-published-accuracy-in-two-seconds)",
        ],
        [
            "best accuracy of one net",
            f"**{mean_and_sd([row['accuracy'] for row in large])}** after {minutes:.0f} minutes "
            "(`record.yaml`, two CPU cores)",
            "[results](docs/results.md#the-best-accuracy)",
        ],
    ]
    return markdown(["", "", "more"], rows)


def final_accuracies() -> list[list[float]]:
    """The test accuracies after the last epoch, of Keras's runs and of ours."""
    runs = record("compare_keras")["runs"]
    return [[run[-1]["val_accuracy"] for run in runs[who]] for who in ("keras", "mnist_cnn")]


def epoch_seconds() -> dict[str, float]:
    """The median seconds of an epoch's training, of each peer."""
    peers = by_peer(record("epoch"))
    return {peer: statistics.median(row["train_s"] for row in rows) for peer, rows in peers}


def rows_of(name: str) -> str:
    """A record whose rows are the table's."""
    measured = record(name)
    rows = [[row["what"], row["seconds"]] for row in measured["rows"]]
    return markdown([measured["title"], "seconds"], rows) + "\n" + measured_on(measured)


def record(name: str) -> Any:
    """A benchmark's record."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def by_peer(measured: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The rows of a record by who ran, in the order of the first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in measured["rows"]:
        groups.setdefault(row["peer"], []).append(row)
    return list(groups.items())


def mean_and_sd(values: Sequence[float]) -> str:
    """Accuracies or losses of several seeds.

    >>> mean_and_sd([0.99, 0.992])
    '0.9910 ± 0.0014'
    """
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def span(values: Sequence[float], digits: int) -> str:
    """The least and the most.

    >>> span([2.0, 1.0], 1)
    '1.0–2.0'
    """
    return f"{min(values):.{digits}f}–{max(values):.{digits}f}"


def measured_on(measured: dict[str, Any]) -> str:
    """The line below a table: machine and versions."""
    machine = measured["machine"]
    where = machine.get("gpu") or f"{machine['cores']} cores of an {machine['cpu']}"
    where = where.replace("(R)", "").replace(" Processor", "")
    versions = {k: v for k, v in measured["versions"].items() if k not in ("mnist-cnn", "backend")}
    return f"{where}; " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ".\n"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    first, *others = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return "\n".join([first, "|---" * len(header) + "|", *others]) + "\n"


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
