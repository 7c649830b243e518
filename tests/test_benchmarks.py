"""The benchmarks run, on real programs; their figures are no test's business."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import compare_keras


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
