"""The moving average of the weights, at a price that a GPU can pay."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor


class MovingAverage(EMAWeightAveraging):
    """Lightning's exponential moving average, to the same bits, of all weights at once.

    Only what is counted, not measured (the batches that batch normalisation has seen) is copied.

    Lightning's goes from weight to weight, with four small operations for each, and asks twice a
    step how many steps there have been, for which a GPU has to be waited for: more time than a
    recorded step of a small net takes. And it leaves the average on the CPU, where the model is
    when it is made.

    Args:
        decay: What of the average stays in a step.
        update_every_n_steps: Optimizer steps from one update to the next.
        update_starting_at_step: The first of them.
    """

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
    ) -> None:
        super().__init__(
            decay=decay,
            update_every_n_steps=update_every_n_steps,
            update_starting_at_step=update_starting_at_step,
        )
        self.decay = decay

    @property
    def state_key(self) -> str:
        """Lightning's, so that each goes on from the other's checkpoints."""
        return EMAWeightAveraging.__qualname__

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    # No public hook says how the average is updated, or when it was last (Lightning 2.6.6).
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        average, last, now = self._average_model, self._latest_update_step, trainer.global_step
        if average is None or last == 0:  # the first copies the weights
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        elif now > last and self.should_update(step_idx=now - 1):
            self._update(average, pl_module)
            self._latest_update_step = now

    @torch.no_grad()
    def _update(self, average: torch.optim.swa_utils.AveragedModel, model: LightningModule) -> None:
        old, new = (list(chain(m.parameters(), m.buffers())) for m in (average.module, model))
        floats: list[tuple[Tensor, Tensor]] = []
        counts: list[tuple[Tensor, Tensor]] = []
        for pair in zip(old, new, strict=True):
            (floats if pair[0].is_floating_point() else counts).append(pair)
        averages, weights = (list(tensors) for tensors in zip(*floats, strict=True))
        torch._foreach_mul_(averages, self.decay)
        torch._foreach_add_(averages, torch._foreach_mul(weights, 1 - self.decay))
        for count, batches in counts:
            count.copy_(batches)
        average.n_averaged += 1
