"""MNIST's relatives, in small files of their format: the real ones would have to be downloaded."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import Namespace
from PIL import Image
from torchvision import datasets

from mnist_cnn.checkpoints.start import choose
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.data_sets import DATASETS, Dataset, class_names, class_words
from mnist_cnn.data_sets.files import MNISTUnavailableError, prepare_mnist
from mnist_cnn.reports.drawings import captioned_images, confusion_picture
from tests.conftest import SHORT, SMALL, Result
from tests.test_mnist_files import Quiet

SIZES = {"train": 512, "t10k": 64}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data sets' files, whose images are blocks of a brightness for each class.

    A pixel at the upper right says which way up they are.
    """
    folder = tmp_path_factory.mktemp("files")
    archive = zipfile.ZipFile(folder / "gzip.zip", "w")
    for part, size in SIZES.items():
        labels = (np.arange(size) % 10).astype(np.uint8)
        images = np.zeros((size, 28, 28), np.uint8)
        images[:, 4:24, 4:24] = (labels * 20 + 50)[:, None, None]
        images[:, 0, 27] = 255
        said = np.zeros((size, 8), np.int32)  # what QMNIST says of each
        said[:, 0], said[:, 1] = labels, 7
        test = part.replace("t10k", "test")
        packed = {
            f"{part}-images-idx3-ubyte.gz": idx(images),
            f"{part}-labels-idx1-ubyte.gz": idx(labels),
            f"qmnist-{test}-images-idx3-ubyte.gz": idx(images),
            f"qmnist-{test}-labels-idx2-int.gz": idx(said, 12),
        }
        for name, content in packed.items():
            (folder / name).write_bytes(gzip.compress(content, mtime=0))
        for split in ("digits", "mnist"):
            as_is = np.ascontiguousarray(images.transpose(0, 2, 1))
            for kind, array in (("images-idx3", as_is), ("labels-idx1", labels)):
                name = f"gzip/emnist-{split}-{test}-{kind}-ubyte.gz"
                archive.writestr(name, gzip.compress(idx(array)))
        small = images[:, 6:22, 6:22]
        lines = [libsvm(int(label), image) for label, image in zip(labels, small, strict=True)]
        name = {"train": "usps.bz2", "t10k": "usps.t.bz2"}[part]
        (folder / name).write_bytes(bz2.compress("".join(lines).encode()))
    archive.close()
    return folder


def idx(array: np.ndarray[tuple[int, ...], np.dtype[Any]], kind: int = 8) -> bytes:
    """An array as LeCun's files have it: magic number, sizes, values with the high byte first."""
    sizes = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def libsvm(label: int, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    """A line of USPS's files: the class from 1, pixels from -1 to 1 with their numbers from 1."""
    image = image.copy()
    image[0, 15] = 0
    values = enumerate(image.ravel() / 255 * 2 - 1, 1)
    return f"{label + 1} {' '.join(f'{i}:{value:.6f}' for i, value in values)} \n"


@pytest.fixture(autouse=True)
def torchvisions(files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """torchvision takes these files for the data sets', from a server that is here."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(files)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    sums = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in files.iterdir()}

    def these(prefix: str) -> list[tuple[str, str]]:
        return [(name, md5) for name, md5 in sorted(sums.items()) if name.startswith(prefix)]

    for dataset in (datasets.FashionMNIST, datasets.KMNIST):
        monkeypatch.setattr(dataset, "mirrors", [url])
        monkeypatch.setattr(dataset, "resources", these("train") + these("t10k"))
    of_qmnist = {
        part: [(url + name, md5) for name, md5 in these(f"qmnist-{part}")]
        for part in ("train", "test")
    }
    monkeypatch.setattr(datasets.QMNIST, "resources", of_qmnist)
    monkeypatch.setattr(datasets.EMNIST, "url", f"{url}gzip.zip")
    monkeypatch.setattr(datasets.EMNIST, "md5", sums["gzip.zip"])
    of_usps = {
        part: [url + name, name, sums[name]]
        for part, name in (("train", "usps.bz2"), ("test", "usps.t.bz2"))
    }
    monkeypatch.setattr(datasets.USPS, "split_list", of_usps)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "no-keras"))
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("dataset", sorted({*DATASETS} - {"MNIST"}))
def test_files_are_downloaded_once_and_verified_each_time(tmp_path: Path, dataset: Dataset) -> None:
    raw = DATASETS[dataset].folder(tmp_path)
    first, second = (prepare_mnist(tmp_path, dataset) for _ in range(2))
    assert f"{dataset}: downloaded from http://127.0.0.1" in first
    assert second == f"{dataset}: found in {raw}, MD5 verified."
    for file in raw.glob("*-ubyte"):  # what torchvision reads
        file.write_bytes(b"not verified")
    data = MNISTDataModule(str(tmp_path), dataset=dataset)
    data.prepare_data()
    data.setup()
    assert (len(data.train_set), len(data.test_set)) == (512, 64)
    assert data.test_set.labels.tolist() == [i % 10 for i in range(64)]
    assert data.train_set.images.dtype == torch.uint8
    assert data.train_set.images.shape == (512, 28, 28)
    assert data.test_set.images[3, 10, 10] in (110, 109)  # USPS's numbers are rounded down


@pytest.mark.parametrize("dataset", ["QMNIST", "EMNISTDigits", "EMNISTMNIST"])
def test_images_are_the_right_way_up(tmp_path: Path, dataset: Dataset) -> None:
    prepare_mnist(tmp_path, dataset)
    images, _ = DATASETS[dataset].read(str(tmp_path), train=True)
    assert images[0, 0, 27] == 255
    assert images[0, 27, 0] == 0


def test_usps_is_enlarged_to_the_box_of_mnists_digits(tmp_path: Path) -> None:
    prepare_mnist(tmp_path, "USPS")
    images, labels = DATASETS["USPS"].read(str(tmp_path), train=True)
    dark = np.full((16, 16), 109, np.uint8)
    dark[0, 15] = 0
    expected = np.asarray(Image.fromarray(dark).resize((20, 20), Image.Resampling.BILINEAR))
    assert labels[3] == 3
    assert np.abs(images[3].numpy()[4:24, 4:24].astype(int) - expected).max() <= 1
    assert images[3, :4].sum() == images[3, :, 24:].sum() == 0


def test_more_held_out_than_there_are(tmp_path: Path) -> None:
    data = MNISTDataModule(str(tmp_path), val_size=512, dataset="USPS")
    data.prepare_data()
    with pytest.raises(ValueError, match="val_size 512: there are 512 training images"):
        data.setup()


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
    for dataset in DATASETS:
        assert dataset in done.err


def test_only_words_are_named_beside_digits() -> None:
    worded = {dataset for dataset in DATASETS if class_words(dataset)}
    assert worded == {"FashionMNIST", "KMNIST"}
    assert {tuple(class_names(dataset)) for dataset in {*DATASETS} - worded} == {
        tuple("0123456789")
    }
