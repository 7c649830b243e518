"""Rewrite the tables of README.md and docs/*.md from the records in ``benchmarks/results``.

    python -m docs.scripts.tables

A page says where a table belongs by ``<!-- table NAME -->`` and ``<!-- end -->``. NAME is a
function of this file, or a benchmark, whose own table it is then (``python -m benchmarks NAME
--table``). A test sees that all pages are current.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks.__main__ import BENCHMARKS
from benchmarks.records import Record, by_peer, compared, markdown, mean_sd, provenance
from docs.scripts.curves import FIGURES
from docs.scripts.published_keras import EPOCHS
from tests.support import serve_load as load

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(?<=<!-- table )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
BEST_PUBLISHED = max(epoch[FIGURES.index("val_accuracy")] for epoch in EPOCHS)


def headline() -> str:
    """The README's four figures."""
    keras, ours = (mean_sd(accuracies) for accuracies in final_accuracies().values())
    seconds = epoch_seconds()
    on_gpu = {row["key"]: row["seconds"] for row in record("h200")["rows"] if "key" in row}
    small = by_peer(record("accuracy")["rows"])["fast.yaml"]
    large = by_peer(record("record")["rows"])["record.yaml"]
    rows = [
        [
            "test accuracy after 12 epochs",
            f"**{ours}**; real Keras {keras}",
            "[results](docs/results.md#beside-real-keras-on-the-same-machine)",
        ],
        [
            "an epoch on two CPU cores",
            f"**{seconds['cnn.yaml']:.1f} s**; Keras {seconds['Keras']:.1f} s. On a GPU Keras is "
            f"faster today: {on_gpu['keras']} s on JAX against {on_gpu['cnn']} s",
            "[speed](docs/speed.md)",
        ],
        [
            f"the published accuracy, {BEST_PUBLISHED}",
            f"**{mean_sd(small['val_accuracy'])}**, at least {min(small['val_accuracy'])}, after "
            f"{statistics.median(small['train_s']):.1f} s of training (`fast.yaml`, two CPU cores)",
            "[speed](docs/speed.md#the-published-accuracy-in-seconds)",
        ],
        [
            "best accuracy of one net",
            f"**{mean_sd(large['val_accuracy'])}** after "
            f"{statistics.mean(large['train_s']) / 60:.0f} minutes (`record.yaml`, two CPU cores)",
            "[results](docs/results.md#the-best-accuracy)",
        ],
    ]
    return markdown(["", "", "more"], rows)


def published_curve() -> str:
    """Each epoch of the published run, beside this project's seeds."""
    ours = epochs_of("cnn.yaml")
    rows = []
    for number, published in enumerate(EPOCHS):
        rows.append([f"{number + 1}"])
        for name, value in zip(FIGURES, published, strict=True):
            rows[-1] += [f"{value:.4f}", mean_sd([run[number][name] for run in ours])]
    best = mean_sd([max(epoch["val_accuracy"] for epoch in run) for run in ours])
    return (
        markdown(curve_header("published"), rows)
        + f"\n\nBest val_accuracy of a run: published {BEST_PUBLISHED}, here {best}."
    )


def keras_curve() -> str:
    """Each epoch of real Keras and of this project, on the same seeds and machine."""
    both = [epochs_of(peer) for peer in ("Keras", "cnn.yaml")]
    rows = [
        [
            f"{number + 1}",
            *(mean_sd([run[number][name] for run in runs]) for name in FIGURES for runs in both),
        ]
        for number in range(len(EPOCHS))
    ]
    lines = ["", *compared(final_accuracies()), "", f"On {provenance(record('compare_keras'))}"]
    return "\n".join([markdown(curve_header("Keras"), rows), *lines])


