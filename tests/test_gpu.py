"""What a GPU computes is what a CPU computes, up to rounding; and nothing waits for it."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import WeightAveraging
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from mnist_cnn import Adadelta, KerasCNN, MNISTClassifier, MNISTDataModule
from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.checkpoints.files import BUNDLED
from mnist_cnn.errors import UserError
from mnist_cnn.training.augment import RandomAffine, RandomShift
from mnist_cnn.training.randomness import Dropout, keyed_dropout, step_keys
from mnist_cnn.use.classifier import Probabilities
from tests.conftest import CNN, Result
from tests.support.interruptions import CRASH, LAST, interrupted
from tests.support.runs import differences, state

pytestmark = pytest.mark.gpu

Program = Callable[..., Result]
GPU, CPU = torch.device("cuda"), torch.device("cpu")
KEY = step_keys(1, 2, 3, layers=0, device=CPU)[0]
FAST, RECORD = ("--config", "configs/fast.yaml"), ("--config", "configs/record.yaml")
BF16, EXACT = (("--config", f"configs/{n}.yaml") for n in ("bf16", "exact"))
PLAIN, UNCOMPILED = ("--model.record_step=false",), ("--model.compile=false",)
MUST = "--model.record_step=true"  # or it fails
ON_GPU = ("--trainer.accelerator=gpu", "--trainer.devices=1")

# Lightning sets it for --trainer.deterministic, but CUDA looks at it once in a process.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def leave_torch_as_it_was() -> Iterator[None]:
    """Undo what ``--trainer.deterministic`` sets."""
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark


@pytest.fixture
def whole_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of float32 as on a CPU; by default a GPU's convolutions round to TF32's 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def scalars(run: Path, tag: str) -> list[float]:
    events = EventAccumulator(str(run))
    events.Reload()
    return [event.value for event in events.Scalars(tag)]


def test_dropout_masks_are_those_of_a_cpu() -> None:
    layers = nn.Sequential(Dropout(0.25), Dropout(0.5))
    masks = []
    for device in (GPU, CPU):
        keys = step_keys(1, 2, 3, layers=2, device=device)
        with keyed_dropout(layers, keys[1:], first_row=40):
            masks.append([layer(torch.ones(64, 9216, device=device)).cpu() for layer in layers])
    assert all(map(torch.equal, *masks))
    assert 0.24 < float(masks[0][0].eq(0).float().mean()) < 0.26


def test_training_images_are_changed_as_on_a_cpu(mnist: MNISTDataModule) -> None:
    images = mnist.train_set.images[:1000]
    shift = RandomShift(2)
    assert torch.equal(
        shift(images.to(GPU), KEY.to(GPU), first_row=40).cpu(), shift(images, KEY, first_row=40)
    )
    affine = RandomAffine(bend=0.8, thicken=0.5)
    moved = affine(images.to(GPU), KEY.to(GPU), first_row=40).cpu().int()
    expected = affine(images, KEY, first_row=40).int()
    # Angles and bilinear sums are rounded in other places, and then to whole grey levels.
    assert ((moved - expected).abs() <= 1).float().mean() > 0.999
    assert (moved == expected).float().mean() > 0.99


class Losses(Callback):
    """Keeps the loss of each step."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.seen.append(outputs["loss"])


def losses(
    accelerator: str,
    mnist: MNISTDataModule,
    record_step: Any = "auto",
    compile: Any = False,
    net: Callable[[], nn.Module] = KerasCNN,
    **settings: Any,
) -> Tensor:
    """Of the first steps of the Keras net, as ``cnn.yaml`` trains it, or of another."""
    seed_everything(1, verbose=False)
    seen = Losses()
    run = Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=1,
        limit_val_batches=0,
        callbacks=[seen],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    model = MNISTClassifier(net(), record_step=record_step, compile=compile)
    run.fit(model, mnist)
    if record_step is True:
        assert model.whole_steps.made
        assert model.whole_steps.compile == compile  # not given up
    return torch.stack(seen.seen).cpu()


@pytest.mark.usefixtures("whole_floats")
@pytest.mark.parametrize("compile", [False, True], ids=["", "compiled"])
def test_a_recorded_run_is_that_of_lightning_s_own_steps(
    mnist: MNISTDataModule, compile: bool
) -> None:
    settings: dict[str, Any] = {"limit_train_batches": 20, "deterministic": True}
    recorded, plain = (
        losses("gpu", mnist, record_step=record, compile=record and compile, **settings)
        for record in (True, False)
    )
    torch.testing.assert_close(recorded[:10], plain[:10], rtol=0, atol=1e-5)
    # A compiled program rounds elsewhere, and training magnifies it.
    torch.testing.assert_close(recorded, plain, rtol=0, atol=5e-2 if compile else 1e-5)


