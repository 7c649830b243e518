"""A training run's parts, checked against figures computed another way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor, nn

from mnist_cnn import FastCNN, KerasCNN, MNISTClassifier, MNISTDataModule
from mnist_cnn.training.augment import Augmentation
from mnist_cnn.training.global_batches import Batch, GlobalBatchSampler, LabelledImages
from mnist_cnn.training.randomness import Dropout, global_seed, stream_key
from mnist_cnn.training.step import Step, training_losses


def trainer(folder: Path | None = None, **settings: Any) -> Trainer:
    settings = {"max_epochs": 1, "limit_val_batches": 0} | settings
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )


def small(**settings: Any) -> MNISTClassifier:
    return MNISTClassifier(KerasCNN((4, 4), hidden=8), **settings)


def loss_and_accuracy(model: MNISTClassifier, data: MNISTDataModule) -> tuple[float, float]:
    """Over the 10,000 test images, in float64 NumPy from the logits on."""
    with torch.inference_mode():
        logits = np.concatenate([model.eval()(x).numpy() for x in data.test_set.images.split(999)])
    logits = logits.astype(np.float64)
    labels = data.test_set.labels.numpy()
    right = logits[np.arange(len(labels)), labels]
    top = logits.max(axis=1)
    losses = top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - right
    return float(losses.mean()), float((logits.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("eval_batch_size", [128, 3000])  # 10,000 is a multiple of neither
def test_metrics_are_means_over_images(mnist: MNISTDataModule, eval_batch_size: int) -> None:
    torch.manual_seed(0)
    model = small()
    data = MNISTDataModule(mnist.data_dir, eval_batch_size=eval_batch_size)
    run = trainer(limit_val_batches=1.0)
    (validation,) = run.validate(model, data, verbose=False)
    (test,) = run.test(model, data, verbose=False)
    loss, accuracy = loss_and_accuracy(model, data)
    assert validation["val/loss"] == pytest.approx(loss, rel=1e-6)
    assert validation["val/accuracy"] == pytest.approx(accuracy, abs=1e-7)
    assert test["test/loss"] == validation["val/loss"]
    assert test["test/accuracy"] == validation["val/accuracy"]


def test_training_metrics_weigh_the_last_batch_by_its_images(mnist: MNISTDataModule) -> None:
    data = MNISTDataModule(mnist.data_dir, batch_size=400, val_size=59_400)  # 400 and 200
    net = KerasCNN((4, 4), 8, conv_dropout=0.0, dense_dropout=0.0)
    model = MNISTClassifier(net, lambda params: torch.optim.SGD(params, lr=0.0))
    run = trainer()
    run.fit(model, data)
    with torch.inference_mode():
        logits = torch.cat([model(x) for x in data.train_set.images.split(1000)]).double()
    loss = nn.functional.cross_entropy(logits, data.train_set.labels)
    assert float(run.callback_metrics["train/loss"]) == pytest.approx(float(loss), rel=1e-5)
    accuracy = (logits.argmax(dim=1) == data.train_set.labels).double().mean()
    assert float(run.callback_metrics["train/accuracy"]) == pytest.approx(float(accuracy), abs=1e-6)


def test_the_default_optimizer_is_keras_s_adadelta() -> None:
    """Three steps against the update rule as Keras documents it, in float64."""
    gradients = np.random.default_rng(0).normal(size=(3, 5))
    weight, square, delta_square = np.ones(5), np.zeros(5), np.zeros(5)
    for g in gradients:
        square = 0.95 * square + 0.05 * g**2
        delta = np.sqrt(delta_square + 1e-7) / np.sqrt(square + 1e-7) * g
        delta_square = 0.95 * delta_square + 0.05 * delta**2
        weight = weight - 1.0 * delta
    ours = nn.Parameter(torch.ones(5, dtype=torch.float64))
    optimizer = small().optimizer([ours])
    for g in gradients:
        ours.grad = torch.from_numpy(g)
        optimizer.step()
    np.testing.assert_allclose(ours.detach().numpy(), weight, rtol=1e-12)


def test_normalisation_is_inside(mnist: MNISTDataModule) -> None:
    model = small().eval()
    images = mnist.test_set.images[:5]
    expected = model.net(images.float().div(255).unsqueeze(1))
    torch.testing.assert_close(model(images), expected)


def test_labels_are_smoothed_in_training_only(mnist: MNISTDataModule) -> None:
    torch.manual_seed(0)
    model, images = small(label_smoothing=0.2), mnist.train_set.images[:9]
    batch = Batch(images, mnist.train_set.labels[:9], 0, 9)
    for training, smoothing in ((True, 0.2), (False, 0.0)):
        model.train(training)
        for layer in model.net.modules():
            if isinstance(layer, Dropout):
                layer.eval()
        keys = Step(1, 2, 3).keys(2, torch.device("cpu"))
        smooth = 0.2 if training else 0.0
        losses, logits = training_losses(
            model, batch.images, batch.labels, keys, label_smoothing=smooth
        )
        target = F.one_hot(batch.labels, 10) * (1 - smoothing) + smoothing / 10
        torch.testing.assert_close(losses, -(target * logits.log_softmax(dim=1)).sum(dim=1))


def test_images_are_shifted_in_evaluation_only(mnist: MNISTDataModule) -> None:
    torch.manual_seed(0)
    net = FastCNN((4, 4), hidden=8)
    plain, shifting = MNISTClassifier(net), MNISTClassifier(net, test_shifts=1)
    images = mnist.train_set.images[:9]
    assert torch.equal(plain(images), shifting(images))
    moved = [plain(images.roll(by, (1, 2))) for by in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
    mean = sum(logits.softmax(dim=1) for logits in moved) / 5  # no ink at the edge
    torch.testing.assert_close(shifting.eval()(images).softmax(dim=1), mean)


def test_the_same_seed_gives_the_same_bits(mnist: MNISTDataModule) -> None:
    losses = []
    for seed in (1, 1, 2):
        seed_everything(seed, verbose=False)
        run = trainer(limit_train_batches=3)
        run.fit(small(), mnist)
        losses.append(float(run.callback_metrics["train/loss"]))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(("interval", "steps"), [("step", 3), ("epoch", 1)])
def test_a_schedule_advances_at_its_interval(
    mnist: MNISTDataModule, interval: Any, steps: int
) -> None:
    model = small(
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
        lr_scheduler_interval=interval,
    )
    run = trainer(limit_train_batches=3)
    run.fit(model, mnist)
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5**steps)


def test_a_resumed_run_takes_the_optimizer_s_settings_from_its_configuration(
    mnist: MNISTDataModule, tmp_path: Path
) -> None:
    first = trainer(limit_train_batches=1)
    first.fit(small(), mnist)
    first.save_checkpoint(tmp_path / "x.ckpt")
    second = trainer(limit_train_batches=1, max_epochs=2)
    slower = small(optimizer=lambda params: torch.optim.Adadelta(params, lr=0.1))
    second.fit(slower, mnist, ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    assert second.current_epoch == 2
    assert second.optimizers[0].param_groups[0]["lr"] == 0.1


def test_a_checkpoint_is_plain_data_and_says_which_net_it_holds(
    mnist: MNISTDataModule, tmp_path: Path
) -> None:
    run = trainer(limit_train_batches=1)
    run.fit(small(), mnist)
    run.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    net = checkpoint["hyper_parameters"]["net"]
    assert net["class_path"] == "mnist_cnn.nets.KerasCNN"
    assert net["init_args"]["hidden"] == 8
    again = MNISTClassifier.load_from_checkpoint(tmp_path / "x.ckpt", net=KerasCNN((4, 4), 8))
    torch.testing.assert_close(again.state_dict(), run.lightning_module.state_dict())


class Spy(Augmentation):
    """Changes nothing, and keeps what it was asked, and under what."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[int] = []

    def __call__(self, images: Tensor, key: Tensor, *, first_row: int) -> Tensor:
        self.keys.append(int(key))
        self.autocast = torch.is_autocast_enabled("cpu")
        return images


