"""The package as a whole: what importing it does, its former names, and the wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL, Result

SLOW_IMPORTS = ("torch", "lightning", "numpy", "numba")

UNCHANGED = f"""
import os, signal, sys, warnings
def world():
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return dict(os.environ), handlers, warnings.filters[:], sys.meta_path[:]
before = world()
import mnist_cnn
assert world() == before
assert not {{*{SLOW_IMPORTS}}} & {{*sys.modules}}
import torch
threads = torch.get_num_threads()
from mnist_cnn import *
assert {{*mnist_cnn.__all__}} <= {{*globals()}}
assert dict(os.environ) == before[0]
assert torch.get_num_threads() == threads
"""


@pytest.mark.slow
def test_importing_it_changes_nothing() -> None:
    subprocess.run([sys.executable, "-c", UNCHANGED], check=True, cwd=ROOT)


def test_a_name_that_it_does_not_have() -> None:
    with pytest.raises(ImportError, match="NoSuchCNN"):
        from mnist_cnn import NoSuchCNN  # noqa: F401


@pytest.mark.parametrize(
    ("former", "name", "now"),
    [
        ("images", "normalise", "digits.normalise"),
        ("images", "open_pictures", "digits.decode"),
        ("augment", "RandomShift", "training.augment"),
        ("randomness", "Dropout", "training.randomness"),
        ("inference", "load_classifier", "checkpoints.classifier"),
        ("adadelta", "Adadelta", "training.adadelta"),
        ("nets", "SequentialCNN", "nets.sequential"),
        ("batch_norm", "BatchNorm", "nets.layers"),
        ("export", "export", "use.export"),
        ("sources", "prepare_mnist", "data_sets.files"),
        ("picture_files", "find_files", "digits.files"),
        ("predictions", "PredictionWriter", "use.prediction_writer"),
    ],
)
def test_names_of_the_last_release_lead_to_the_present_ones(
    former: str, name: str, now: str
) -> None:
    then = getattr(import_module(f"mnist_cnn.{former}"), name)
    assert then is getattr(import_module(f"mnist_cnn.{now}"), name)


def test_every_room_is_packed() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    packed = re.findall(
        r'"(mnist_cnn[.a-z_]*)"', project.partition("packages = [")[2].partition("]")[0]
    )
    rooms = {p.parent.relative_to(ROOT) for p in (ROOT / "mnist_cnn").rglob("__init__.py")}
    assert {*packed} == {".".join(room.parts) for room in rooms} | {"mnist_cnn.configs"}


@pytest.mark.slow
def test_the_wheel_works_in_any_folder(tmp_path: Path, mnist_root: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    copy = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", ROOT, copy], check=True)
    subprocess.run([*build, "-w", tmp_path / "wheel", copy], check=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    folder = tmp_path / "empty"
    folder.mkdir()

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
        command = [sys.executable, "-m", "mnist_cnn", *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=170
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = run("configs")
    for name, first in (("cnn.yaml", "The published Keras run"), ("fast.yaml", "in seconds")):
        (line,) = [line for line in listed.splitlines() if line.startswith(f"{name} ")]
        assert first in line
    short = ("--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1")
    data = (f"--data.data_dir={mnist_root}", "--trainer.max_epochs=1", "--trainer.accelerator=cpu")
    assert "tb_logs/cnn/version_0" in run("fit", *data, *short, *SMALL)
    # A file of that name in the current folder wins.
    (folder / "bf16.yaml").write_text("data: {batch_size: 64}\n")
    printed = run("fit", "--config", "fast.yaml", "--config", "bf16.yaml", "--print_config")
    assert "mnist_cnn.FastCNN" in printed
    assert "batch_size: 64" in printed
    assert "bf16-mixed" not in printed


@pytest.mark.parametrize("command", ["test", "predict", "fit"])
def test_a_run_of_the_last_release_is_gone_on_with(
    command: str, cli: Callable[..., Result], mnist_root: Path
) -> None:
    former = ROOT / "tests" / "former_release"  # what commit 36cfd8f wrote
    flags = [f"--trainer.limit_{part}_batches=1" for part in ("train", "test", "predict", "val")]
    more = ["--trainer.max_epochs=2"] if command == "fit" else []
    given = ("--config", former / "config.yaml", "--ckpt_path", former / "last.ckpt")
    result = cli(command, *given, *flags, *more, f"--data.data_dir={mnist_root}")
    assert result.code == 0, result.err
    if command == "fit":
        assert "   1/2" in result.out  # the epoch that it came with
        assert "   2/2" in result.out
