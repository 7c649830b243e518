"""Which checkpoints are kept as the best, under which names, and that they are found again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

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
