"""The optimizer and the learning rate schedule, as the configuration has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from lightning.pytorch import Trainer
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mnist_cnn.errors import UserError, warn


class NotCopied:
    """A function that copies of a model have in common.

    Callbacks that average weights copy the model, and the command line's functions, which hold
    parts of the parser, cannot be copied when there are several processes.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> NotCopied:
        return self


def configure(
    weights: Iterable[nn.Parameter],
    optimizer: Callable[..., Any],
    lr_scheduler: Callable[..., Any] | None,
    *,
    interval: Literal["epoch", "step"],
    trainer: Trainer | None,
    lr: float | None,
) -> Any:
    """Make what ``LightningModule.configure_optimizers`` returns.

    Args:
        weights: What to optimize.
        optimizer: Makes the optimizer from them.
        lr_scheduler: Makes the schedule from the optimizer, if there is to be one.
        interval: When the schedule advances.
        trainer: The run's, if there is one.
        lr: The learning rate, in place of the one that `optimizer` has.

    Raises:
        UserError: If a class refuses its settings, or the schedule ends before the run does.
    """
    made = _make("--model.optimizer", optimizer, weights)
    if lr is not None:
        for settings in (made.defaults, *made.param_groups):
            settings["lr"] = lr
    if lr_scheduler is None:
        return made
    scheduler = _make("--model.lr_scheduler", lr_scheduler, made)
    if trainer:
        check_total_steps(scheduler, trainer, interval)
    monitor = getattr(scheduler, "monitor", None)
    if isinstance(scheduler, ReduceLROnPlateau) and monitor is None:
        raise UserError(
            "--model.lr_scheduler: torch's ReduceLROnPlateau knows no metric: use "
            "lightning.pytorch.cli.ReduceLROnPlateau with its monitor"
        )
    schedule = {"scheduler": scheduler, "interval": interval, "monitor": monitor}
    return {"optimizer": made, "lr_scheduler": schedule}


def _make(flag: str, make: Callable[..., Any], argument: Any) -> Any:
    try:
        return make(argument)
    except (TypeError, ValueError) as error:
        raise UserError(f"{flag}: {error}") from error


def check_total_steps(scheduler: Any, trainer: Trainer, interval: str) -> None:
    """See that a schedule of a number of steps is made for the run.

    Raises:
        UserError: If the run has more steps, at which it would fail.
    """
    total = getattr(scheduler, "total_steps", None)
    epochs = trainer.max_epochs or 0
    steps = trainer.estimated_stepping_batches if interval == "step" else epochs
    flag = f"--model.lr_scheduler.init_args.total_steps {total}"
    if total and steps > total:
        raise UserError(f"{flag}: must be the steps of the run, {steps}")
    if total and steps < total:
        warn(f"{flag}: the run ends before the schedule does, after {steps} steps")
