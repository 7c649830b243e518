"""Why the steps of a run cannot be taken as one program each: see `whole_steps`."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from mnist_cnn.training.global_batches import GlobalBatchSampler

#: Hooks that come between the forward pass and the optimizer's step, where nothing comes any more.
INNER_HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


def obstacle(trainer: Trainer, model: LightningModule) -> str | None:
    """Why the steps of a run cannot be taken as one program each; None if they can."""
    settings: Any = trainer
    strategy, callbacks = trainer.strategy, [*settings.callbacks, model]
    sampler = getattr(trainer.train_dataloader, "sampler", None)
    inner = [
        f"{type(callback).__name__}.{hook}"
        for callback in callbacks
        for hook in INNER_HOOKS
        if getattr(type(callback), hook)
        not in (getattr(Callback, hook), getattr(LightningModule, hook))
    ]
    obstacles = {
        f"--trainer.strategy {type(strategy).__name__}": type(strategy)
        not in (SingleDeviceStrategy, DDPStrategy),
        f"--trainer.precision {trainer.precision} scales its gradients": trainer.precision
        in ("16-mixed", "16-true"),
        "gradients are accumulated over batches": trainer.accumulate_grad_batches != 1
        or any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks),
        "there is more than one optimizer": len(trainer.optimizers) != 1,
        "L-BFGS asks for the loss several times": any(
            isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers
        ),
        "--trainer.detect_anomaly looks into it": torch.is_anomaly_enabled(),
        "--trainer.profiler looks into it": not isinstance(settings.profiler, PassThroughProfiler),
        "--trainer.overfit_batches": settings.overfit_batches > 0,
        "the batches are of another loader": not isinstance(sampler, GlobalBatchSampler),
        "--data.chunks": bool(getattr(sampler, "chunks", 0)),
        f"{', '.join(inner)} must run within it": bool(inner),
    }
    return next((reason for reason, holds in obstacles.items() if holds), None)


def no_compiler() -> str | None:
    """Why ``torch.compile`` refuses all that it is given, as on a Python that it does not know."""
    try:
        torch.compile(no_compiler)
    except RuntimeError as error:
        return str(error).rstrip(".")
    return None