def accuracies() -> str:
    """The test accuracy that each way reaches, and what it takes."""
    seconds, final = epoch_seconds(), final_accuracies()
    nets = by_peer(record("record")["rows"])
    net, ensemble = nets["record.yaml"], nets["record.yaml, ensemble of 3"]
    rows = [
        ["the published run, best of 12 epochs", f"{BEST_PUBLISHED}", "1,490 s to the best", ""],
        [
            "Keras, 12 epochs, three seeds",
            mean_sd(final["Keras"]),
            f"12 × {seconds['Keras']:.0f} s",
            "`make compare-keras`",
        ],
        [
            "`cnn.yaml`, 12 epochs, three seeds",
            mean_sd(final["cnn.yaml"]),
            f"12 × {seconds['cnn.yaml']:.0f} s",
            "`mnist-cnn fit`",
        ],
        [
            "`record.yaml`, 15 epochs, three seeds",
            mean_sd(net["val_accuracy"]),
            f"{statistics.mean(net['train_s']):.0f} s",
            "`mnist-cnn fit --config record.yaml`",
        ],
        [
            "the mean probability of these three nets",
            f"{ensemble['val_accuracy'][0]:.4f}",
            f"{ensemble['train_s'][0]:,.0f} s",
            "`export` of the three checkpoints",
        ],
    ]
    return "\n".join(
        [
            *(markdown(["", "test accuracy", "training", "command"], rows), ""),
            *(f"`record.yaml` on {provenance(record('record'))}", ""),
            f"The others on {provenance(record('epoch'))}",
        ]
    )


def gpu() -> str:
    """Seconds of an epoch on a GPU."""
    return written_down("h200")


def other_cpu() -> str:
    """Seconds of an epoch on a CPU with AVX-512 but without AMX."""
    return written_down("zen4")


def wrong() -> str:
    """The test images that the included model reads wrongly, as wrong.py prints them."""
    return (RESULTS / "wrong.md").read_text()


def serve_load() -> str:
    """The server under load, beside plain FastAPI."""
    return load.table(record("serve_load"))


TABLES: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        *(headline, published_curve, keras_curve, accuracies),
        *(gpu, other_cpu, wrong, serve_load),
    )
}


def written_down(name: str) -> str:
    """A record whose rows are the table's."""
    measured = record(name)
    rows = [[row["what"], row["seconds"]] for row in measured["rows"]]
    versions = ", ".join(f"{what} {number}" for what, number in measured["versions"].items())
    return f"{markdown([measured['title'], 's'], rows)}\n\n{measured['machine']}; {versions}."


def record(name: str) -> Record:
    """A benchmark's record."""
    found: Record = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def epochs_of(peer: str) -> list[list[dict[str, float]]]:
    """The epochs of each run of Keras, or of this project beside it."""
    return [row["epochs"] for row in record("compare_keras")["rows"] if row["peer"] == peer]


def final_accuracies() -> dict[str, list[float]]:
    """The test accuracies after the last epoch, of Keras and of this project beside it."""
    return {
        peer: [run[-1]["val_accuracy"] for run in epochs_of(peer)] for peer in ("Keras", "cnn.yaml")
    }


def epoch_seconds() -> dict[str, float]:
    """The median seconds of an epoch's training, of each peer."""
    peers = by_peer(record("epoch")["rows"])
    return {peer: statistics.median(of["train_s"]) for peer, of in peers.items()}


def curve_header(other: str) -> list[str]:
    """The columns of a table of epochs."""
    return ["epoch", *(text for name in FIGURES for text in (f"{name}, {other}", "here"))]


def written(name: str) -> str:
    """A table, and what is said below it: a paragraph for each line."""
    if name in TABLES:
        text = TABLES[name]()
    else:
        measured = record(name)
        text = "\n".join([BENCHMARKS[name].table(measured), *measured["notes"]])
    return re.sub(r"\n+(?=[^|\n])", "\n\n", text).strip()


def current(page: str) -> str:
    """A page's text with all its tables written anew."""
    return MARKED.sub(lambda match: f"{match[1]}{match[2]}\n{written(match[1])}\n\n", page)


def main() -> None:
    """Rewrite what is not current."""
    for page in PAGES:
        text = page.read_text()
        if current(text) != text:
            page.write_text(current(text))
            print(f"rewrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
