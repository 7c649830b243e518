"""``predict`` on files: which ones, what is written, and what is said about those that fail."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.digits.files import find_files, read_files
from mnist_cnn.digits.find import likeliest
from mnist_cnn.processes import cores
from mnist_cnn.use.classifier import Probabilities
from tests.conftest import ROOT, Result
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
    paths = (photos, tmp_path / "missing.png")
    result = cli("predict", *paths, "--ckpt_path", small_net, "--out", path)
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
    pages = read_files(find_files(str(photos)))
    found = [likeliest(page.candidates).image for page in pages if page.candidates]
    images = torch.from_numpy(np.stack(found))
    with torch.inference_mode():
        expected = Probabilities(load_classifier(small_net)[0])(images)
    np.testing.assert_allclose(probabilities, expected.numpy(), rtol=0, atol=2e-6)
    assert [int(row["digit"]) for row in rows] == expected.argmax(dim=1).tolist()
    table = result.out.splitlines()
    assert table[0].split() == [
        "file",
        "digit",
        "confidence",
        *map(str, range(10)),
        "number",
        "doubt",
    ]
    assert table[3].startswith(f"{photos}/pages.tif, page 1")
    assert table[-1] == f"4 predictions: {path}"
    assert {p.name for p in tmp_path.iterdir()} == {"photos", "answers.csv"}  # and no logs


def test_json_and_success(
    cli: Callable[..., Result], small_net: Path, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "answers.json"
    result = cli("predict", f"{photos}/**/[ab].*", "--ckpt_path", small_net, "--out", path)
    assert result.code == 0, result.err
    rows = json.loads(path.read_text())
    assert [Path(row["file"]).name for row in rows] == ["a.png", "b.jpg"]
    for row in rows:
        assert len(row["probabilities"]) == 10
        assert row["confidence"] == max(row["probabilities"])
        assert row["digit"] == int(np.argmax(row["probabilities"]))
        assert {"number", "doubt", "digits"} <= set(row)


def test_nothing_can_be_used(cli: Callable[..., Result], small_net: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    path = tmp_path / "answers.csv"
    result = cli("predict", tmp_path / "empty", "--ckpt_path", small_net, "--out", path)
    assert result.code == 2
    assert f"error: {tmp_path}/empty is a folder with no file in it" in result.err
    assert "error: none of 1 pictures can be used" in result.err
    assert not path.exists()


def test_mistakes(cli: Callable[..., Result], small_net: Path) -> None:
    missing = cli("predict", "x.png")  # by the included model
    assert missing.code == 2
    assert "x.png does not exist" in missing.err
    for flag, *command in (
        ("--predictions.path", "predict", "--ckpt_path", str(small_net)),
        ("--out", "predict", "x.png"),
    ):
        other = cli(*command, f"{flag}=x.txt")
        assert other.code == 2
        assert f"{flag} x.txt: must end in .csv or .json" in other.err
    for bad in (("--accelerator=tpu",), ("--test_shifts=15",), ("--oout=x.csv",)):
        refused = cli("predict", "x.png", *bad)
        assert refused.code == 2
        assert bad[0].partition("=")[0] in refused.err
    unset = cli("predict", "x.png", "--ckpt_path", "")  # of a variable that is not set
    assert (unset.code, "checkpoint" in unset.err) == (2, True)
    former = cli("predict", "--data.predict_path=x.png", "--predictions.pth=x.csv")
    assert former.code == 2
    assert "unrecognized arguments: --predictions.pth" in former.err
    elsewhere = cli("test", "--data.predict_path=x.png")
    assert elsewhere.code == 2
    assert "mnist-cnn predict PICTURES" in elsewhere.err
    beside = cli("predict", "--accelerator=cpu", "x.png")  # options first
    assert "x.png does not exist" in beside.err


def test_the_form_of_the_last_release(
    cli: Callable[..., Result], small_net: Path, photos: Path, tmp_path: Path
) -> None:
    picture, other = photos / "a.png", photos / "more" / "b.jpg"
    config = tmp_path / "mine.yaml"
    config.write_text(f"data:\n  predict_path: {picture}\ntrainer:\n  max_epochs: 3\n")
    flags = [
        f"--ckpt_path={small_net}",
        "--trainer.accelerator",
        "cpu",
        "--trainer.logger",
        "false",
    ]
    results = {}
    for name, former in {
        "new.csv": (picture, other, "--ckpt_path", small_net),
        "list.csv": ("--data.predict_path", f"[{picture}, '{other}']", *flags),
        "config.csv": ("-c", config, "--model.test_shifts=0", *flags),
    }.items():
        out = "--out" if name == "new.csv" else "--predictions.path"
        results[name] = cli("predict", *former, out, tmp_path / name)
        assert results[name].code == 0, results[name].err
    assert (tmp_path / "list.csv").read_text() == (tmp_path / "new.csv").read_text()
    assert len((tmp_path / "config.csv").read_text().splitlines()) == 2
    command = (
        f"mnist-cnn predict {picture} {other} --ckpt_path {small_net} --out {tmp_path}/list.csv"
    )
    assert command in results["list.csv"].err
    assert {p.name for p in tmp_path.iterdir()} == {"photos", "mine.yaml", *results}  # and no logs


def test_a_table_that_cannot_be_written(
    cli: Callable[..., Result], small_net: Path, photos: Path
) -> None:
    into = photos / "a.png" / "answers.csv"
    result = cli("predict", photos / "a.png", "--ckpt_path", small_net, "--out", into)
    assert result.code == 2
    assert f"error: --out {into}: cannot be written: File exists" in result.err


def test_options_may_stand_between_pictures(
    cli: Callable[..., Result], small_net: Path, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    first, second = photos / "a.png", photos / "more" / "b.jpg"
    result = cli("predict", first, "--ckpt_path", small_net, "--out", path, second)
    assert result.code == 0, result.err
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.slow
def test_many_pictures_need_few_open_files(small_net: Path, photos: Path, tmp_path: Path) -> None:
    content = (photos / "a.png").read_bytes()
    for index in range(400):
        (tmp_path / f"{index:03}.png").write_bytes(content)
    command = f"ulimit -n 200; {sys.executable} -m mnist_cnn predict '{tmp_path}/*.png'"
    done = subprocess.run(
        ["bash", "-c", f"{command} --accelerator cpu --ckpt_path {small_net}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "... and 350 more" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or cores() < 2, reason="there are none to be seen")
def test_reading_processes_end_with_the_program_and_it_with_them(
    photos: Path, tmp_path: Path
) -> None:
    content = (photos / "a.png").read_bytes()
    for index in range(4_000):
        (tmp_path / f"{index:04}.png").write_bytes(content)
    command = [sys.executable, "-m", "mnist_cnn", "predict", str(tmp_path)]

    def begin(started: int = 2) -> tuple[subprocess.Popen[str], list[int]]:
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        while len(readers := helpers(process.pid)) < started:
            assert process.poll() is None
            time.sleep(0.002)
        return process, readers

    def end(readers: list[int]) -> None:
        deadline = time.monotonic() + 30
        while any(map(command_of, readers)):
            assert time.monotonic() < deadline, "a process that reads outlived the program"
            time.sleep(0.05)

    program, readers = begin()
    program.kill()
    program.communicate(timeout=60)
    end(readers)

    for number in (signal.SIGKILL, signal.SIGTERM):
        program, readers = begin()
        os.kill(readers[0], number)
        _, said = program.communicate(timeout=60)
        assert program.returncode == 2
        assert "a process that helps this one was ended" in said
        assert "Traceback" not in said

    for number in (signal.SIGTERM, signal.SIGINT):
        for started in (1, 2, 1, 2, 1, 2):  # an exception while they start was lost, or a hang
            program, readers = begin(started)
            program.send_signal(number)
            _, said = program.communicate(timeout=60)
            assert program.returncode == 128 + number
            assert "Traceback" not in said
            end(readers)


def helpers(parent: int) -> list[int]:
    """The processes that a process has started, those that these have started, and so on."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    found = [helper for child in children for helper in helpers(int(child)) or [int(child)]]
    return [helper for helper in found if b"resource_tracker" not in command_of(helper)]


