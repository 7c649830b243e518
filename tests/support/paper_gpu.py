"""A step on a GPU of which only the shapes, types and devices of its tensors are computed.

Whatever asks for a value, or mixes a CPU's tensors with the GPU's, is an error. All but the
backward pass, whose engine wants a device, and autocast, which does too.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mnist_cnn import Adadelta, FastCNN, KerasCNN, MNISTClassifier, RecordCNN
from mnist_cnn.training.augment import Augmentation, RandomAffine, RandomShift
from mnist_cnn.training.randomness import dropout_layers
from mnist_cnn.training.step import training_losses, whole_step
from mnist_cnn.training.whole_steps import as_tensors, steps_to_device


def fast_net() -> FastCNN:
    """As in fast.yaml."""
    return FastCNN(border=2, upright=0.75)


#: Net, optimizer, augmentation. Not fused optimizers: torch knows no shapes of those.
CASES: list[tuple[Callable[[], nn.Module], Any, Augmentation | None]] = [
    (KerasCNN, Adadelta, None),
    (fast_net, torch.optim.Adam, RandomShift(1)),
    (RecordCNN, torch.optim.AdamW, RandomAffine(bend=0.8, thicken=0.5)),
    (KerasCNN, torch.optim.RMSprop, None),
]


def check(net: Callable[[], nn.Module], make: Any, augment: Augmentation | None) -> None:
    """Take a step."""
    model = MNISTClassifier(net())
    weights = list(model.parameters())
    optimizer = make(weights, foreach=True)  # which is the default for real ones
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()  # the optimizer has its state
    steps_to_device(optimizer, torch.device("cuda"))
    metrics = model.train_metrics
    metrics.in_place()

    def take() -> None:
        with as_tensors(optimizer, torch.zeros(1)):
            optimizer.step()

    loss = whole_step(
        partial(training_losses, model, augment=augment, label_smoothing=0.1),
        weights,
        take,
        metrics.count_in_place,
        torch.zeros(600, 28, 28, dtype=torch.uint8),
        torch.zeros(600, dtype=torch.long),
        torch.zeros(128, dtype=torch.long),
        torch.zeros(1 + len(dropout_layers(model)), dtype=torch.long),
        global_size=128,
    )
    assert loss.device.type == "cuda"
    assert {tensor.dtype for tensor in (loss, *weights)} == {torch.float32}
    assert optimizer.param_groups[0]["lr"] == optimizer.defaults["lr"]  # a number, as before
    assert not optimizer.param_groups[0]["capturable"]


if __name__ == "__main__":

    def gradients(loss: Tensor, weights: list[Tensor]) -> list[Tensor]:
        assert loss.requires_grad
        return [torch.ones_like(weight) for weight in weights]

    torch.autograd.grad = gradients  # type: ignore[assignment]
    gc.disable()  # torch aborts where it frees them without a GPU
    with FakeTensorMode(), torch.device("cuda"):
        for case in CASES:
            check(*case)
            print(case[0].__name__, flush=True)
        os._exit(0)
