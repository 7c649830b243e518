"""A training step as one program, in the place of Lightning's closure: for GPUs.

`WholeSteps` decides whether a run's steps can be recorded, and takes them. Lightning's loop stays
as it is, a step a batch: `MNISTClassifier.training_step` replays the program, whose last act is the
optimizer's, and the model's hooks `backward` and `optimizer_step` leave out what has been done.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim import Optimizer

from mnist_cnn.errors import UserError
from mnist_cnn.training.augment import Augmentation
from mnist_cnn.training.global_batches import Batch
from mnist_cnn.training.metrics import EpochMetrics
from mnist_cnn.training.obstacles import no_compiler, obstacle
from mnist_cnn.training.randomness import dropout_layers
from mnist_cnn.training.recorded import NotRecordableError, Recorded
from mnist_cnn.training.step import Step, training_losses, whole_step
from mnist_cnn.training.trainer_state import gather

#: With how many other batches a recording proves itself.
PROOFS = 3
#: Whether to do something: as one asks, or where it is of use.
Choice = Literal["auto"] | bool


class WholeSteps:
    """Takes the steps of a run, each as one program; from `begin` on, if it can."""

    def __init__(self) -> None:
        #: Whether steps are taken so.
        self.on = False
        #: Whether the step under way has been.
        self.taken = False
        self.programs: dict[Any, Recorded] = {}
        #: How many have been made.
        self.made = 0
        self.settings: list[Any] = []
        self._last_rates: tuple[list[float], Tensor] | None = None

    def begin(
        self, model: LightningModule, metrics: EpochMetrics, record: Choice, compile: Choice
    ) -> None:
        """Decide whether the steps of a run are taken so.

        Args:
            model: The module that is trained, with its trainer.
            metrics: Where losses and right answers are counted.
            record: "auto": where there is a GPU and nothing is against it, or a line says what is;
                True: or fail, and also on a CPU, where the program is called as it is.
            compile: Whether ``torch.compile`` makes one program of forward pass and loss first;
                "auto": on a GPU.

        Raises:
            UserError: If they are to be and cannot.
        """
        self.model, self.trainer, self.metrics = model, model.trainer, metrics
        self.must = record is True
        on_gpu = is_for(model.device)
        self.compile = False
        self.settings, self.taken, self._last_rates = [], False, None
        self.programs.clear()
        # Before the process group goes, which Lightning ends at the exit: NCCL waits there for all
        # recordings that use it.
        atexit.register(_end, weakref.ref(self))
        self.layers = len(dropout_layers(model))
        self.on = self.must or (record == "auto" and on_gpu)
        if self.on and (reason := obstacle(self.trainer, model)):
            self.give_up(reason)
        elif self.on and (compile is True or (compile == "auto" and on_gpu)):
            self.compile = not (reason := no_compiler())
            if reason:
                rank_zero_info(f"The step is recorded without torch.compile: {reason}.")

    def __reduce__(self) -> Any:
        return WholeSteps, ()  # a copy of the model begins without

    def end(self) -> None:
        """Let go of the programs, and of all that they hold."""
        self.programs.clear()

    def give_up(self, reason: str) -> None:
        """Take no more steps, and say why in a line.

        Raises:
            UserError: If there is no other way.
        """
        if self.must:
            raise UserError(f"--model.record_step true: the step cannot be recorded: {reason}")
        self.on = False
        self.programs.clear()
        steps_to_cpu(self._optimizer)
        rank_zero_info(f"The step is not recorded, but taken as on a CPU: {reason}.")

    @property
    def _optimizer(self) -> Optimizer:
        return self.trainer.optimizers[0]

    def take(
        self, batch: Batch, step: Step, *, augment: Augmentation | None, label_smoothing: float
    ) -> Tensor | None:
        """Take a step, if there is a program for it.

        The first step of a run is Lightning's: after it the optimizer has its state.

        Args:
            batch: This rank's share.
            step: Which step it is.
            augment: What changes its images.
            label_smoothing: The share of the label that is spread over all classes.

        Returns:
            What the share adds to the mean loss over the global batch; None if no step was taken.
        """
        self.taken = False
        if not self.on or batch.indices is None or self.trainer.global_step == 0:
            return None
        settings = [_numbers(group) for group in self._optimizer.param_groups]
        if settings != (self.settings or settings):
            self.give_up("a schedule changes more of the optimizer than its learning rate")
            return None
        self.settings = settings
        if step.batch_idx == 0 and any(program.moved() for program in self.programs.values()):
            self.programs.clear()  # weights were frozen, pruned, replaced
        arguments = batch.indices, step.keys(self.layers, self.model.device), self._rates()
        program = self._program(batch, augment, label_smoothing)
        if not program.knows(*arguments) and (reason := self._prove(program, batch, arguments)):
            if not self.compile:
                self.give_up(reason)
                return None
            rank_zero_info(f"The step is recorded without torch.compile: {reason}.")
            self.compile = False
            self.programs.clear()
            return self.take(batch, step, augment=augment, label_smoothing=label_smoothing)
        self.metrics.in_place()
        self.taken = True
        return program(*arguments)

    def _prove(self, program: Recorded, batch: Batch, arguments: tuple[Tensor, ...]) -> str | None:
        """Let a program prove itself on all ranks; why one of them refuses it, if one does."""
        try:
            program.prove(self._examples(batch, arguments))
            reason = None
        except NotRecordableError as error:
            reason = str(error)
        return next(filter(None, gather(self.trainer, reason)), None)

    def _program(
        self, batch: Batch, augment: Augmentation | None, label_smoothing: float
    ) -> Recorded:
        """The program for steps of this kind."""
        kind = (batch.source[0].data_ptr(), batch.first_row, batch.global_size, augment is None)
        if program := self.programs.get(kind):
            return program
        losses_of: Any = partial(
            training_losses,
            self.model,
            first_row=batch.first_row,
            augment=augment,
            label_smoothing=label_smoothing,
        )
        optimizer, model, trainer = self._optimizer, self.model, self.trainer
        steps_to_device(optimizer, model.device)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        metrics = self.metrics

        def take(advance: Callable[[], Any], rates: Tensor) -> None:
            with as_tensors(optimizer, rates):
                model.configure_gradient_clipping(
                    optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
                )
                advance()

        def function(
            losses_of: Any, advance: Any, indices: Tensor, keys: Tensor, rates: Tensor
        ) -> Tensor:
            return whole_step(
                losses_of,
                weights,
                partial(take, advance, rates),
                metrics.count_in_place,
                *batch.source,
                indices,
                keys,
                global_size=batch.global_size,
            )

        def state() -> list[Tensor]:
            slots = [x for slot in optimizer.state.values() for x in slot.values()]
            tensors = [x for x in slots if isinstance(x, Tensor)]
            return [*model.parameters(), *model.buffers(), *tensors, *metrics.in_place()]

        parts: list[Any] = [losses_of, lambda: optimizer.step()]
        plain = partial(function, *parts)
        loader: Any = trainer.train_dataloader
        # Not for the last, smaller batch of an epoch.
        if self.compile and batch.global_size == loader.sampler.batch_size:
            # DDP's reducer, for which it would cut the program in pieces, has nothing to do here.
            torch._dynamo.config.optimize_ddp = False
            # A fused optimizer is one kernel already.
            fused = any(group.get("fused") for group in optimizer.param_groups)
            compiled = [torch.compile(part, dynamic=False) for part in parts]
            parts = [compiled[0], parts[1] if fused else compiled[1]]
        program = Recorded(partial(function, *parts), state, plain, list(model.modules()))
        self.programs[kind] = program
        self.made += 1
        return program

    def _rates(self) -> Tensor:
        """The learning rates of the optimizer's groups; the same tensor until they change."""
        rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        if self._last_rates is None or rates != self._last_rates[0]:
            on_gpu = self.model.device.type == "cuda"
            # Fused optimizers read 32 bits on a GPU; a CPU has what Python has.
            kind = torch.float32 if on_gpu else torch.float64
            new = torch.tensor(rates, dtype=kind, pin_memory=on_gpu)
            self._last_rates = rates, new.to(self.model.device, non_blocking=True)
        return self._last_rates[1]

    def _examples(self, batch: Batch, arguments: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        """Other images, keys and learning rates each."""
        indices, keys, rates = arguments
        images = len(batch.source[1])
        return [
            ((indices + 7919 * i) % images, keys + i, rates * (1 - 0.25 * i)) for i in range(PROOFS)
        ]


def _end(steps: weakref.ref[WholeSteps]) -> None:
    if (there := steps()) is not None:
        there.end()


def is_for(device: torch.device) -> bool:
    """Whether a device is one that waits for Python, and can replay."""
    return device.type == "cuda"


@contextmanager
def as_tensors(optimizer: Optimizer, rates: Tensor) -> Iterator[None]:
    """Let an optimizer take its learning rates from a tensor, one for each group, while it is open.

    On a GPU it also keeps everything there (``capturable``; SGD has that in its fused form). What
    schedules, logs and checkpoints see stay numbers.
    """
    kept = [dict(group) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
        if is_for(rates.device) and "capturable" in group:
            group["capturable"] = True
        elif is_for(rates.device) and "fused" in group:
            group.update(fused=True, foreach=False)
    try:
        yield
    finally:
        for group, numbers in zip(optimizer.param_groups, kept, strict=True):
            group.clear()
            group.update(numbers)


def steps_to_device(optimizer: Optimizer, device: torch.device) -> None:
    """Put an optimizer's counts of steps where a program can count."""
    for slots in optimizer.state.values():
        slots.update({name: slots[name].to(device) for name in _counts(slots)})


def steps_to_cpu(optimizer: Optimizer) -> None:
    """Put them back where an optimizer that is not recorded has them."""
    for group in optimizer.param_groups:
        if not (group.get("capturable") or group.get("fused")):
            for weight in group["params"]:
                slots = optimizer.state.get(weight, {})
                slots.update({name: slots[name].cpu() for name in _counts(slots)})


def _counts(slots: dict[str, Any]) -> list[str]:
    """What an optimizer keeps on the CPU, if it is not recorded; `NAdam` a product as well."""
    return [name for name in ("step", "mu_product") if isinstance(slots.get(name), Tensor)]


def _numbers(group: dict[str, Any]) -> dict[str, Any]:
    """What a recording holds fast of an optimizer's settings."""
    return {name: x for name, x in group.items() if name not in ("params", "lr")} | {
        "weights": len(group["params"])
    }
