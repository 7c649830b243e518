"""The benchmarks run, on real programs; their figures are no test's business."""

from __future__ import annotations

import doctest
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import __main__ as harness
from benchmarks import (
    accuracy,
    compare_keras,
    epoch,
    precision,
    programs,
    record,
    records,
    repeated_fit,
    scaling,
    serve_load,
    startup,
)
from benchmarks.records import has_bf16, write_record
from mnist_cnn.data import MNISTDataModule


def test_the_table_has_means_spreads_and_a_verdict() -> None:
    def runs(offset: float) -> list[compare_keras.Run]:
        figures = {"s": 40.0 + offset, "loss": 0.1, "accuracy": 0.98, "val_loss": 0.05}
        return [[{**figures, "val_accuracy": 0.99 + seed / 1000}] for seed in range(3)]

    record = {
        "machine": {"cpu": "a CPU", "cores": 2},
        "versions": {"keras": "3"},
        "runs": {"keras": runs(0), "mnist_cnn": runs(-4)},
        "notes": ["A note."],
    }
    record["runs"]["mnist_cnn"][0][0]["s"] = None  # type: ignore[index]
    text = compare_keras.table(record)
    assert "| 1 | 40.0 ± 0.0 | 36.0 ± 0.0 |" in text
    assert "0.9910 ± 0.0010" in text
    assert "ratio 0.90" in text
    assert "p = 1.00" in text
    assert text.endswith("A note.")


