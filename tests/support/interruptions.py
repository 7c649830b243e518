"""Runs that are stopped at a chosen batch, by a signal or by a crash."""

from __future__ import annotations

import json
import os
from typing import Any

from lightning.pytorch import Callback, Trainer

LAST = "--ckpt_path=last"
CRASH = 0  # in place of a signal's number


class InterruptAt(Callback):
    """Sends the process a signal in a batch, or in the validation after it; or crashes there."""

    def __init__(self, batch: int, number: int, in_validation: bool = False) -> None:
        self.batch, self.number, self.in_validation = batch, number, in_validation

    def send(self, trainer: Trainer, *_: Any) -> None:
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        if batches == self.batch and trainer.validating == self.in_validation:
            self.batch = -1  # once
            if self.number == CRASH:
                raise RuntimeError("crashed")
            os.kill(os.getpid(), self.number)

    on_train_batch_end = send  # type: ignore[assignment]
    on_validation_batch_end = send  # type: ignore[assignment]


def interrupted(batch: int, number: int, in_validation: bool = False) -> list[str]:
    """The flags of a run that is stopped so."""
    callback = {
        "class_path": f"{__name__}.{InterruptAt.__name__}",
        "init_args": {"batch": batch, "number": number, "in_validation": in_validation},
    }
    return [f"--trainer.callbacks+={json.dumps([callback])}"]