def command_of(process: int) -> bytes:
    """A process's command; empty if it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.mark.slow
def test_ranks_share_the_test_images(
    program: Callable[..., Result], small_net: Path, tmp_path: Path
) -> None:
    flags = ["--trainer.accelerator=cpu", "--data.eval_batch_size=4"]
    flags += ["--trainer.limit_predict_batches=3"]
    found = []
    for devices in ([], ["--trainer.devices=2", "--trainer.strategy=ddp"]):
        path = tmp_path / f"{len(devices)}.csv"
        path_flag = ["--predictions.path", path]
        result = program("predict", "--ckpt_path", small_net, *path_flag, *flags, *devices)
        assert result.code == 0, result.err
        assert result.out.count("12 predictions:") == 1
        found.append(path.read_text())
    assert len(found[0].splitlines()) == 13
    assert found[0] == found[1]


@pytest.mark.slow
def test_thousands_of_pictures(
    program: Callable[..., Result], trained: Path, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    labels = []
    for index, (picture, label) in enumerate(enlarged(mnist, 2_000)):
        picture.save(folder / f"{index:05}.png", compress_level=1)
        labels.append(label)
    path = tmp_path / "answers.csv"
    flags = ("--out", path, "--accelerator=cpu")
    result = program("predict", folder, "--ckpt_path", trained, *flags, timeout=600)
    assert result.code == 0, result.err
    assert "... and 1950 more" in result.out
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == [f"{index:05}.png" for index in range(2_000)]
    assert np.mean([row["digit"] for row in rows] == np.array(labels)) >= 0.985


@pytest.mark.slow
def test_who_only_reads_pictures_waits_for_no_lightning() -> None:
    """Importing it takes twice as long as torch; and pictures are read before torch is there."""
    code = (
        "import sys, mnist_cnn.use.predict;"
        "assert 'torch' not in sys.modules;"
        "import mnist_cnn.use.answers, mnist_cnn.serve.app;"
        "sys.exit(any(name.partition('.')[0] in ('lightning', 'torchmetrics', 'torchvision')"
        "for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
