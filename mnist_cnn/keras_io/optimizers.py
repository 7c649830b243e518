"""The optimizer of a Keras file: what it was, and how far it had come.

Source: ``keras.src.optimizers``, 3.15; ``keras.optimizers`` of 2.15 and before.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Pair = tuple[Array, Array]

#: Of Keras's Adadelta, where a file names no more than the class.
DEFAULTS = {"learning_rate": 0.001, "rho": 0.95, "epsilon": 1e-7}
#: What all of Keras's optimizers can be told besides, and nothing here does for them.
NOT_IMPORTED = (
    "weight_decay",
    "clipnorm",
    "global_clipnorm",
    "clipvalue",
    "use_ema",
    "loss_scale_factor",
    "gradient_accumulation_steps",
    "decay",  # Keras 2
)
LOSS_SCALE_NUMBERS = 4  # of Keras 3's LossScaleOptimizer, before those of the one within


@dataclass
class KerasOptimizer:
    """What a Keras file says of its optimizer."""

    name: str = ""  # its class; empty if there is none
    settings: dict[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None  # None: the file does not say
    iterations: int = 0  # training steps behind the model
    arrays: list[Array] = field(default_factory=list)  # its variables but for single numbers

    @property
    def is_adadelta(self) -> bool:
        """Whether training here can go on with its state."""
        return self.name.lower() == "adadelta"

    def accumulators(self, shapes: Sequence[tuple[int, ...]]) -> list[Pair]:
        """Adadelta's squared gradients and squared updates of weights; none if there are others.

        Averages of the weights and sums of gradients, if the file has them, come before. Keras 3
        saves the two of each weight after each other; Keras 2 first one of all weights, then the
        other of all.

        Args:
            shapes: Of the weights that Keras trained, in Keras's layouts.
        """
        count = len(shapes)
        state = self.arrays[-2 * count :]
        found = [array.shape for array in state]
        if found == [shape for shape in shapes for _ in range(2)]:
            return list(zip(state[::2], state[1::2], strict=True))
        if found == [*shapes, *shapes]:
            return list(zip(state[:count], state[count:], strict=True))
        return []

    def losses(self) -> Iterator[str]:
        """What of it does not come along, in lines."""
        if self.name and not self.is_adadelta:
            yield f"Not imported: the optimizer, {self.name}."
        schedule = self.settings.get("learning_rate")
        if isinstance(schedule, dict):
            rate = (
                "which is not Keras's own; the file does not say what it is now"
                if self.learning_rate is None
                else f"which is {self.learning_rate:g} after {self.iterations} steps"
            )
            kind = schedule.get("class_name")
            yield f"Not imported: the schedule {kind} of the learning rate, {rate}."
        others = [f"{k}={v}" for k in NOT_IMPORTED if (v := self.settings.get(k))]
        if others:
            yield f"Not imported, of the optimizer's settings: {', '.join(others)}."


def optimizer_of(entry: Any, variables: Sequence[NDArray[Any]]) -> KerasOptimizer:
    """Make sense of an optimizer in a file.

    Args:
        entry: Its class and settings, or its class as a word, such as ``"adam"``; or None.
        variables: What it had counted and gathered.
    """
    if not isinstance(entry, dict):
        entry = {"class_name": entry}
    settings = entry.get("config") or {}
    numbers = [array for array in variables if not array.ndim]
    if inner := settings.get("inner_optimizer"):  # LossScaleOptimizer, of mixed_float16
        own = LOSS_SCALE_NUMBERS if len(numbers) > LOSS_SCALE_NUMBERS else 0
        return optimizer_of(inner, variables[own:])
    name = (entry.get("class_name") or "").rpartition(">")[2]  # Keras 2.11: Custom>Adadelta
    if name.lower() == "adadelta":
        settings = DEFAULTS | settings
    if "lr" in settings:  # the first versions of Keras 2
        settings |= {"learning_rate": settings["lr"]}
    iterations = int(numbers[0]) if numbers else 0
    rate = settings.get("learning_rate")
    if len(numbers) > 1:  # as it was last, whatever the settings said
        rate = numbers[1]
    elif isinstance(rate, dict):
        rate = rate_at(iterations, rate)
    return KerasOptimizer(
        name=name,
        settings=settings,
        learning_rate=None if rate is None else float(rate),
        iterations=iterations,
        arrays=[np.asarray(array, np.float32) for array in variables if array.ndim],
    )


def rate_at(step: int, schedule: dict[str, Any]) -> float | None:
    """The learning rate that a schedule has come to; None if it is not one of those known here."""
    kind, settings = schedule.get("class_name"), schedule.get("config") or {}
    if kind == "PiecewiseConstantDecay":
        return float(settings["values"][bisect_left(settings["boundaries"], step)])
    if kind not in ("CosineDecay", "ExponentialDecay", "InverseTimeDecay", "PolynomialDecay"):
        return None
    rate, done = settings["initial_learning_rate"], step / settings["decay_steps"]
    if kind == "PolynomialDecay":
        whole = max(1, math.ceil(done)) if settings["cycle"] else 1
        end, left = settings["end_learning_rate"], 1 - min(done / whole, 1)
        return float((rate - end) * left ** settings["power"] + end)
    if kind == "CosineDecay":
        if (target := settings.get("warmup_target")) is not None:
            warmup = settings["warmup_steps"]
            if step < warmup:
                return float(rate + (target - rate) * step / warmup)
            rate, done = target, (step - warmup) / settings["decay_steps"]
        cosine = (1 + math.cos(math.pi * min(done, 1))) / 2
        return float(rate * (cosine + settings["alpha"] * (1 - cosine)))
    done = math.floor(done) if settings["staircase"] else done
    if kind == "InverseTimeDecay":
        return float(rate / (1 + settings["decay_rate"] * done))
    return float(rate * settings["decay_rate"] ** done)