@pytest.mark.usefixtures("whole_floats")
def test_training_follows_that_on_a_cpu(mnist: MNISTDataModule) -> None:
    gpu, cpu = (
        losses(accelerator, mnist, limit_train_batches=20) for accelerator in ("gpu", "cpu")
    )
    assert cpu[0] > 2
    torch.testing.assert_close(gpu[:10], cpu[:10], rtol=0, atol=1e-4)
    # Training magnifies what rounding made: several processes on a CPU differ by 2.5e-3 here.
    torch.testing.assert_close(gpu, cpu, rtol=0, atol=5e-2)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_it_learns_in_any_precision(mnist: MNISTDataModule, precision: Any) -> None:
    seen = losses("gpu", mnist, limit_train_batches=150, precision=precision)
    assert seen.isfinite().all()
    assert seen[-20:].mean() < 0.5


def test_the_optimizer_is_torch_s_there() -> None:
    """The walk through memory that numba compiles is for a CPU."""
    weights = [nn.Parameter(torch.ones(3, 4, device=GPU)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.linspace(-1, 1, 12, device=GPU).view(3, 4)
    Adadelta(weights[:1], lr=1.0, rho=0.95, eps=1e-7).step()
    torch.optim.Adadelta(weights[1:], lr=1.0, rho=0.95, eps=1e-7).step()
    assert torch.equal(*weights)


def test_a_run_on_a_gpu_is_tested_on_a_cpu(cli: Program, program: Program, logs: Path) -> None:
    fit = program(
        "fit", *CNN, *ON_GPU, "--trainer.max_epochs=1", "--trainer.limit_train_batches=100"
    )
    assert fit.code == 0, fit.err
    assert "Best val_accuracy" in fit.out
    run = logs / "cnn" / "version_0"
    (accuracy,) = scalars(run, "over_epochs/val/accuracy")
    assert accuracy > 0.9
    assert len(scalars(run, "over_images/train/loss_of_step")) == 2
    assert (run / "checkpoints" / "best.ckpt").is_file()
    for version, accelerator in enumerate(("gpu", "cpu"), start=1):
        last = run / "checkpoints" / "last.ckpt"
        test = cli("test", *CNN, f"--trainer.accelerator={accelerator}", "--ckpt_path", last)
        assert test.code == 0, test.err
        (again,) = scalars(logs / "cnn" / f"version_{version}", "test/accuracy")
        assert again == pytest.approx(accuracy, abs=5e-4)  # of 10,000 images; TF32


def test_the_model_that_comes_along_reads_the_same_digits(
    cli: Program, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    flags = ("--data.eval_batch_size=500", "--trainer.limit_predict_batches=2")
    tables = []
    for accelerator in ("gpu", "cpu"):
        path = tmp_path / f"{accelerator}.csv"
        where = f"--trainer.accelerator={accelerator}"
        done = cli("predict", where, *flags, "--predictions.path", path)
        assert done.code == 0, done.err
        tables.append(list(csv.DictReader(path.open())))
    digits, expected = ([row["digit"] for row in table] for table in tables)
    assert len(digits) == 1000
    assert digits == expected


@pytest.mark.usefixtures("whole_floats")
def test_a_checkpoint_as_a_function_goes_where_it_is_put(mnist: MNISTDataModule) -> None:
    probabilities = Probabilities(load_classifier(BUNDLED)[0])
    images = mnist.test_set.images[:200]
    with torch.inference_mode():
        expected = probabilities(images)
        seen = probabilities.to(GPU)(images.to(GPU)).cpu()
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-4)


class TheAverageIsThere(Callback):
    """Sees that averaged weights are where the model is: elsewhere each step would copy them."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        (average,) = (c._average_model for c in callbacks if isinstance(c, WeightAveraging))
        assert average is not None
        assert {weight.device for weight in average.parameters()} == {pl_module.device}


def added(callback: type[Callback]) -> str:
    class_path = f"{callback.__module__}.{callback.__name__}"
    return f"--trainer.callbacks+={json.dumps([{'class_path': class_path}])}"


#: 40 steps, each of which logs its loss, and two batches of validation.
SHORT = (
    *ON_GPU,
    *(
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=40",
        "--trainer.log_every_n_steps=1",
    ),
    *("--trainer.limit_val_batches=2", "--trainer.check_val_every_n_epoch=1"),
    "--trainer.enable_model_summary=false",
)


class Asks(nn.Module):
    """A net that waits for its device, as one does that decides by a value."""

    def __init__(self) -> None:
        super().__init__()
        self.net = KerasCNN((4, 8), hidden=16)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.sum().item() >= 0 else x


def test_a_net_that_cannot_be_recorded_trains_as_before(
    mnist: MNISTDataModule,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    here = torch.cuda.current_stream()
    settings: dict[str, Any] = {"limit_train_batches": 20, "deterministic": True}
    recorded, plain = (
        losses("gpu", mnist, record_step=record, net=Asks, **settings) for record in ("auto", False)
    )
    said = capsys.readouterr().err + caplog.text
    assert "The step is not recorded, but taken as on a CPU: " in said
    assert torch.cuda.current_stream() == here
    assert torch.cuda.get_sync_debug_mode() == 0
    assert torch.equal(recorded, plain)
    with pytest.raises(UserError, match="the step cannot be recorded"):
        losses("gpu", mnist, record_step=True, net=Asks, limit_train_batches=3)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param((*RECORD, added(TheAverageIsThere), MUST), id="record"),
        pytest.param((*RECORD, *BF16, added(TheAverageIsThere), MUST), id="record bf16"),
        pytest.param((*CNN, *EXACT), id="exact"),
        pytest.param((*CNN, *BF16, MUST), id="cnn bf16"),
        pytest.param((*CNN, *UNCOMPILED, MUST), id="recorded uncompiled"),
        # The gradient's sum is a part of what is recorded; for a group of one NCCL only copies.
        pytest.param((*CNN, "--trainer.strategy=ddp", MUST), id="ddp"),
        pytest.param((*CNN, *PLAIN), id="not recorded"),
        pytest.param((*CNN, *PLAIN, "--model.compile=true"), id="compiled, not recorded"),
    ],
)
def test_every_configuration_trains(cli: Program, logs: Path, flags: tuple[str, ...]) -> None:
    result = cli("fit", *flags, *SHORT)
    assert result.code == 0, result.err
    (run,) = logs.glob("*/version_0")
    seen = torch.tensor(scalars(run, "over_images/train/loss_of_step"))
    assert len(seen) == 40
    assert seen.isfinite().all()
    assert seen[-5:].mean() < 0.8 * seen[:5].mean()


@pytest.mark.parametrize("precision", [(), BF16], ids=["float32", "bf16"])
def test_the_fast_configuration_is_as_good_there(
    cli: Program, logs: Path, precision: tuple[str, ...]
) -> None:
    result = cli("fit", *FAST, *precision, *ON_GPU)  # all of it: two seconds
    assert result.code == 0, result.err
    (accuracy,) = scalars(logs / "fast" / "version_0", "over_epochs/val/accuracy")
    assert accuracy > 0.989  # four of its deviations below its mean


class NoWaiting(Callback):
    """Makes it an error to wait for the device, from the end of one step to that of a later one."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # The second step is recorded before it is taken.
        torch.cuda.set_sync_debug_mode("error" if 2 <= batch_idx < 12 else "default")

    def on_exception(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param((*CNN, MUST), id="cnn"),
        pytest.param((*CNN, *BF16, MUST), id="cnn bf16"),
        pytest.param((*CNN, *PLAIN), id="not recorded"),
        pytest.param((*FAST, MUST), id="fast"),
        pytest.param((*RECORD, MUST), id="record"),
    ],
)
def test_no_step_waits_for_the_device(cli: Program, flags: tuple[str, ...]) -> None:
    few = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=15")
    result = cli("fit", *flags, *ON_GPU, *few, "--trainer.limit_val_batches=1", added(NoWaiting))
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    "flags",
    [CNN, (*RECORD, *BF16), (*CNN, *PLAIN)],
    ids=["cnn", "record bf16", "not recorded"],
)
def test_an_interrupted_run_ends_like_an_undisturbed_one(
    cli: Program, logs: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    run = (
        *("fit", *flags, *ON_GPU, "--trainer.deterministic=true"),
        *("--trainer.max_epochs=2", "--trainer.limit_train_batches=8"),
        *("--trainer.limit_val_batches=2", "--trainer.check_val_every_n_epoch=1"),
        *("--trainer.log_every_n_steps=1", "--trainer.enable_model_summary=false"),
        *("--last_checkpoint.every_n_train_steps=3", "--best_checkpoint.every_n_epochs=1"),
    )
    result = cli(*run, f"--trainer.logger.init_args.save_dir={tmp_path / 'undisturbed'}")
    assert result.code == 0, result.err
    (undisturbed,) = tmp_path.glob("undisturbed/*/version_0")
    for batch, number, code in ((5, signal.SIGTERM, 143), (13, CRASH, 1)):
        result = cli(*run, LAST, *interrupted(batch, number))
        assert result.code == code, result.err
    result = cli(*run, LAST)
    assert result.code == 0, result.err
    (resumed,) = logs.glob("*/version_0")
    assert differences(state(undisturbed), state(resumed)) == []
