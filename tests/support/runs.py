"""What a finished run leaves, and how two of them differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

#: Tags whose values are times, which no two runs share.
TIMES = ("train/images_per_second",)


def state(run: Path) -> dict[str, Any]:
    """All that a finished run leaves: weights, optimizer, metrics, and every logged figure.

    Args:
        run: The folder of its logs.
    """
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    events = EventAccumulator(
        str(run), size_guidance={"scalars": 0, "images": 0}, purge_orphaned_data=False
    )
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag not in TIMES]

    def in_time(logged: list[Any]) -> list[Any]:
        # A process that logs to two files within a second may have named them in another order.
        return sorted(logged, key=lambda event: event.wall_time)

    history = checkpoint["callbacks"]["Report"]["history"]
    return {
        "weights": checkpoint["state_dict"],
        "weights that are averaged": checkpoint.get("current_model_state"),
        "optimizer": checkpoint["optimizer_states"],
        "step": (checkpoint["epoch"], checkpoint["global_step"]),
        "best weights": best["state_dict"],
        "history": [
            {name: row[name] for name in row if name not in ("s", "val_s")} for row in history
        ],
        "scalars": {tag: [(e.step, e.value) for e in in_time(events.Scalars(tag))] for tag in tags},
        "rates": [e.step for e in in_time(events.Scalars(TIMES[0]))],
        "images": {
            tag: [(e.step, e.encoded_image_string) for e in in_time(events.Images(tag))]
            for tag in events.Tags()["images"]
        },
    }


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Where two states differ in any bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [name]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [d for key in one for d in differences(one[key], other[key], f"{name}/{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{name}/{i}")]
    return [] if one == other else [f"{name} ({one} and {other})"[:300]]
