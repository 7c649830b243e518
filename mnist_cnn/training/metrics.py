"""Loss and accuracy over all images of an epoch, on all ranks and over interruptions."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

NUM_CLASSES = 10


class EpochMetrics(MetricCollection):
    """``loss``, the mean of the images' losses, and ``accuracy``, the share of right answers.

    Args:
        prefix: Before both names in logs, like ``train/``.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(
            {
                "loss": MeanMetric(nan_strategy="disable"),
                "accuracy": MulticlassAccuracy(NUM_CLASSES, average="micro", validate_args=False),
            },
            prefix=prefix,
            compute_groups=False,
        )

        self._places: dict[tuple[str, str], Tensor] = {}

    def count(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch: its losses (B,), logits (B, 10) and labels (B,)."""
        self.update(value=losses.detach(), preds=logits.detach(), target=labels)

    def in_place(self) -> list[Tensor]:
        """The states, put back to where they were the first time that this was called.

        A recorded step adds to them there, by `count_in_place`; torchmetrics moves them.
        """
        for name, metric in self.items():
            states: dict[str, Any] = metric.metric_state
            for key, state in states.items():
                place = self._places.setdefault((name, key), state)
                if place is not state:
                    place.copy_(state)
                    setattr(metric, key, place)
                    metric._update_count += 1  # for torchmetrics it has counted nothing
        return list(self._places.values())

    def count_in_place(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """`count`, in tensor operations alone that leave the states where they are."""
        loss: Any = self["loss"].metric_state
        accuracy: Any = self["accuracy"].metric_state
        right = logits.argmax(dim=1) == labels
        images, right = torch.ones_like(losses).sum(), right.sum()
        wrong = len(labels) - right
        loss["mean_value"] += losses.sum()
        loss["weight"] += images
        # Of an image's classes one is right; a wrong answer is wrong about two.
        for key, number in {"tp": right, "fp": wrong, "fn": wrong}.items():
            accuracy[key] += number
        accuracy["tn"] += (NUM_CLASSES - 2) * len(labels) + right

    def so_far(self) -> Tensor:
        """Loss and accuracy, (2,), of what this rank has counted; nothing waits for the device."""
        loss: Any = self["loss"].metric_state
        accuracy: Any = self["accuracy"].metric_state
        right, wrong = accuracy["tp"].sum(), accuracy["fn"].sum()
        return torch.stack([loss["mean_value"] / loss["weight"], right / (right + wrong)]).float()

    def counts(self) -> dict[str, Any]:
        """What this rank has counted so far, on the CPU."""
        counts = {name: metric.metric_state for name, metric in self.items()}
        return move_data_to_device(counts, torch.device("cpu"))

    def add_counts(self, counts: dict[str, Any]) -> None:
        """Add what a rank of an interrupted run had counted."""
        for name, metric in self.items():
            metric.merge_state(counts[name])
