"""The tests themselves: what they need, and the figures that the project keeps to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support import lines, needs, oldest

#: What a machine for the GPU's tests does not have: packages of the extras, the testers' tools.
#: Neither has it matplotlib; but torchmetrics imports that where it is installed.
TOOLS = (
    *("fastapi", "fastapi_offline", "h5py", "httpx", "hypothesis", "keras"),
    *("numba", "onnx", "onnxruntime", "onnxscript", "prometheus_client", "psutil"),
    *("schemathesis", "selenium", "uvicorn"),
)
WITHOUT_TOOLS = f"""
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, *where):
        return None if name.partition(".")[0] in {TOOLS} else self.finder.find_spec(name, *where)
sys.meta_path = [Without(finder) for finder in sys.meta_path]
import pytest
sys.exit(pytest.main(["--collect-only", "-q", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_a_gpu_s_tests_are_found_without_the_other_tests_tools() -> None:
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TOOLS, "-m", "gpu"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # hypothesis has one
    )
    assert found.returncode == 0, found.stdout
    assert found.stdout.count("tests/test_gpu.py::") >= 20


def test_a_gpu_s_tests_are_where_they_are_looked_for() -> None:
    for file in (ROOT / "tests").glob("test_*.py"):
        if "mark.gpu" in file.read_text() and file != Path(__file__):
            assert file.name.startswith("test_gpu"), file


@pytest.mark.parametrize("allowed", ["", "0", "1"])
def test_what_is_missing_fails_unless_skips_are_allowed(
    allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(needs.ALLOW_SKIPS, allowed)
    outcome = pytest.skip.Exception if allowed == "1" else pytest.fail.Exception
    for without in (
        lambda: needs.require("sh", "no-such-program"),
        lambda: needs.package("no_such_package"),
    ):
        with pytest.raises(outcome, match=r"needs (the package )?no.such"):
            without()
    needs.require("sh")
    assert needs.package("json").dumps({}) == "{}"


def test_no_test_skips_by_itself() -> None:
    for file in (ROOT / "tests").glob("test_*.py"):
        skips = re.findall(r"(importorskip|skipif\(not|pytest\.skip\()", file.read_text())
        assert file == Path(__file__) or not skips, file


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    project = '["a-b>=1.2", "c[d,e]>=3,<4", # a comment\n"f==5", "mnist-cnn[export]"]'
    assert oldest.constraints(project) == ["a-b==1.2", "c==3"]
    pinned = oldest.constraints((ROOT / "pyproject.toml").read_text())
    assert {"torch", "lightning", "numpy", "pytest"} <= {line.split("==")[0] for line in pinned}


def test_the_training_path_is_read_in_one_sitting() -> None:
    assert sum(lines.training_path().values()) <= lines.MOST


def test_only_lines_of_code_count() -> None:
    source = 'def f() -> str:\n    """What\n\n    it is."""\n    # why\n    return """a\n\nb"""\n'
    assert lines.lines_of_code(source) == 4  # a string's lines are code
