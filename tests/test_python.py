"""The classes in Python, used as Lightning's, PyTorch's and Keras's users use theirs."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.tuner import Tuner
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, prune
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

import mnist_cnn
from mnist_cnn import KerasCNN, MNISTClassifier, MNISTDataModule
from mnist_cnn.errors import UserError
from mnist_cnn.reports.progress import TrainingBar
from mnist_cnn.training.augment import RandomAffine, RandomShift
from mnist_cnn.training.global_batches import Batch
from tests.conftest import SHORT, SMALL


def small(**settings: Any) -> MNISTClassifier:
    return MNISTClassifier(KerasCNN((4, 4), 8), **settings)


def trainer(**settings: Any) -> Trainer:
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    few = {"limit_train_batches": 2, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    given: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu", "devices": 1, "logger": False}
    return Trainer(**given | few | quiet | settings)


def weights(model: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


IMAGES = torch.randint(0, 256, (8, 28, 28), generator=torch.Generator().manual_seed(0)).byte()
LABELS = torch.arange(8)


# Data


def test_an_item_of_the_data_is_an_image_and_its_label(mnist: MNISTDataModule) -> None:
    image, label = mnist.train_set[0]
    assert (image.shape, image.dtype, label) == ((28, 28), torch.uint8, 5)
    assert type(label) is int
    images, labels = mnist.train_set[:3]
    assert (images.shape, labels.tolist()) == ((3, 28, 28), [5, 0, 4])
    with pytest.raises(IndexError):
        mnist.train_set[60_000]


def test_the_data_works_with_torchs_tools(mnist: MNISTDataModule) -> None:
    first, _ = random_split(mnist.train_set, [50_000, 10_000])
    images, labels = next(iter(DataLoader(Subset(first, range(100)), batch_size=64)))
    assert (images.shape, labels.shape) == ((64, 28, 28), (64,))
    assert labels.dtype == torch.int64
    where = first.indices[0]
    assert torch.equal(images[0], mnist.train_set.images[where])


def test_a_loader_that_nobody_resumes_is_whole(mnist: MNISTDataModule) -> None:
    model = small()
    for run in (trainer(), trainer()):
        run.fit(model, datamodule=mnist)
        assert run.global_step == 2
        assert sum(len(batch.labels) for batch in mnist.train_dataloader()) == 60_000


def test_both_can_be_pickled_before_and_after_a_fit(mnist: MNISTDataModule) -> None:
    model = small()
    for _ in range(2):
        for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert torch.equal(copied.eval()(IMAGES), model.eval()(IMAGES))
            assert copied.configure_optimizers().defaults["lr"] == 1.0
        data = pickle.loads(pickle.dumps(mnist))
        assert torch.equal(data.test_set.labels, mnist.test_set.labels)
        trainer().fit(model, datamodule=mnist)


@pytest.mark.slow
def test_lightning_s_and_torch_s_own_exports_take_images_of_floats(tmp_path: Path) -> None:
    import onnxruntime

    model = small().eval()
    for images in (torch.rand(3, 28, 28), torch.rand(3, 1, 28, 28)):
        with torch.no_grad():
            expected = model(images)
        traced: Any = model.to_torchscript(method="trace", example_inputs=images)
        torch.testing.assert_close(traced(images), expected)
        exported = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(exported(images), expected)
        model.to_onnx(tmp_path / "model.onnx", images)
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=1e-4)


# Images


@pytest.mark.parametrize("shape", [(8, 28, 28), (8, 1, 28, 28)])
def test_floats_as_totensor_makes_them_are_the_bytes(shape: tuple[int, ...]) -> None:
    model = small().eval()
    expected = model(IMAGES)
    assert torch.equal(model(IMAGES.view(shape)), expected)
    torch.testing.assert_close(model((IMAGES / 255).view(shape)), expected)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (IMAGES.float(), r"floats must be in \[0, 1\].* from 0 to 255"),
        (IMAGES.float() / -255, r"floats must be in \[0, 1\]"),
        (IMAGES.float() * float("nan"), r"floats must be in \[0, 1\]"),
        (IMAGES.long(), "uint8"),
        (IMAGES[:, None].repeat(1, 3, 1, 1), r"\(8, 3, 28, 28\)"),
        (torch.zeros(8, 32, 32).byte(), r"\(8, 32, 32\)"),
        (IMAGES[0], r"\(28, 28\)"),
        (IMAGES.numpy(), "a tensor, and are ndarray"),
    ],
)
def test_what_cannot_be_meant_is_said(images: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        small()(images)


@pytest.mark.parametrize("images", [IMAGES, IMAGES[:, None] / 255])
@pytest.mark.parametrize("augment", [None, RandomShift(1), RandomAffine()])
def test_any_loader_of_images_and_labels_trains(images: Tensor, augment: Any) -> None:
    loader = DataLoader(TensorDataset(images, LABELS), batch_size=4)
    torch.manual_seed(0)
    model, alike = small(augment=augment), small(augment=augment)
    alike.load_state_dict(model.state_dict())
    run = trainer()
    run.fit(model, loader, loader)
    trainer().fit(alike, DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4))
    for got, expected in zip(weights(model), weights(alike), strict=True):
        torch.testing.assert_close(got, expected)
    assert run.callback_metrics["val/loss"] > 0


def test_predictions_of_tensors() -> None:
    model = small()
    expected = model.eval()(IMAGES).softmax(dim=1)
    sets: list[Any] = [IMAGES, TensorDataset(IMAGES), TensorDataset(IMAGES[:, None] / 255, LABELS)]
    for data in sets:
        (got,) = trainer().predict(model, DataLoader(data, batch_size=8)) or [None]
        torch.testing.assert_close(got, expected)


def test_a_batch_that_is_none_is_said() -> None:
    run = trainer()
    for batch, reason in (
        (IMAGES, "images and labels"),
        ([IMAGES], "images and labels"),
        ([IMAGES, LABELS, LABELS], "images and labels"),
        ([IMAGES, LABELS[:3]], r"shape \(8,\)"),
        ([IMAGES, LABELS.float()], "integers"),
    ):
        with pytest.raises(UserError, match=reason):
            Batch.of(batch, run)
    assert Batch.of([IMAGES, LABELS], run).global_size == 8


# Models


def test_a_checkpoint_needs_no_net_to_be_loaded(tmp_path: Path, mnist: MNISTDataModule) -> None:
    model, run = small(test_shifts=1), trainer()
    run.fit(model, datamodule=mnist)
    run.save_checkpoint(tmp_path / "m.ckpt")
    expected = model.eval()(IMAGES)
    loaded = MNISTClassifier.load_from_checkpoint(tmp_path / "m.ckpt").eval()
    public, facts = mnist_cnn.load_classifier(tmp_path / "m.ckpt")
    for again in (loaded, public):
        assert torch.equal(again(IMAGES), expected)
    assert facts["net"]["init_args"]["hidden"] == 8
    included, _ = mnist_cnn.load_classifier(mnist_cnn.BUNDLED)
    assert included(mnist.test_set.images[:20]).argmax(dim=1).tolist() == (
        mnist.test_set.labels[:20].tolist()
    )


def test_validate_and_test_then_fit(mnist: MNISTDataModule) -> None:
    model, run = small(), trainer(limit_test_batches=1)
    run.validate(model, datamodule=mnist, verbose=False)
    run.test(model, datamodule=mnist, verbose=False)
    run.fit(model, datamodule=mnist)
    run.validate(model, datamodule=mnist, verbose=False)
    assert run.global_step == 2
    assert run.callback_metrics["val/loss"] > 0


def test_weights_can_be_flattened_pruned_and_trained_by_lbfgs(mnist: MNISTDataModule) -> None:
    model = small(optimizer=lambda weights: torch.optim.LBFGS(weights, max_iter=2))
    assert all(weight.is_contiguous() for weight in model.parameters())
    before = parameters_to_vector(model.parameters()).clone()
    trainer().fit(model, datamodule=mnist)
    after = parameters_to_vector(model.parameters())
    assert after.isfinite().all()
    assert not torch.equal(after, before)
    conv2: Any = model.net.conv2
    prune.l1_unstructured(conv2, "weight", 0.5)
    assert int((conv2.weight == 0).sum()) == conv2.weight.numel() // 2


@pytest.mark.slow
def test_a_tuner_finds_the_learning_rate_and_the_batch_size(
    mnist: MNISTDataModule, tmp_path: Path
) -> None:
    model = small(optimizer=torch.optim.SGD)
    found = Tuner(trainer(limit_train_batches=20, default_root_dir=tmp_path)).lr_find(
        model, datamodule=mnist, num_training=16, early_stop_threshold=None
    )
    assert found
    assert found.results["lr"] == sorted(found.results["lr"])
    assert model.lr == found.suggestion()
    assert model.configure_optimizers().param_groups[0]["lr"] == model.lr

    seen = []

    class See(Callback):
        def on_train_batch_end(self, t: Trainer, m: Any, o: Any, batch: Batch, i: int) -> None:
            seen.append((len(batch.labels), t.optimizers[0].param_groups[0]["lr"]))

    size = Tuner(trainer(default_root_dir=tmp_path)).scale_batch_size(
        model, datamodule=mnist, max_trials=2, steps_per_trial=1, init_val=16
    )
    trainer(callbacks=[See()]).fit(model, datamodule=mnist)
    assert size == mnist.batch_size >= 32
    assert seen == [(size, model.lr)] * 2


def test_a_fit_in_chunks_leaves_nothing_for_the_next(mnist_root: Path) -> None:
    chunked, plain = (MNISTDataModule(str(mnist_root), chunks=n) for n in (2, 0))
    model, alike = small(), small()
    trainer().fit(model, datamodule=chunked)
    alike.load_state_dict(model.state_dict())
    for each in (model, alike):
        trainer().fit(each, datamodule=plain)
    for got, expected in zip(weights(model), weights(alike), strict=True):
        torch.testing.assert_close(got, expected)


# The progress bar


def test_the_bar_knows_the_epoch_so_far(
    mnist: MNISTDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_cnn.reports.progress.INTERVAL", 0.0)
    shown: list[dict[str, Any]] = []

    class See(Callback):
        def on_train_batch_end(self, t: Trainer, m: Any, *_: Any) -> None:
            computed = m.train_metrics.compute()
            expected = {
                "loss": f"{computed['train/loss']:.4f}",
                "accuracy": f"{computed['train/accuracy']:.4f}",
            }
            shown.append(bar.get_metrics(t, m))
            assert shown[-1] == expected

    bar = TrainingBar()
    trainer(limit_train_batches=4, enable_progress_bar=True, callbacks=[bar, See()]).fit(
        small(), datamodule=mnist
    )
    assert len(shown) == 4


def test_the_bar_asks_the_device_for_nothing_between_its_looks(
    mnist: MNISTDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    refreshed = 0

    class Watched(TrainingBar):
        def get_metrics(self, *of: Any) -> dict[str, Any]:
            nonlocal refreshed
            refreshed += 1
            with monkeypatch.context() as watch:
                for name in ("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__"):
                    watch.setattr(torch.Tensor, name, noting(name, getattr(torch.Tensor, name)))
                return super().get_metrics(*of)

    def noting(name: str, method: Any) -> Any:
        return lambda *arguments: asked.append(name) or method(*arguments)  # type: ignore[func-returns-value]

    monkeypatch.setattr("mnist_cnn.reports.progress.INTERVAL", 3600.0)
    bar = Watched()
    trainer(limit_train_batches=8, enable_progress_bar=True, callbacks=[bar]).fit(
        small(), datamodule=mnist
    )
    assert refreshed >= 8
    assert asked == ["tolist"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_shows_loss_and_accuracy_while_the_epoch_is_under_way(logs: Path) -> None:
    import pty

    command = [sys.executable, "-m", "mnist_cnn", "fit", *SHORT, *SMALL]
    command += ["--trainer.limit_train_batches=100"]
    command += [f"--trainer.logger.init_args.save_dir={logs}"]
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a pseudo-terminal
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))
    assert process.wait(60) == 0, text
    assert re.search(r"Epoch 1/1 .* [1-8]\d/100 .* loss: \d\.\d+ accuracy: 0\.\d+", text), text
