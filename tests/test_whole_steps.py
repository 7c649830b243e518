"""Steps as one program: called on a CPU, replayed from a tape there, and laid out for a GPU."""

from __future__ import annotations

import copy
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR, StepLR
from torch.utils.data import DataLoader, Subset

from mnist_cnn import Adadelta, FastCNN, KerasCNN, MNISTClassifier, MNISTDataModule, RecordCNN
from mnist_cnn.errors import UserError
from mnist_cnn.training import preflight, recorded
from mnist_cnn.training.augment import RandomAffine, RandomShift
from mnist_cnn.training.averaging import MovingAverage
from mnist_cnn.training.step import Step, training_losses
from mnist_cnn.training.whole_steps import steps_to_device
from tests.support.interruptions import LAST, interrupted
from tests.support.runs import differences, state
from tests.support.tape import TapedRecording

Settings = dict[str, Any]
ADAM = partial(torch.optim.Adam, lr=0.004, fused=True)  # takes its learning rate from a tensor


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "_Recording", TapedRecording)
    # Loops that numba compiles are not torch's operations, of which alone the tape knows.
    monkeypatch.setattr("mnist_cnn.kernels.numba_cache.compiled_loops", lambda: None)
    monkeypatch.setattr("mnist_cnn.training.adadelta.compiled_loops", lambda: None)


@pytest.fixture
def capturable_adadelta(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU too."""
    monkeypatch.setattr("mnist_cnn.training.whole_steps.is_for", lambda device: True)
    module = sys.modules["torch.optim.adadelta"]
    monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda **_: ["cpu"])


class Seen(Callback):
    """Keeps what a callback sees of each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, float, float]] = []
        self.started = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.started += 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.steps.append((trainer.global_step, batch_idx, float(outputs["loss"]), rate))


def trained(
    data: MNISTDataModule,
    model: Callable[..., MNISTClassifier],
    record: Any,
    compile: bool = False,
    **settings: Any,
) -> tuple[Seen, MNISTClassifier, Trainer]:
    seed_everything(1, verbose=False)
    seen, module = Seen(), model(record_step=record, compile=compile)
    settings = {"max_epochs": 2, "limit_train_batches": 6, "limit_val_batches": 1} | settings
    extra = settings.pop("callbacks", [])
    run = Trainer(
        accelerator="cpu",
        callbacks=[seen, *(make() for make in extra)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    run.fit(module, data)
    return seen, module, run


def keras(**settings: Any) -> MNISTClassifier:
    adadelta = partial(Adadelta, lr=1.0, eps=1e-7, foreach=True)  # the default on a GPU
    return MNISTClassifier(KerasCNN((4, 8), 16), adadelta, **settings)


def fast(**settings: Any) -> MNISTClassifier:
    return MNISTClassifier(
        FastCNN((4, 8), hidden=16, border=2, upright=0.75),
        ADAM,
        augment=RandomShift(1),
        augment_epochs=1,
        label_smoothing=0.1,
        **settings,
    )


def record(**settings: Any) -> MNISTClassifier:
    return MNISTClassifier(
        RecordCNN((4, 8, 8)),
        partial(torch.optim.AdamW, lr=0.004, weight_decay=0.02, fused=True),
        augment=RandomAffine(bend=0.8, thicken=0.5),
        **settings,
    )


def per_step(**settings: Any) -> MNISTClassifier:
    schedule = partial(OneCycleLR, max_lr=0.004, total_steps=12, cycle_momentum=False)
    return fast(lr_scheduler=schedule, lr_scheduler_interval="step", **settings)


def per_epoch(**settings: Any) -> MNISTClassifier:
    return keras(lr_scheduler=partial(StepLR, step_size=1, gamma=0.5), **settings)


@pytest.mark.parametrize("taped", [False, True], ids=["called", "replayed"])
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        pytest.param(keras, {}, id="keras"),
        pytest.param(per_epoch, {}, id="a schedule of epochs", marks=pytest.mark.slow),
        pytest.param(fast, {}, id="augmentation that ends", marks=pytest.mark.slow),
        pytest.param(per_step, {}, id="a schedule of steps"),
        pytest.param(fast, {"max_steps": 7}, id="max_steps", marks=pytest.mark.slow),
        pytest.param(fast, {"val_check_interval": 2}, id="validation within the epoch"),
        pytest.param(fast, {"gradient_clip_val": 0.01}, id="clipping"),
        pytest.param(fast, {"precision": "bf16-mixed"}, id="bf16", marks=pytest.mark.slow),
        pytest.param(record, {"callbacks": [partial(MovingAverage, decay=0.9)]}, id="record"),
    ],
)
def test_a_run_is_that_of_lightning_s_own_steps(
    request: pytest.FixtureRequest,
    mnist: MNISTDataModule,
    model: Callable[..., MNISTClassifier],
    settings: Settings,
    taped: bool,
) -> None:
    if taped:
        request.getfixturevalue("tape")
        if model in (keras, per_epoch):  # whose optimizer takes tensors on a GPU only
            request.getfixturevalue("capturable_adadelta")
    data = MNISTDataModule(mnist.data_dir, batch_size=30)
    ours, module, run = trained(data, model, True, **settings)
    theirs, expected, plain = trained(data, model, False, **settings)
    assert module.whole_steps.on
    assert module.whole_steps.made
    assert not module.whole_steps.programs  # let go of
    assert ours.steps == theirs.steps  # losses, learning rates, counts
    assert ours.started == theirs.started
    assert differences(module.state_dict(), expected.state_dict()) == []
    assert differences(run.optimizers[0].state_dict(), plain.optimizers[0].state_dict()) == []
    figures = [{k: float(v) for k, v in r.callback_metrics.items()} for r in (run, plain)]
    assert figures[0] == pytest.approx(figures[1], rel=1e-6)