@pytest.mark.slow
def test_real_keras_and_this_project_run_side_by_side(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    arguments = ["--seeds", "1", "--epochs", "1", "--keras-python", sys.executable]
    compare_keras.main([*arguments, "--out", str(out), "--tb-logs", str(tmp_path / "tb")])
    record = json.loads(out.read_text())
    assert record["versions"]["backend"] == "torch"
    for peer in ("keras", "mnist_cnn"):
        ((row,),) = record["runs"][peer]
        assert row["s"] > 0
        assert row["val_accuracy"] > 0.97


def test_the_load_table_has_medians_and_what_went_wrong() -> None:
    rows = [
        {"server": name, "connections": connections, "round": number, "requests": 10}
        | {"requests/s": rate + number, "p50_ms": 1.0, "p99_ms": 2.0, "wrong": 0, "lost": number}
        for number in range(3)
        for connections in (1, 16)
        for name, rate in (("serve", 100.0), ("plain FastAPI", 50.0))
    ]
    machine = {"cpu": "a CPU", "cores": 2}
    text = serve_load.table({"machine": machine, "versions": {"litserve": "1"}, "rows": rows})
    assert "| 16 | 101 | 51 | 1.0 | 1.0 | 2.0 | 2.0 |" in text
    assert "serve: 60 requests, 0 answered wrongly, 6 lost." in text


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


def rows(peer: str, **figures: list[float]) -> list[dict[str, Any]]:
    """A made-up peer's rows, one a round."""
    rounds = zip(*figures.values(), strict=True)
    return [
        {"peer": peer, "round": n + 1, **dict(zip(figures, values, strict=True))}
        for n, values in enumerate(rounds)
    ]


def made_up(*peers: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "machine": {"cpu": "a CPU", "cores": 2},
        "versions": {"torch": "3", "backend": "jax"},
        "settings": {"rounds": 3},
        "notes": ["A note."],
        "rows": [row for peer in peers for row in peer],
    }


def epochs(peer: str, *train_s: float) -> list[dict[str, Any]]:
    seconds = list(train_s)
    return rows(
        peer,
        train_s=seconds,
        s=[value + 2 for value in seconds],
        images_per_s=[60_000 / value for value in seconds],
        val_accuracy=[0.98 + value / 1e5 for value in seconds],
    )


def scaled(setting: scaling.Setting, rate: float, peak_mb: float) -> list[dict[str, Any]]:
    seconds = setting.images / rate
    return rows(setting.peer, train_s=[seconds], images_per_s=[rate], peak_mb=[peak_mb])


RECORDS = {
    "epoch": made_up(
        epochs("plain Lightning port", 60, 50, 80),
        epochs("mnist_cnn", 30, 31, 36),
        epochs("mnist_cnn, bf16", 20, 30, 40),
        epochs("Keras on JAX", 40, 40, 40),
        epochs("mnist_cnn's net in a bare loop", 30, 30, 30),
    ),
    "accuracy": made_up(
        rows(accuracy.OURS, train_s=[5, 6], accuracy=[0.991, 0.993], process_s=[10, 12]),
        rows(accuracy.RECORD, train_s=[10, 12], accuracy=[0.99, 0.99], process_s=[20, 20]),
    ),
    "scaling": made_up(
        scaled(scaling.Setting(), 2000, 900),
        scaled(scaling.Setting(threads=1), 1100, 900),
        scaled(scaling.Setting(processes=2, threads=1), 1900, 800),
        scaled(scaling.Setting(share=0.5), 10_000, 824),
        scaled(scaling.Setting(share=1.0), 10_000, 848),
        scaled(scaling.Setting(share=4.0), 10_000, 992),
    ),
    "startup": made_up(
        rows("import lightning.pytorch.cli", s=[4.0, 5.0, 4.5]), rows("mnist_cnn --help", s=[5.4])
    ),
    "precision": {
        **made_up(
            rows("float32", epoch_s=[20, 21, 22], accuracy=[0.9913, 0.9915, 0.9917]),
            rows("bf16", epoch_s=[10, 11, 12], accuracy=[0.9914, 0.9916, 0.9918]),
        ),
        "settings": {"seeds": 3, "epochs": 12},
    },
    "record": made_up(
        rows(record.NET, train_s=[600, 602, 604], accuracy=[0.9977, 0.9978, 0.9979]),
        rows(record.ENSEMBLE.format(3), train_s=[1806], accuracy=[0.9981]),
    ),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("epoch", "| mnist_cnn | 31.0 | 30.0–36.0 | 33.0 | 1935 | 0.78 | 0.52 |"),
        ("epoch", "add 3.3 % to the bare loop"),
        ("epoch", "0.9803 ± 0.0000 in float32, 0.9803 ± 0.0001 in bf16; Welch's t-test"),
        ("epoch", "3 round(s) on 2 cores of a CPU; torch 3, backend jax.\nA note.\n"),
        (
            "accuracy",
            "| mnist_cnn, fast.yaml | 0.9920 ± 0.0014 | 0.00100 | 5.50 | 5.00–6.00 | 0.50 | 11.0 |",
        ),
        ("scaling", "threads 2 x 1 | 31.6 | 1900 | 1900–1900 | 800 |"),
        ("scaling", "reach 0.95 of one"),
        ("scaling", "takes 0.00 s and 6.00 s for each 60000 images, to within 0 %"),
        ("scaling", "an image takes 800 bytes"),
        ("startup", "| `mnist_cnn --help` | 5.40 | 5.40–5.40 | 1.20 |"),
        ("precision", "| bf16 | 0.9916 ± 0.0002 | 11.0 | 10.0–12.0 |"),
        ("precision", "difference in accuracy: p = 0.57.\n3 seed(s) of 12 epoch(s) on 2 cores"),
        ("record", "| record.yaml | 3 | 0.9978 ± 0.0001 | 22.0 | 602 |"),
        ("record", "| ensemble of 3 | 1 | 0.9981 | 19.0 | 1806 |"),
    ],
)
def test_a_record_is_shown_as_table_and_plot(
    name: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / f"{name}.json", RECORDS[name])
    harness.main([name, "--redraw", "--results", str(tmp_path), "--plots", str(tmp_path)])
    assert expected in capsys.readouterr().out
    with Image.open(tmp_path / f"benchmark-{name}.png") as plot:
        assert min(plot.size) > 100


