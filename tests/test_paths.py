"""``~`` and ``$NAME`` in paths that no shell has touched, in each option that takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from mnist_cnn.data import MNISTDataModule
from tests.conftest import SMALL, Result


@pytest.fixture
def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist_root: Path, small_net: Path
) -> Path:
    """A home with MNIST, a checkpoint and a picture in it; ``$PLACE`` is the same folder."""
    home = tmp_path / "home"
    (home / "pictures").mkdir(parents=True)
    (home / "mnist").symlink_to(mnist_root)
    (home / "small.ckpt").symlink_to(small_net)
    picture = Image.new("L", (60, 60), 255)
    ImageDraw.Draw(picture).line([(30, 8), (30, 52)], 0, 5)
    picture.save(home / "pictures" / "one.png")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PLACE", str(home))
    return home


def test_of_lightning_s_commands(cli: Callable[..., Result], home: Path) -> None:
    callback = "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint"
    (home / "mine.yaml").write_text("data:\n  data_dir: ~/mnist\n")
    done = cli(
        *("fit", "--config=cnn.yaml", "--config=~/mine.yaml", *SMALL, "--trainer.max_epochs=1"),
        *("--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"),
        "--trainer.accelerator=cpu",
        *("--trainer.logger.init_args.save_dir=$PLACE/logs", "--best_checkpoint.dirpath=~/best"),
        *(callback, "--trainer.callbacks.init_args.dirpath=${PLACE}/mine"),
    )
    assert done.code == 0, done.err
    assert (home / "logs" / "cnn" / "version_0" / "checkpoints" / "last.ckpt").is_file()
    assert (home / "best" / "best.ckpt").is_file()
    assert list((home / "mine").glob("*.ckpt"))
    done = cli(
        *("predict", "--ckpt_path=~/small.ckpt", "--data.data_dir=$PLACE/mnist"),
        *("--predictions.path=~/answers.csv", "--trainer.limit_predict_batches=1"),
        *("--trainer.logger=false", "--trainer.accelerator=cpu"),
    )
    assert done.code == 0, done.err
    assert (home / "answers.csv").is_file()


def test_of_the_others(cli: Callable[..., Result], home: Path) -> None:
    for command in (
        ("predict", "~/pictures", "--ckpt_path=$PLACE/small.ckpt", "--out=~/answers.json"),
        ("predict", "--data.predict_path=~/pictures/*.png", "--predictions.path=$PLACE/a.csv"),
        ("export-keras", "~/small.ckpt", "--out=~/small.keras"),
        ("import-keras", "$PLACE/small.keras", "--out=~/again.ckpt"),
        (
            *("export", "~/again.ckpt", "--format=safetensors", "--out=~/small.safetensors"),
            "--data_dir=~/mnist",
        ),
    ):
        done = cli(*command)
        assert done.code == 0, done.err
    files = ("answers.json", "a.csv", "small.keras", "again.ckpt", "small.safetensors")
    assert all((home / name).is_file() for name in files)
    assert f"checkpoint {home}/none.ckpt: no such file" in cli("serve", "~/none.ckpt").err


def test_in_python(home: Path) -> None:
    data = MNISTDataModule("~/mnist")
    data.prepare_data()
    data.setup()
    assert data.data_dir == str(home / "mnist")
    assert len(data.test_set) == 10_000