@pytest.mark.usefixtures("tape")
def test_the_last_smaller_batch_has_a_program_of_its_own(mnist: MNISTDataModule) -> None:
    data = MNISTDataModule(mnist.data_dir, batch_size=300, val_size=59_300)  # 300, 300, 100
    settings: Settings = {"limit_train_batches": 1.0, "max_epochs": 1}
    ours, module, _ = trained(data, fast, True, **settings)
    theirs, expected, _ = trained(data, fast, False, **settings)
    assert module.whole_steps.made == 2
    assert ours.steps == theirs.steps
    assert differences(module.state_dict(), expected.state_dict()) == []


@pytest.mark.usefixtures("tape")
def test_the_last_smaller_batch_is_not_compiled(
    mnist: MNISTDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it is the first that is recorded, as where a run goes on there."""
    compiled: set[int] = set()

    def noted(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if len(arguments) == 3:  # images, labels and keys, of which are the losses
                compiled.add(len(arguments[0]))
            return function(*arguments)

        return call

    monkeypatch.setattr(torch, "compile", noted)
    data = MNISTDataModule(mnist.data_dir, batch_size=300, val_size=59_600)  # 300, 100
    trained(data, fast, True, compile=True, limit_train_batches=1.0)
    assert compiled == {300}


def test_a_python_that_the_compiler_does_not_know(
    mnist: MNISTDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("mnist_cnn.training.whole_steps.rank_zero_info", lines.append)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("not supported on Python 3.99+.")

    monkeypatch.setattr(torch, "compile", refuse)
    module = MNISTClassifier(KerasCNN(), compile=True)
    with pytest.raises(UserError, match=r"^--model.compile true: not supported on Python 3.99"):
        preflight.check_compiler(module)
    # On a GPU nobody asks for it, as here with a net that is none the wiser.
    monkeypatch.setattr(MNISTClassifier, "configure_model", lambda _: None)
    _, module, _ = trained(mnist, keras, True, compile=True)
    assert module.whole_steps.made
    assert lines == ["The step is recorded without torch.compile: not supported on Python 3.99+."]


def test_all_that_an_optimizer_counts_goes_where_a_program_can_count() -> None:
    weight = torch.zeros(2, requires_grad=True)
    for kind in (torch.optim.Adam, torch.optim.NAdam, torch.optim.RAdam, torch.optim.ASGD):
        optimizer = kind([weight])
        weight.grad = torch.ones(2)
        optimizer.step()
        steps_to_device(optimizer, torch.device("meta"))
        (slots,) = optimizer.state.values()
        counts = [slots[name] for name in ("step", "mu_product") if name in slots]
        assert all(count.is_meta for count in counts)
        assert len(counts) == (2 if kind is torch.optim.NAdam else 1)


def test_a_model_is_copied_and_pickled_after_it(mnist: MNISTDataModule) -> None:
    _, module, _ = trained(mnist, keras, True)
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert not again.whole_steps.on
        assert differences(again.state_dict(), module.state_dict()) == []


@pytest.mark.usefixtures("tape")
def test_weights_that_are_frozen_between_epochs_are_left_alone(mnist: MNISTDataModule) -> None:
    class Freeze(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 1:
                next(pl_module.parameters()).requires_grad_(False)

    ours, module, _ = trained(mnist, fast, True, callbacks=[Freeze])
    theirs, expected, _ = trained(mnist, fast, False, callbacks=[Freeze])
    assert ours.steps == theirs.steps
    assert differences(module.state_dict(), expected.state_dict()) == []


@pytest.mark.usefixtures("tape")
def test_counts_are_right_when_the_metrics_move_within_an_epoch(mnist: MNISTDataModule) -> None:
    class Merge(Callback):
        def on_train_batch_start(self, *arguments: Any) -> None:
            _, module, _, batch_idx = arguments
            if batch_idx == 3:  # torchmetrics replaces the states
                module.train_metrics.add_counts(module.train_metrics.counts())

    _, _, run = trained(mnist, fast, True, callbacks=[Merge])
    _, _, plain = trained(mnist, fast, False, callbacks=[Merge])
    for name in ("train/loss", "train/accuracy"):
        assert float(run.callback_metrics[name]) == pytest.approx(
            float(plain.callback_metrics[name]), rel=1e-6
        )


class Clipping(Callback):
    def on_before_optimizer_step(self, *_: Any) -> None:
        pass


class Accumulating(GradientAccumulationScheduler):
    def __init__(self) -> None:
        super().__init__({0: 2})


def counting(**settings: Any) -> MNISTClassifier:
    class Counting(KerasCNN):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x) * (1 + self.calls % 3)

    return MNISTClassifier(Counting((4, 8), 16), ADAM, **settings)


def lbfgs(**settings: Any) -> MNISTClassifier:
    return MNISTClassifier(KerasCNN((4, 8), 16), partial(torch.optim.LBFGS, max_iter=2), **settings)


def momentum(**settings: Any) -> MNISTClassifier:
    schedule = partial(OneCycleLR, max_lr=0.004, total_steps=12)
    return fast(lr_scheduler=schedule, lr_scheduler_interval="step", **settings)


@pytest.mark.usefixtures("tape")
@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        (fast, {"callbacks": [Clipping]}, "Clipping.on_before_optimizer_step must run within it"),
        (fast, {"callbacks": [Accumulating]}, "accumulated"),
        (fast, {"accumulate_grad_batches": 2}, "accumulated"),
        (fast, {"detect_anomaly": True}, "detect_anomaly"),
        (fast, {"profiler": "simple"}, "profiler"),
        (fast, {"overfit_batches": 2}, "overfit_batches"),
        (lbfgs, {}, "L-BFGS"),
        (counting, {}, "its replay returns something else"),
        (momentum, {}, "changes more of the optimizer"),
    ],
)
def test_what_cannot_be_recorded_trains_as_before_and_a_line_says_why(
    monkeypatch: pytest.MonkeyPatch,
    mnist: MNISTDataModule,
    model: Callable[..., MNISTClassifier],
    settings: Settings,
    reason: str,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("mnist_cnn.training.whole_steps.rank_zero_info", lines.append)
    monkeypatch.setattr("mnist_cnn.training.whole_steps.is_for", lambda device: True)
    ours, module, _ = trained(mnist, model, "auto", **settings)
    theirs, expected, _ = trained(mnist, model, False, **settings)
    assert not module.whole_steps.on
    (line,) = lines
    assert reason in line
    assert ours.steps == theirs.steps
    assert differences(module.state_dict(), expected.state_dict()) == []
    with pytest.raises(UserError, match=r"--model.record_step true: the step cannot be recorded"):
        trained(mnist, model, True, **settings)


def test_chunks_and_other_loaders_are_not_recorded(mnist: MNISTDataModule) -> None:
    with pytest.raises(UserError, match=r"--data\.chunks"):
        trained(MNISTDataModule(mnist.data_dir, chunks=4), keras, True)
    module = keras(record_step=True)
    run = Trainer(accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match="another loader"):
        run.fit(module, DataLoader(Subset(mnist.train_set, range(4)), batch_size=2))


def test_a_cpu_takes_lightning_s_steps_of_itself(mnist: MNISTDataModule) -> None:
    _, module, _ = trained(mnist, keras, "auto")
    assert not module.whole_steps.on


CLI = (
    *("fit", "--config=configs/cnn.yaml", "--model.record_step=true"),
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=6", "--trainer.accelerator=cpu"),
    *("--trainer.limit_val_batches=2", "--trainer.log_every_n_steps=1"),
    *("--model.net.init_args.filters=[4,8]", "--model.net.init_args.hidden=16"),
    *("--trainer.enable_model_summary=false", "--last_checkpoint.every_n_train_steps=2"),
)


@pytest.mark.slow
def test_an_interrupted_run_ends_like_an_undisturbed_one(
    cli: Callable[..., Any], logs: Path, tmp_path: Path
) -> None:
    result = cli(*CLI, f"--trainer.logger.init_args.save_dir={tmp_path / 'undisturbed'}")
    assert result.code == 0, result.err
    (undisturbed,) = tmp_path.glob("undisturbed/*/version_0")
    for batch in (3, 9):
        result = cli(*CLI, LAST, *interrupted(batch, signal.SIGTERM))
        assert result.code == 143, result.err
    assert cli(*CLI, LAST).code == 0
    (resumed,) = logs.glob("*/version_0")
    assert differences(state(undisturbed), state(resumed)) == []
    # And the same as of steps that are not taken so.
    plain = ("--model.record_step=false", f"--trainer.logger.init_args.save_dir={tmp_path / 'p'}")
    assert cli(*CLI, *plain).code == 0
    (expected,) = tmp_path.glob("p/*/version_0")
    assert differences(state(expected), state(resumed)) == []


@pytest.mark.slow
def test_the_whole_step_stays_on_the_gpu() -> None:
    """In a process of its own, which ends before such tensors are collected: torch aborts then."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.paper_gpu"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["KerasCNN", "fast_net", "RecordCNN", "KerasCNN"]


@pytest.mark.slow
@pytest.mark.parametrize("model", [keras, fast])
def test_a_compiled_program_computes_the_same(
    mnist: MNISTDataModule, model: Callable[..., MNISTClassifier]
) -> None:
    ours, module, _ = trained(mnist, model, True, compile=True)
    theirs, expected, _ = trained(mnist, model, False)
    assert module.whole_steps.compile  # it was not given up
    torch.testing.assert_close(
        torch.tensor(ours.steps), torch.tensor(theirs.steps), rtol=0, atol=1e-3
    )
    torch.testing.assert_close(module.state_dict(), expected.state_dict(), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_forward_and_loss_compile_without_a_break(mnist: MNISTDataModule) -> None:
    model = MNISTClassifier(KerasCNN((4, 8), 16))
    images, labels = mnist.train_set[torch.arange(32)]
    keys = Step(1, 2, 3).keys(2, torch.device("cpu"))
    losses_of = partial(training_losses, model, augment=RandomShift(1), label_smoothing=0.1)
    compiled = torch.compile(losses_of, fullgraph=True, backend="aot_eager", dynamic=False)
    for at in (keys, keys + 5):  # not compiled for the keys, which are data
        results = [function(images, labels, at) for function in (losses_of, compiled)]
        torch.testing.assert_close(results[0], results[1])