def test_what_was_measured_before_an_interruption_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(args: Any, record: Any) -> Iterator[dict[str, Any]]:
        yield from rows("import lightning.pytorch.cli", s=[4.0, 6.0])
        raise KeyboardInterrupt

    monkeypatch.setattr(startup, "measure", measure)
    monkeypatch.setattr(harness, "warm_up", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        harness.main(["startup", "--results", str(tmp_path), "--plots", str(tmp_path)])
    record = json.loads((tmp_path / "startup.json").read_text())
    assert [row["s"] for row in record["rows"]] == [4.0, 6.0]
    figure = record["summary"]["import lightning.pytorch.cli"]["s"]
    assert (figure["n"], figure["median"], figure["min"], figure["max"]) == (2, 5.0, 4.0, 6.0)
    assert record["machine"]["cpu"]
    assert record["versions"]["torch"]


def test_the_examples_in_the_documentation_are_true() -> None:
    result = doctest.testmod(records)
    assert result.attempted > 0
    assert result.failed == 0


def test_each_peer_begins_as_many_rounds() -> None:
    peers = ("a", "b", "c")
    orders = [records.taking_turns(peers, number) for number in range(6)]
    assert Counter(order[0] for order in orders) == dict.fromkeys(peers, 2)
    assert all(sorted(order) == list(peers) for order in orders)


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


def test_the_data_set_is_repeated(mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNISTDataModule, "setup", MNISTDataModule.setup)  # undone at the end
    repeated_fit.take_share(1.5)
    data = MNISTDataModule(str(mnist_root))
    data.setup()
    assert len(data.train_set) == 90_000
    assert data.train_set.images[60_000:].equal(data.train_set.images[:30_000])
    assert data.train_set.labels[60_000:].equal(data.train_set.labels[:30_000])
    assert len(data.val_set) == 10_000


def measured(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    """The rows of a real run of the benchmarks."""
    harness.main([*arguments, "--results", str(tmp_path), "--plots", str(tmp_path)])
    assert (tmp_path / f"benchmark-{arguments[0]}.png").exists()
    found: list[dict[str, Any]] = json.loads((tmp_path / f"{arguments[0]}.json").read_text())[
        "rows"
    ]
    return found


@pytest.mark.slow
def test_all_peers_train_a_few_steps_of_an_epoch(tmp_path: Path) -> None:
    rows = measured(
        tmp_path,
        *("epoch", "--rounds", "1", "--steps", "3", "--keras-python", sys.executable),
        *("--peers", *epoch.TITLES),
    )
    by_peer = {row["peer"]: row for row in rows}
    assert len(by_peer) == len(epoch.TITLES)
    assert "Keras on PyTorch" in by_peer
    for row in rows:
        assert 0 < row["train_s"] < row["s"]
        assert 1.5 < row["loss"] < 2.5
    # The bare loop is the same training.
    ours, bare = by_peer[epoch.TITLES["ours"]], by_peer[epoch.TITLES["bare"]]
    assert ours["loss"] == pytest.approx(bare["loss"], abs=1e-4)
    assert ours["val_accuracy"] == pytest.approx(bare["val_accuracy"], abs=1e-4)


@pytest.mark.slow
def test_accuracy_is_measured_on_a_few_steps(tmp_path: Path) -> None:
    rows = measured(tmp_path, "accuracy", "--seeds", "1", "--steps", "3")
    peers = {accuracy.OURS, accuracy.RECORD} | ({accuracy.OURS_BF16} if has_bf16() else set())
    assert {row["peer"] for row in rows} == peers
    for row in rows:
        assert 0 < row["train_s"] < row["process_s"]
        assert 0.1 < row["accuracy"] < 0.95


@pytest.mark.slow
def test_scaling_is_measured_on_a_few_steps(tmp_path: Path) -> None:
    rows = measured(tmp_path, "scaling", "--rounds", "1", "--steps", "2", "--quick")
    assert len(rows) == len({row["peer"] for row in rows}) == 6
    for row in rows:
        assert row["images_per_s"] > 0
        assert row["peak_mb"] > 100


@pytest.mark.slow
def test_startup_is_measured(tmp_path: Path) -> None:
    rows = measured(tmp_path, "startup", "--rounds", "1")
    assert sorted(row["peer"] for row in rows) == sorted(startup.COMMANDS)


@pytest.mark.slow
def test_nets_and_their_ensembles_are_measured_on_a_few_steps(tmp_path: Path) -> None:
    arguments = ("--seeds", "2", "--steps", "2", "--logs", str(tmp_path / "logs"))
    rows = measured(tmp_path, "record", *arguments)
    assert [row["peer"] for row in rows] == [record.NET, record.NET, record.ENSEMBLE.format(2)]
    for row in rows:
        assert row["train_s"] > 0
        assert 0.05 < row["accuracy"] < 0.95


@pytest.mark.slow
def test_precision_is_measured_on_a_few_steps(tmp_path: Path) -> None:
    rows = measured(tmp_path, "precision", "--seeds", "1", "--epochs", "1", "--steps", "2")
    assert {row["peer"] for row in rows} == set(precision.PEERS)
    for row in rows:
        assert row["epoch_s"] > 0
        assert 0.05 < row["accuracy"] < 0.95
