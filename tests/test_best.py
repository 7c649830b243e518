"""Which checkpoints are kept as the best, under which names, and that they are found again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_cnn.checkpoints.best import direction
from mnist_cnn.checkpoints.files import read_checkpoint
from mnist_cnn.errors import UserError
from tests.conftest import SHORT, SMALL, Result
from tests.support.interruptions import LAST

#: Gradient ascent: the first epoch is the best.
ASCENT = (
    "--model.optimizer=torch.optim.SGD",
    "--model.optimizer.init_args.lr=0.05",
    "--model.optimizer.init_args.maximize=true",
    "--best_checkpoint.monitor=val/loss",
)
THREE = "--best_checkpoint.save_top_k=3"


def epochs(folder: Path) -> dict[str, int]:
    """The kept checkpoints, and the epoch that each is of."""
    files = (path for path in folder.glob("*.ckpt") if path.stem not in ("last", "previous"))
    return {path.name: read_checkpoint(path)["epoch"] for path in files}


def test_several_are_kept_and_the_best_is_called_so(cli: Callable[..., Result], logs: Path) -> None:
    result = cli("fit", *SHORT, *SMALL, *ASCENT, THREE, "--trainer.max_epochs=4")
    assert result.code == 0, result.err
    folder = logs / "cnn" / "version_0" / "checkpoints"
    kept = {f"best-epoch={epoch:02d}-step={3 * (epoch + 1)}.ckpt": epoch for epoch in range(3)}
    assert epochs(folder) == kept | {"best.ckpt": 0}
    # Without the option again, and moved: its score is known, and nothing worse takes its place.
    moved = logs.with_name("moved")
    shutil.move(logs, moved)
    flags = (*SHORT, *SMALL, *ASCENT, f"--trainer.logger.init_args.save_dir={moved}")
    more = cli("fit", *flags, LAST, "--trainer.max_epochs=5")
    assert more.code == 0, more.err
    folder = moved / "cnn" / "version_0" / "checkpoints"
    assert epochs(folder)["best.ckpt"] == 0
    tested = cli("test", "--ckpt_path=best", *SMALL, *flags[-1:], "--trainer.limit_test_batches=1")
    assert tested.code == 0, tested.err
    assert f"--ckpt_path best: {folder}/best-epoch=00-step=3.ckpt" in tested.err


@pytest.mark.slow
def test_a_single_best_becomes_one_of_three(cli: Callable[..., Result], logs: Path) -> None:
    assert cli("fit", *SHORT, *SMALL, *ASCENT).code == 0
    assert cli("fit", *SHORT, *SMALL, *ASCENT, THREE, LAST, "--trainer.max_epochs=2").code == 0
    folder = logs / "cnn" / "version_0" / "checkpoints"
    assert epochs(folder) == {
        "best.ckpt": 0,
        "best-earlier.ckpt": 0,
        "best-epoch=01-step=6.ckpt": 1,
    }


def test_the_direction_follows_from_the_metric(cli: Callable[..., Result]) -> None:
    assert direction("val/loss", "auto") == "min"
    assert direction("train/accuracy", "auto") == direction("val/accuracy", "max") == "max"
    assert direction("hours", "max") == "max"
    with pytest.raises(UserError, match="lowest value the best, or its highest"):
        direction("hours", "auto")
    result = cli("fit", *SHORT, "--best_checkpoint.monitor=val/loss", "--best_checkpoint.mode=max")
    assert result.code == 2
    assert "--best_checkpoint.mode max: would keep the worst val/loss" in result.err


def test_best_of_no_run(cli: Callable[..., Result]) -> None:
    result = cli("test", "--ckpt_path=best")
    assert result.code == 2
    assert "--ckpt_path best: no run has left a checkpoint yet" in result.err


@pytest.fixture
def runs(small_net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two runs of different names, of which ``new`` was trained last."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("old", "new")):
        folder = Path("tb_logs", name, "version_0", "checkpoints")
        folder.mkdir(parents=True)
        content = torch.load(small_net, weights_only=True)
        content["callbacks"] = {"BestCheckpoint": {"best_model_path": "/moved/best.ckpt"}}
        for file in ("last.ckpt", "best.ckpt"):
            torch.save(content, folder / file)
            os.utime(folder / file, (number, number))
    Image.fromarray(np.pad(np.full((20, 4), 200, np.uint8), ((4, 4), (12, 12)))).save("x.png")
    return tmp_path


@pytest.mark.parametrize("word", ["last", "best"])
def test_the_newest_run_of_all_where_there_is_no_trainer(
    cli: Callable[..., Result], runs: Path, word: str
) -> None:
    new = f"tb_logs/new/version_0/checkpoints/{word}.ckpt"
    for command in (("predict", "x.png", "--ckpt_path", word), ("export-keras", word)):
        done = cli(*command, *["--out=x.keras"] * (command[0] != "predict"))
        assert done.code == 0, done.err
        assert f"checkpoint {word}: {new}" in done.err
    former = ("predict", "--data.predict_path=x.png", f"--ckpt_path={word}")
    done = cli(*former)
    assert done.code == 0, done.err
    assert f"mnist-cnn predict x.png --ckpt_path {new}" in done.err
    # A configuration that names a run, as cnn.yaml does, means none of another name.
    Path("old.yaml").write_text("trainer: {logger: {init_args: {name: old}}}")
    done = cli(*former, "--config=old.yaml")
    assert f"--ckpt_path tb_logs/old/version_0/checkpoints/{word}.ckpt" in done.err
    elsewhere = "--trainer.logger.init_args.save_dir=elsewhere"
    for nowhere in (("--config=cnn.yaml",), (elsewhere,)):
        done = cli(*former, *nowhere)
        assert done.code == 2
        assert f"checkpoint {word}: no run in {runs}/" in done.err


@pytest.mark.parametrize("command", ["serve", "export"])
def test_every_command_with_a_checkpoint_knows_the_words(
    cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"serve": ("--port=0",), "export": ("--format=onnx", "--out=x.onnx")}
    done = cli(command, "last", *options[command])
    assert done.code == 2
    assert f"error: checkpoint last: no run in {tmp_path}/tb_logs has left one" in done.err
