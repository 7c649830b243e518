"""The benchmarks run, on real programs; their figures are no test's business."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import compare_keras, serve_load


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
