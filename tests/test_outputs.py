"""What a run leaves behind: event files, report, predictions."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.reports.console import _line
from mnist_cnn.reports.curves import CURVES
from mnist_cnn.reports.drawings import confusion_picture
from mnist_cnn.reports.tensorboard import _MostConfidentlyWrong
from mnist_cnn.training.global_batches import Batch
from tests.conftest import ROOT, SHORT, SMALL, Result


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0})
    accumulator.Reload()
    return accumulator


def test_tensorboard_shows_what_the_readme_says(cli: Callable[..., Result], logs: Path) -> None:
    result = cli("fit", *SHORT, *SMALL, "--trainer.max_epochs=2", "--trainer.limit_val_batches=1.0")
    assert result.code == 0, result.err
    assert "validate on 10000 samples" in result.out
    final = result.out[result.out.rindex("2/2 ") :]  # the last row, then the test it was
    assert f"Test loss: {final.split()[4]}" in final
    assert f"Test accuracy: {final.split()[5]}" in final
    folder = logs / "cnn" / "version_0"
    assert (folder / "config.yaml").exists()
    files = {path.name for path in (folder / "checkpoints").iterdir()}
    assert files == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    run = events(folder)
    scalars = run.Tags()["scalars"]
    assert {"train/images_per_second", "lr-Adadelta", "hp_metric"} & set(scalars) == {
        "train/images_per_second",
        "lr-Adadelta",
    }
    for tag in CURVES:
        assert [e.step for e in run.Scalars(f"over_epochs/{tag}")] == [1, 2]
        assert [e.step for e in run.Scalars(f"over_images/{tag}")] == [3 * 128, 6 * 128]
        values = [e.value for e in run.Scalars(tag)]
        assert values == [e.value for e in run.Scalars(f"over_epochs/{tag}")]
    steps = run.Scalars("over_images/train/loss_of_step")
    assert [e.step for e in steps] == [128 * i for i in range(1, 7)]
    mean = np.mean([e.value for e in steps[:3]])  # batches of one size
    assert run.Scalars("over_epochs/train/loss")[0].value == pytest.approx(mean, rel=1e-5)
    assert run.Tags()["images"] == ["val/confusion", "val/most_confidently_wrong"]
    assert [image.step for image in run.Images("val/confusion")] == [1, 2]
    assert "net/conv1/weight" in run.Tags()["histograms"]
    assert run.Tags()["graph"]
    settings = run.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"net/hidden" in settings
    assert b"optimizer/rho" in settings


def test_the_report_is_in_the_published_run_s_terms(cli: Callable[..., Result], logs: Path) -> None:
    result = cli("fit", *SHORT, "--trainer.max_epochs=2")
    assert "(60000, 28, 28), validation images: (10000, 28, 28), the test images" in result.out
    assert "Train on 384 samples, validate on 256 samples" in result.out  # what SHORT leaves
    assert "Test loss" not in result.out  # 256 of the test images are no test
    assert "batches of 128 = 1 device(s) x 128" in result.out
    summary = result.out[result.out.rindex("Training images") :]
    rows = re.findall(
        r"^ +(\d)/2 +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", summary, re.M
    )
    assert [row[0] for row in rows] == ["1", "2"]
    run = events(logs / "cnn" / "version_0")
    for column, tag in enumerate(CURVES, start=2):
        values = [f"{e.value:.4f}" for e in run.Scalars(f"over_epochs/{tag}")]
        assert [row[column] for row in rows] == values
    best = max(rows, key=lambda row: row[5])
    assert f"Best val_accuracy: {best[5]} (epoch {best[0]})" in summary
    assert f"--logdir {logs}" in summary
    assert "\x1b" not in result.out  # no terminal codes in a log file
    assert result.out.count("\r") == 0


@pytest.mark.slow
def test_held_out_images_leave_the_test_to_the_test_command(
    cli: Callable[..., Result], logs: Path
) -> None:
    result = cli("fit", *SHORT, *SMALL, "--data.val_size=10000")
    assert "Training images: (50000, 28, 28), validation images: (10000, 28, 28)" in result.out
    assert "held out of training" in result.out
    assert "Test loss" not in result.out
    (command,) = re.findall(r"Test it: +python -m mnist_cnn (.*)", result.out)
    assert cli(*command.split()).code == 0
    assert events(logs / "cnn" / "version_1").Tags()["images"][0] == "test/confusion"


@pytest.mark.slow
def test_resuming_shows_the_epochs_before_and_says_when_nothing_is_left(
    cli: Callable[..., Result], logs: Path
) -> None:
    first = cli("fit", *SHORT)
    last = logs / "cnn" / "version_0" / "checkpoints" / "last.ckpt"
    nothing = cli("fit", *SHORT, "--ckpt_path", last)
    assert nothing.code == 0
    assert "Nothing was trained: the run had already reached epoch 1 of" in nothing.out
    more = cli("fit", *SHORT, "--ckpt_path", last, "--trainer.max_epochs=2")
    assert "Nothing was trained" not in more.out
    (line,) = set(re.findall(r"^ +1/1 (.*)$", first.out, re.M))
    assert f"1/2   {line.strip()}" in re.sub(r"1/2 +", "1/2   ", more.out)
    run = events(logs / "cnn" / "version_2")
    assert [e.step for e in run.Scalars("over_images/train/loss")] == [6 * 128]


def test_a_diverging_run_says_so_and_ends(cli: Callable[..., Result], logs: Path) -> None:
    steep = ("--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e12")
    result = cli("fit", *SHORT, *SMALL, *steep)
    assert result.code == 0, result.err
    assert re.search(r"the loss became NaN or infinite at step [23]: lower the", result.err)
    assert "--model.optimizer.lr, which is 1e+12" in result.err
    run = events(logs / "cnn" / "version_0")
    assert np.isnan(run.Scalars("over_epochs/train/loss")[0].value)
    assert run.Tags()["images"] == ["val/confusion", "val/most_confidently_wrong"]


@pytest.mark.slow
def test_a_run_without_validation_names_what_it_left(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    folder = tmp_path / "my logs" / "cnn" / "version_0"
    flags = (
        *(*SHORT, *SMALL, "--trainer.limit_val_batches=0", "--trainer.max_epochs=12"),
        *("--trainer.max_steps=2", "--trainer.callbacks+=LearningRateMonitor"),
        f"--trainer.logger.init_args.save_dir={tmp_path / 'my logs'}",
    )
    result = cli("fit", *flags)
    assert result.code == 0, result.err
    assert "Train on 384 samples, validate on 0 samples" in result.out
    assert f"Checkpoint:  {folder}/checkpoints/last.ckpt" in result.out
    assert f"--ckpt_path '{folder}/checkpoints/last.ckpt'" in result.out
    assert f"--logdir '{tmp_path / 'my logs'}'" in result.out
    rates = [e.step for e in events(folder).Scalars("lr-Adadelta")]
    assert len(rates) == 3  # of the user's monitor alone: at the start of the epoch and of steps
    nothing = cli("fit", *flags, "--ckpt_path=last")
    assert "had already reached step 2 of --trainer.max_steps 2; raise it" in nothing.out


def test_overfit_batches_are_the_first_and_the_same_in_each_epoch(
    cli: Callable[..., Result], logs: Path, mnist: MNISTDataModule
) -> None:
    still = ("--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0")
    dropout = ("--model.net.init_args.conv_dropout=0", "--model.net.init_args.dense_dropout=0")
    short = [flag for flag in SHORT if "limit_" not in flag]
    flags = (*short, *SMALL, *still, *dropout, "--trainer.overfit_batches=2")
    result = cli("fit", *flags, "--trainer.max_epochs=2")
    assert result.code == 0, result.err
    assert "Train on 256 samples, validate on 256 samples" in result.out
    folder = logs / "cnn" / "version_0"
    first, second = (e.value for e in events(folder).Scalars("over_epochs/train/loss"))
    epochs = [(e.step, e.value) for e in events(folder).Scalars("epoch")]
    assert len(epochs) == len(set(epochs)) == 2  # not with either part's figures
    model = load_classifier(folder / "checkpoints" / "last.ckpt")[0]
    with torch.no_grad():
        logits = model(mnist.train_set.images[:256])
    expected = torch.nn.functional.cross_entropy(logits, mnist.train_set.labels[:256])
    assert first == pytest.approx(second, rel=1e-6)
    assert first == pytest.approx(float(expected), rel=1e-4)


def test_barebones_trains_and_leaves_nothing(cli: Callable[..., Result], tmp_path: Path) -> None:
    short = [flag for flag in SHORT if "log_every" not in flag]
    root = ("--trainer.barebones=true", f"--trainer.default_root_dir={tmp_path}")
    result = cli("fit", *short, *SMALL, *root)
    assert result.code == 0, result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_predictions_are_those_of_the_checkpoint(
    cli: Callable[..., Result], logs: Path, tmp_path: Path
) -> None:
    cli("fit", *SHORT, *SMALL, "--trainer.limit_val_batches=1.0")
    last = logs / "cnn" / "version_0" / "checkpoints" / "last.ckpt"
    path = tmp_path / "new" / "answers.csv"
    result = cli("predict", "--ckpt_path", last, "--predictions.path", path)
    assert result.code == 0, result.err
    assert f"10000 predictions: {path}" in result.out
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(10_000))
    probabilities = np.array([[float(row[f"p{i}"]) for i in range(10)] for row in rows])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert [int(row["digit"]) for row in rows] == probabilities.argmax(axis=1).tolist()
    labels = np.frombuffer(
        (ROOT / "data/MNIST/raw/t10k-labels-idx1-ubyte").read_bytes()[8:], np.uint8
    )
    accuracy = np.mean(labels == [int(row["digit"]) for row in rows])
    logged = events(logs / "cnn" / "version_0").Scalars("val/accuracy")[-1].value
    assert accuracy == pytest.approx(logged, abs=1e-6)


def test_the_most_confidently_wrong_are_found_across_batches() -> None:
    def batch(confidences: list[float], labels: list[int]) -> tuple[torch.Tensor, Batch]:
        logits = torch.zeros(len(labels), 10)
        logits[:, 3] = torch.tensor(confidences)
        images = torch.zeros(len(labels), 28, 28, dtype=torch.uint8)
        return logits, Batch(images, torch.tensor(labels), 0, len(labels))

    wrong = _MostConfidentlyWrong(3)
    wrong.update(*batch([9, 1, 5], [3, 2, 1]))  # the surest is right
    wrong.update(*batch([7, 0.5], [0, 4]))
    assert [(label, answer) for _, label, answer, _ in wrong.found] == [(0, 3), (1, 3), (2, 3)]
    assert wrong.picture() is not None
    assert _MostConfidentlyWrong(3).picture() is None


def test_the_confusion_picture_shows_mistakes_in_red() -> None:
    counts = torch.zeros(10, 10, dtype=torch.long)
    counts[4, 4], counts[4, 9] = 90, 10
    picture = confusion_picture(counts)
    cell = picture.shape[0] // 11
    row = picture[5 * cell + 3]
    right, wrong, empty = (row[(column + 1) * cell + 3].astype(int) for column in (4, 9, 0))
    assert right[2] > right[0]
    assert wrong[0] > wrong[2]
    assert empty.tolist() == [255, 255, 255]
    nothing = confusion_picture(torch.zeros(10, 10, dtype=torch.long))  # no image of any class
    assert nothing[5 * cell + 3, 5 * cell + 3].tolist() == [255, 255, 255]


def test_the_committed_published_run_is_complete() -> None:
    from docs.scripts.published_keras import EPOCHS

    run = events(ROOT / "tb_logs" / "published-keras")
    for i, tag in enumerate(CURVES):
        for axis, unit in (("over_epochs/", 1), ("over_images/", 60_000), ("", 469)):
            points = run.Scalars(axis + tag)
            offset = 0 if axis else -1  # Lightning counts steps from 0
            steps = [unit * epoch + offset for epoch in range(1, 13)]
            assert [e.step for e in points] == steps
            assert [round(e.value, 4) for e in points] == [row[i] for row in EPOCHS]


@pytest.mark.parametrize("loss", [0.0312, 477.6760, 89_865_245.0])
def test_the_columns_of_an_epoch_stay_apart(loss: float) -> None:
    row = {"epoch": 1.0, "s": 6.2} | dict.fromkeys(CURVES, loss)
    assert _line(row, 12).split() == ["1/12", "6.2", *[f"{loss:.4f}"] * 4]
