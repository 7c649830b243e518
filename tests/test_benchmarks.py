"""The benchmarks run, on real programs; their figures are no test's business."""

from __future__ import annotations

import doctest
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import t as student

from benchmarks import __main__ as harness
from benchmarks import (
    compare_keras,
    device_counts,
    gpu,
    programs,
    records,
    scaling,
    startup,
    trainings,
)
from docs.scripts import plots
from mnist_cnn.data import MNISTDataModule
from tests.support import scenes, serve_load

RESULTS = harness.ROOT / "benchmarks" / "results"


@pytest.mark.parametrize(
    ("name", "record", "expected"),
    [
        ("epoch", "epoch", "| cnn.yaml | 14.9 | 14.1–15.7 | 16.0 | 4032 | 0.64 | 0.37 |"),
        ("epoch", "epoch", "add 7.4 % to the bare loop"),
        ("epoch", "epoch", "0.9811 ± 0.0019 and 0.9810 ± 0.0014; Welch's t-test of a difference: "),
        ("epoch", "epoch", "On 2 cores of Intel(R) Xeon(R) Processor; mnist-cnn 0.1.0, torch 2.14"),
        (
            "accuracy",
            "accuracy",
            "| fast.yaml | 20 | 0.9927 ± 0.0007 | 0.9914 | 73.3 | 2.17 | 2.18 | 1.94–2.34 | ",
        ),
        ("accuracy", "record", "| record.yaml | 3 | 0.9974 ± 0.0002 | 0.9972 | 26.3 | 942.26 | "),
        ("accuracy", "record", "| record.yaml, ensemble of 3 | 1 | 0.9973 | 0.9973 | 27.0 | "),
        ("compare_keras", "compare_keras", "| 0.9916 ± 0.0008 | 0.9915 ± 0.0002 |\n\nMedian"),
        ("compare_keras", "compare_keras", "\nSeconds are those of seeds 1 and 2: "),  # a note
        ("compare_keras", "compare_keras_seconds", "| 1 | 41.5 ± 4.1 | 35.5 ± 3.9 | 0.2658 ± "),
        ("scaling", "scaling", "threads 2 x 1 | 3 | 5.8 | 2835 | 2810–2984 | 1265 |"),
        (
            "precision",
            "precision",
            "| cnn.yaml + bf16.yaml | 5 | 0.9915 ± 0.0002 | 0.9913 | 84.6 | ",
        ),
        ("longer", "longer", "record.yaml + bf16.yaml, 60 epochs | 1 | 0.9972 | 28 | 14.1 |"),
        ("scaling", "scaling", "reach 0.68 of one"),
        ("scaling", "scaling", "takes 0.07 s and 2.67 s for each 60000 images, to within 12 %"),
        ("scaling", "scaling", "an image takes 338 bytes"),
        ("startup", "startup", "| `mnist_cnn --help` | 7 | 3.16 | 3.10–3.42 | 0.70 |"),
    ],
)
def test_a_record_is_shown_as_a_table(
    name: str, record: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are those of version 0.1.0's documentation."""
    harness.main([name, "--table", "--record", str(RESULTS / f"{record}.json")])
    assert expected in capsys.readouterr().out


def test_records_are_drawn(tmp_path: Path) -> None:
    plots.draw(tmp_path)
    for name in ("epoch", "accuracy"):
        with Image.open(tmp_path / f"benchmark-{name}.png") as plot:
            assert min(plot.size) > 100


def test_differences_are_told_from_equivalence() -> None:
    a, b = [0.9910, 0.9913, 0.9915], [0.9911, 0.9914, 0.9914, 0.9915]
    (line,) = records.compared({"a": a, "b": b, "run once": [0.99]})
    # Welch's test and two of them shifted, by their formulas.
    squares = [np.var(of, ddof=1) / len(of) for of in (a, b)]
    error = np.sqrt(sum(squares))
    freedom = sum(squares) ** 2 / sum(
        s**2 / (len(of) - 1) for s, of in zip(squares, (a, b), strict=True)
    )
    difference = np.mean(a) - np.mean(b)
    differ = 2 * student.sf(abs(difference) / error, freedom)
    equivalent = student.sf((0.0005 - abs(difference)) / error, freedom)
    assert f"of a difference: p = {differ:.2g};" in line
    assert f"of equivalence within ±0.0005: p = {equivalent:.2g}." in line


def test_the_load_table_has_medians_and_what_went_wrong() -> None:
    rows = [
        {"server": name, "connections": connections, "round": number, "requests": 10}
        | {"requests/s": rate + number, "p50_ms": 1.0, "p99_ms": 2.0, "wrong": 0, "lost": number}
        for number in range(3)
        for connections in (1, 16)
        for name, rate in (("serve", 100.0), ("plain FastAPI", 50.0))
    ]
    machine = {"cpu": "a CPU", "cores": 2}
    text = serve_load.table({"machine": machine, "versions": {"fastapi": "1"}, "rows": rows})
    assert "| serve, 16 | 101 | 100–102 | 1.0 | 2.0 | 30 | 3 |" in text
    assert "| plain FastAPI, 1 | 51 | 50–52 | 1.0 | 2.0 | 30 | 3 |" in text


@pytest.mark.slow
def test_serve_bears_a_load_and_answers_every_request_rightly(
    trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "record.json"
    serve_load.main([str(trained), "--seconds", "2", "--rounds", "1", "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 2 * len(serve_load.CONNECTIONS)
    for row in rows:
        assert row["requests"] > 50
        assert row["wrong"] == row["lost"] == 0


@pytest.mark.slow
def test_a_checkpoint_says_how_long_each_epoch_took(trained: Path) -> None:
    for number, row in enumerate(programs.history(str(trained)), start=1):
        assert row["epoch"] == number
        assert 0 <= row["val_s"] < row["s"]


def test_what_was_measured_before_an_interruption_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(args: Any, record: Any) -> Iterator[dict[str, Any]]:
        yield from ({"peer": "import lightning.pytorch.cli", "s": s} for s in (4.0, 6.0))
        raise KeyboardInterrupt

    monkeypatch.setattr(startup, "measure", measure)
    monkeypatch.setattr(harness, "warm_up", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        harness.main(["startup", "--record", str(tmp_path / "startup.json")])
    record = json.loads((tmp_path / "startup.json").read_text())
    assert [row["s"] for row in record["rows"]] == [4.0, 6.0]
    assert record["machine"]["cpu"]
    assert record["versions"]["torch"]
    assert record["settings"] == {"rounds": 9}
    assert "| 2 | 5.00 | 4.00–6.00 | 1.00 |" in startup.table(record)


@pytest.mark.parametrize("module", [records, trainings])
def test_the_examples_in_the_documentation_are_true(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_each_peer_begins_as_many_rounds() -> None:
    turns = list(records.taking_turns("abc", 6))
    orders = [[peer for number, peer in turns if number == n] for n in range(1, 7)]
    assert Counter(order[0] for order in orders) == dict.fromkeys("abc", 2)
    assert all(sorted(order) == list("abc") for order in orders)


def test_a_program_that_fails_ends_the_benchmark_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match="no such digit"):
        programs.run([sys.executable, "-c", "import sys; sys.exit('no such digit')"])


def test_a_program_is_timed_and_weighed() -> None:
    program = "import time; block = bytearray(300_000_000); time.sleep(0.5); print('done')"
    code = f"""if True:
        import sys
        import benchmarks.__main__
        from benchmarks.programs import run
        done = run([sys.executable, "-c", {program!r}])
        print(done.out.strip(), done.s, done.peak_mb)
    """
    out, seconds, peak_mb = programs.run([sys.executable, "-c", code]).out.split()
    assert out == "done"
    assert float(seconds) > 0.5
    assert 300 < float(peak_mb) < 350  # what starts it is small


@pytest.mark.parametrize("share", [0.25, 3.0])
def test_the_data_set_is_a_share_of_mnist(share: float, mnist_root: Path, tmp_path: Path) -> None:
    setting = scaling.Setting(share=share)
    name, value = setting.data(tmp_path)[0].removeprefix("--data.").split("=")
    options: Any = {name: int(value) if name == "val_size" else value}
    data = MNISTDataModule(str(mnist_root), **options)
    data.setup()
    assert len(data.train_set) == setting.images
    if share > 1:
        images, labels = data.train_set.images, data.train_set.labels
        assert images[60_000:120_000].equal(images[:60_000])
        assert labels[120_000:].equal(labels[:60_000])


Measured = list[dict[str, Any]]


class Measure:
    """A real run of a benchmark: its rows, and the table that it prints."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self.capsys = folder / "record.json", capsys

    def __call__(self, *arguments: str) -> tuple[Measured, str]:
        harness.main([*arguments, "--record", str(self.path)])
        rows: Measured = json.loads(self.path.read_text())["rows"]
        return rows, self.capsys.readouterr().out


@pytest.fixture
def measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Measure:
    monkeypatch.setattr(harness, "warm_up", lambda: None)
    return Measure(tmp_path, capsys)


def test_startup_is_measured(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "COMMANDS", {"nothing": ["-c", ""], "pi": ["-c", "import math"]})
    rows, table = measure("startup", "--rounds", "2")
    assert [row["peer"] for row in rows] == ["nothing", "pi", "pi", "nothing"]
    assert all(0 < row["s"] < 10 for row in rows)
    assert "| `pi` | 2 | " in table


def test_pictures_are_measured(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "ROWS", {"black on white": scenes.ROWS["black on white"]})
    monkeypatch.setattr(scenes, "NUMBERS", {"two digits": scenes.NUMBERS["two digits"]})
    rows, table = measure("pictures", "--count", "2", "--mnist", "20")
    assert [row["right"] for row in rows] == [1, 1, 1, 1]
    assert "| black on white | 100.0% |" in table


@pytest.mark.slow
def test_all_peers_train_a_few_steps_of_an_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = Measure(tmp_path, capsys)  # warms up, too
    peers = ("cnn", *trainings.TITLES)
    short = ("--seeds", "1", "--epochs", "2", "--steps", "2", "--keras-python", sys.executable)
    rows, table = measure("epoch", *short, "--peers", *peers)
    by_peer = {row["peer"]: row for row in rows}
    assert len(by_peer) == len(peers)
    for row in rows:
        first, second = row["epochs"]
        assert (first["epoch"], second["epoch"]) == (1, 2)
        assert first["loss"] > second["loss"] == row["loss"] > 0.5
        assert 0 < row["train_s"] < row["process_s"]
        if row["peer"] != trainings.title("gpu"):  # which has no validation
            assert row["train_s"] < row["s"] < row["process_s"]
            assert 0.05 < row["val_accuracy"] < 0.95
    # The bare loop is the same training.
    ours, bare = (by_peer[trainings.title(name)]["epochs"] for name in ("cnn", "bare"))
    for figure in ("loss", "val_accuracy"):
        expected = [epoch[figure] for epoch in bare]
        assert [epoch[figure] for epoch in ours] == pytest.approx(expected, abs=1e-4)
    assert "to the bare loop" in table
    record = json.loads(measure.path.read_text())
    assert "torch" in record["versions"]["backend"]
    # What the other benchmarks make of such trainings.
    record["machine"]["accelerator"] = "no GPU"
    assert re.search(r"\| 2 \| [\d.]+ \| [\d.]+ \| ", compare_keras.table(record))
    assert re.search(r"\| plain loop \| [\d.]+ \| – \| – \| – \| – \| ", gpu.table(record))


@pytest.mark.slow
def test_nets_and_their_ensembles_are_measured_on_a_few_steps(measure: Measure) -> None:
    short = ("--steps", "2", "--epochs", "1")
    rows, _ = measure("accuracy", "--peers", "fast", "--ensembles", "--seeds", "2", *short)
    nets = ["fast.yaml", "fast.yaml", "fast.yaml, ensemble of 2"]
    assert [row["peer"] for row in rows] == nets
    assert rows[2]["train_s"] == pytest.approx(rows[0]["train_s"] + rows[1]["train_s"])
    assert all(0.05 < row["val_accuracy"] < 0.95 for row in rows)


@pytest.mark.slow
def test_scaling_is_measured_on_a_few_steps(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = scaling.Setting(share=0.1)
    monkeypatch.setattr(scaling, "SETTINGS", [scaling.Setting(), scaling.TWO_PROCESSES, small])
    rows, table = measure("scaling", "--rounds", "1", "--steps", "2")
    assert len(rows) == 3
    for row in rows:
        assert row["images_per_s"] > 0
        assert row["peak_mb"] > 100
    assert "Two processes of one thread reach" in table


@pytest.mark.slow
def test_exact_sums_make_two_devices_one(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_counts, "RUNS", ((1, 128), (2, 128)))
    rows, table = measure("device_counts", "--steps", "2", "--configs", "cnn+exact")
    one, two = rows
    assert len(one["losses"]) == 2
    assert one["losses"] == pytest.approx(two["losses"], abs=1e-6)
    assert two["weights"] == 0
    assert "| cnn+exact, 2 x 64 | " in table