def test_augmentation_does_not_depend_on_the_precision(mnist: MNISTDataModule) -> None:
    spy = Spy()
    run = trainer(limit_train_batches=1, limit_val_batches=1, precision="bf16-mixed")
    run.fit(MNISTClassifier(KerasCNN((4, 4), 8), augment=spy), mnist)
    assert spy.autocast is False


def test_augmentation_ends_after_its_epochs(mnist: MNISTDataModule) -> None:
    spy = Spy()
    run = trainer(limit_train_batches=2, limit_val_batches=1, max_epochs=3)
    run.fit(MNISTClassifier(KerasCNN((4, 4), 8), augment=spy, augment_epochs=1), mnist)
    assert spy.keys == [stream_key(global_seed(), 0, batch, -1) for batch in (0, 1)]


def test_it_says_how_long_augmentation_can_be() -> None:
    with pytest.raises(ValueError, match="augment_epochs -1"):
        MNISTClassifier(KerasCNN((4, 4), 8), augment_epochs=-1)


@pytest.mark.slow
def test_the_compiled_net_computes_the_same(mnist: MNISTDataModule) -> None:
    runs = []
    for compiled in (False, True):
        seed_everything(1)
        run = trainer(limit_train_batches=3)
        model = MNISTClassifier(KerasCNN(), compile=compiled)
        run.fit(model, mnist)
        assert (model.net._compiled_call_impl is not None) == compiled
        runs.append(model.state_dict())
    torch.testing.assert_close(runs[1], runs[0], rtol=1e-4, atol=1e-5)


def test_the_data_go_where_the_model_is_and_stay_there(mnist: MNISTDataModule) -> None:
    """On the device "meta", which every machine has: it knows where a tensor is, not what."""
    device = torch.device("meta")
    dataset = LabelledImages(torch.zeros(10, 28, 28).byte(), torch.zeros(10).long()).to(device)
    sampler = GlobalBatchSampler(dataset, 4, shuffle=True)
    shares = list(sampler)
    assert all(share.indices.device == device for share in shares)
    batch = dataset[shares[0]]
    assert batch.images.device == batch.labels.device == device
