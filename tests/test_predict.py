"""``predict`` on files: which ones, what is written, and what is said about those that fail."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_cnn.data import MNISTDataModule
from mnist_cnn.digits.files import PictureFiles, find_files
from mnist_cnn.training.global_batches import Share
from mnist_cnn.use.classifier import Probabilities, load_classifier
from tests.conftest import Result
from tests.support.scenes import enlarged


@pytest.fixture
def photos(mnist: MNISTDataModule, tmp_path: Path) -> Path:
    """A folder of two pictures, two pages and three files that cannot be used."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    a, b, c, d = (picture for picture, _ in enlarged(mnist, 4))
    a.save(folder / "a.png")
    b.save(folder / "more" / "b.jpg")
    c.save(folder / "pages.tif", save_all=True, append_images=[d, Image.new("L", (9, 9))])
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:999])
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden").write_text("not looked at")
    return folder


def test_files_folders_and_patterns(photos: Path, tmp_path: Path) -> None:
    inside = ["a.png", "cut.png", "more/b.jpg", "notes.txt", "pages.tif"]
    everything = [str(photos / name) for name in inside]
    assert find_files(str(photos)) == everything
    assert find_files([str(photos / "*.png"), str(photos)]) == everything
    assert find_files(str(photos / "**" / "*.jpg")) == [str(photos / "more" / "b.jpg")]
    strange = tmp_path / "[1].png"
    (photos / "a.png").rename(strange)
    assert find_files(str(strange)) == [str(strange)]
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "missing.png", tmp_path / "*.bmp", tmp_path / "empty"):
        assert find_files(str(path)) == [str(path)]


def test_predictions_of_pictures(
    cli: Callable[..., Result],
    small_net: Path,
    photos: Path,
    mnist: MNISTDataModule,
    tmp_path: Path,
) -> None:
    path = tmp_path / "answers.csv"
    paths = f"--data.predict_path=[{photos}, {tmp_path}/missing.png]"
    result = cli("predict", "--ckpt_path", small_net, paths, "--predictions.path", path)
    assert result.code == 3, result.err
    failed = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert failed == [
        f"error: {photos}/cut.png is truncated or damaged",
        f"error: {photos}/notes.txt is not a picture (PNG, JPEG, WEBP, TIFF, BMP, GIF are read)",
        f"error: {photos}/pages.tif, page 3 has no ink: nothing in it differs from its border",
        f"error: {tmp_path}/missing.png does not exist",
    ]
    with path.open() as file:
        rows = list(csv.DictReader(file))
    names = ["a.png", "more/b.jpg", "pages.tif", "pages.tif"]
    assert [row["file"] for row in rows] == [str(photos / name) for name in names]
    assert [row["page"] for row in rows] == ["1", "1", "1", "2"]
    probabilities = np.array([[float(row[f"p{digit}"]) for digit in range(10)] for row in rows])
    files = PictureFiles(find_files(str(photos)))
    images = files[Share(torch.arange(len(files)), 0, len(files))].images
    with torch.inference_mode():
        expected = Probabilities(load_classifier(small_net)[0])(images)
    np.testing.assert_allclose(probabilities, expected.numpy(), rtol=0, atol=2e-6)
    assert [int(row["digit"]) for row in rows] == expected.argmax(dim=1).tolist()
    table = result.out.splitlines()
    assert table[0].split() == ["file", "digit", "confidence", *map(str, range(10))]
    assert table[3].startswith(f"{photos}/pages.tif, page 1")
    assert table[-1] == f"4 predictions: {path}"


def test_json_and_success(
    cli: Callable[..., Result], small_net: Path, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "answers.json"
    pattern = f"--data.predict_path={photos}/**/[ab].*"
    result = cli("predict", "--ckpt_path", small_net, pattern, "--predictions.path", path)
    assert result.code == 0, result.err
    rows = json.loads(path.read_text())
    assert [Path(row["file"]).name for row in rows] == ["a.png", "b.jpg"]
    for row in rows:
        assert len(row["probabilities"]) == 10
        assert row["confidence"] == max(row["probabilities"])
        assert row["digit"] == int(np.argmax(row["probabilities"]))


def test_nothing_can_be_used(cli: Callable[..., Result], small_net: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    path = tmp_path / "answers.csv"
    folder = f"--data.predict_path={tmp_path}/empty"
    result = cli("predict", "--ckpt_path", small_net, folder, "--predictions.path", path)
    assert result.code == 3
    assert f"error: {tmp_path}/empty is a folder with no file in it" in result.err
    assert path.read_text().startswith("file,page,digit,confidence,p0,")


def test_mistakes(cli: Callable[..., Result], small_net: Path) -> None:
    missing = cli("predict", "--data.predict_path=x.png")  # by the model that comes along
    assert missing.code == 3
    assert "x.png does not exist" in missing.err
    other = cli("predict", "--ckpt_path", small_net, "--predictions.path=x.txt")
    assert other.code in (1, 2)
    assert "--predictions.path x.txt: must end in .csv or .json" in other.err


@pytest.mark.slow
def test_ranks_share_the_files(
    program: Callable[..., Result], small_net: Path, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for index, (picture, _) in enumerate(enlarged(mnist, 11)):
        picture.save(folder / f"{index:02}.png")
    (folder / "05.png").write_bytes(b"")
    flags = ["--trainer.accelerator=cpu", "--data.eval_batch_size=4"]
    found = []
    for devices in ([], ["--trainer.devices=2", "--trainer.strategy=ddp"]):
        path = tmp_path / f"{len(devices)}.csv"
        paths = [f"--data.predict_path={folder}", "--predictions.path", path]
        result = program("predict", "--ckpt_path", small_net, *paths, *flags, *devices)
        assert result.code == 3, result.err
        assert result.err.count("05.png is empty") == 1
        assert result.out.count("10 predictions:") == 1
        found.append(path.read_text())
    assert found[0] == found[1]


@pytest.mark.slow
def test_ten_thousand_pictures(
    program: Callable[..., Result], trained: Path, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    labels = []
    for index, (picture, label) in enumerate(enlarged(mnist, 10_000)):
        picture.save(folder / f"{index:05}.png", compress_level=1)
        labels.append(label)
    path = tmp_path / "answers.csv"
    paths = [f"--data.predict_path={folder}", "--predictions.path", path]
    flags = [*paths, "--trainer.accelerator=cpu"]
    result = program("predict", "--ckpt_path", trained, *flags, timeout=600)
    assert result.code == 0, result.err
    assert "… and 9950 more" in result.out
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == [
        f"{index:05}.png" for index in range(10_000)
    ]
    assert np.mean([int(row["digit"]) for row in rows] == np.array(labels)) >= 0.985
