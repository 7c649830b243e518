"""MNIST's relatives, in small files of their format: the real ones would have to be downloaded."""

from __future__ import annotations

import csv
import gzip
import hashlib
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import Namespace
from PIL import Image
from torchvision import datasets

from mnist_cnn.checkpoints.start import choose
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.mnist_files import MNISTUnavailableError, prepare_mnist
from mnist_cnn.reports.drawings import captioned_images, confusion_picture
from tests.conftest import SHORT, SMALL, Result
from tests.test_mnist_files import Quiet

SIZES = {"train": 512, "t10k": 64}


def idx(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """An array as LeCun's files have it: magic number, sizes, bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four files of a data set whose images are blocks of a brightness for each class."""
    folder = tmp_path_factory.mktemp("files")
    for part, size in SIZES.items():
        labels = (np.arange(size) % 10).astype(np.uint8)
        images = np.zeros((size, 28, 28), np.uint8)
        images[:, 4:24, 4:24] = (labels * 20 + 50)[:, None, None]
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array), mtime=0))
    return folder


@pytest.fixture(autouse=True)
def torchvisions(files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """torchvision takes these files for FashionMNIST's and KMNIST's, from a server that is here."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(files)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sums = [(f.name, hashlib.md5(f.read_bytes()).hexdigest()) for f in sorted(files.iterdir())]
    for dataset in (datasets.FashionMNIST, datasets.KMNIST):
        monkeypatch.setattr(dataset, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(dataset, "resources", sums)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "no-keras"))
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("dataset", ["FashionMNIST", "KMNIST"])
def test_files_are_downloaded_once_and_verified_each_time(tmp_path: Path, dataset: str) -> None:
    raw = tmp_path / dataset / "raw"
    first, second = (prepare_mnist(tmp_path, dataset) for _ in range(2))  # type: ignore[arg-type]
    assert f"{dataset}: downloaded from http://127.0.0.1" in first
    assert second == f"{dataset}: found in {raw}, MD5 verified."
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"not verified")  # what torchvision reads
    data = MNISTDataModule(str(tmp_path), dataset=dataset)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup()
    assert (len(data.train_set), len(data.test_set)) == (512, 64)
    assert data.test_set.labels.tolist() == [i % 10 for i in range(64)]
    assert data.test_set.images[3, 10, 10] == 110


def test_files_of_keras_and_by_hand(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(MNISTUnavailableError) as caught:
        prepare_mnist(tmp_path, "FashionMNIST")
    for word in ("http://127.0.0.1:9/", "Keras's cache", "by hand", "t10k-labels-idx1-ubyte.gz"):
        assert word in str(caught.value)
    cache = tmp_path / "keras" / "datasets" / "fashion-mnist"
    cache.mkdir(parents=True)
    for file in files.iterdir():
        (cache / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert "Keras's cache" in prepare_mnist(tmp_path, "FashionMNIST")


def test_a_download_that_is_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = [(name, "0" * 32) for name, _ in datasets.KMNIST.resources]
    monkeypatch.setattr(datasets.KMNIST, "resources", wrong)
    with pytest.raises(MNISTUnavailableError, match="does not match its MD5"):
        prepare_mnist(tmp_path, "KMNIST")


@pytest.mark.slow
def test_clothes_from_training_to_prediction(cli: Callable[..., Result], tmp_path: Path) -> None:
    data = f"--data.data_dir={tmp_path / 'data'}"
    logs = f"--trainer.logger.init_args.save_dir={tmp_path / 'logs'}"
    flags = ("--config=configs/fashion.yaml", data, logs, "--trainer.limit_val_batches=1.0")
    done = cli("fit", *SHORT, *SMALL, *flags)
    assert done.code == 0, done.err
    assert "Training images: (512, 28, 28), validation images: (64, 28, 28)" in done.out
    last = tmp_path / "logs" / "fashion" / "version_0" / "checkpoints" / "last.ckpt"

    done = cli("test", "--ckpt_path", last, data, "--trainer.accelerator=cpu")  # no configuration
    assert done.code == 0, done.err
    assert [folder.name for folder in (tmp_path / "data").iterdir()] == ["FashionMNIST"]

    weights = tmp_path / "fashion.safetensors"
    done = cli(
        "export", last, "--format=safetensors", "--out", weights, f"--data_dir={tmp_path}/data"
    )
    assert done.code == 0, done.err
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 4:24] = 200
    Image.fromarray(image).save(tmp_path / "x.png")
    for model in (last, weights):
        table = tmp_path / "x.csv"
        done = cli("predict", tmp_path / "x.png", "--ckpt_path", model, "--out", table)
        assert done.code == 0, done.err
        with table.open() as file:
            (row,) = csv.DictReader(file)
        assert row["class"] == datasets.FashionMNIST.classes[int(row["digit"])]
        assert done.out.splitlines()[1].endswith(row["class"])


def test_a_checkpoint_says_what_its_classes_are(
    cli: Callable[..., Result], small_net: Path, tmp_path: Path
) -> None:
    content = torch.load(small_net, weights_only=True)
    content["datamodule_hyper_parameters"] = {"dataset": "KMNIST"}
    torch.save(content, tmp_path / "x.ckpt")
    assert (
        choose(str(tmp_path / "x.ckpt"), "test", Namespace()).settings["data.dataset"] == "KMNIST"
    )
    Image.fromarray(np.pad(np.full((20, 20), 200, np.uint8), 4)).save(tmp_path / "x.png")
    done = cli("predict", tmp_path / "x.png", "--ckpt_path", tmp_path / "x.ckpt")
    assert done.code == 0, done.err
    head, row = (line.split() for line in done.out.splitlines())
    assert head[-1] == "class"
    assert row[-1] == ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"][int(row[1])]


def test_pictures_of_tensorboard_name_the_classes(tmp_path: Path) -> None:
    names = MNISTDataModule(dataset="FashionMNIST").class_names
    counts = torch.eye(10, dtype=torch.int64)
    named, numbered = confusion_picture(counts, names), confusion_picture(counts)
    assert named.shape == numbered.shape
    different = (named != numbered).any(axis=2)
    assert different[:48].any(axis=0)[48:].reshape(10, 48).any(axis=1).all()  # each column's head
    assert not different[48:, 48:].any()
    wide = captioned_images(torch.zeros(2, 28, 28).byte(), ["Ankle boot as Sneaker: 0.998"] * 2)
    assert (wide[56:] != 255).any(axis=2)[:, [0, -1]].sum() == 0  # nothing is cut off


def test_a_data_set_that_there_is_not(cli: Callable[..., Result]) -> None:
    with pytest.raises(ValueError, match=r"--data\.dataset Fashion: must be one of MNIST, Fash"):
        MNISTDataModule(dataset="Fashion")  # type: ignore[arg-type]
    done = cli("fit", "--data.dataset=Fashion")
    assert done.code == 2
    assert "FashionMNIST" in done.err
