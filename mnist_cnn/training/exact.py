"""Sums that do not depend on their order, so that any number of devices makes the same model.

Floating-point addition is not associative. The gradient of a step is a sum over the images of the
batch; devices that share the batch add in another order than one device does, the last bit differs,
and training magnifies that: after some twenty steps at Keras's learning rate losses differ in the
third digit. Here the gradient of each chunk of a batch is computed alone, the same way whichever
device has the chunk, and the chunks are added in fixed point, which is associative. (The idea is
that of reproducible summation: Demmel and Nguyen, "Fast Reproducible Floating-Point Summation",
ARITH 2013, with one fixed bin.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, distributed, nn

from mnist_cnn.training.global_batches import Batch

#: Gradients are rounded to multiples of 2⁻⁴⁴ (6e-14). Doubles add those exactly, as long as a term
#: is below 128 and a sum below 512; beyond that the order shows again.
GRID_BITS = 44
#: Adding and subtracting it leaves a double rounded to the grid.
ROUNDER = 1.5 * 2.0 ** (52 - GRID_BITS)


class ExactSum:
    """Adds up tensors of the same shapes, to the same bits in any order and on any devices."""

    def __init__(self) -> None:
        self.totals: list[Tensor] = []  # float64

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Add one tensor to each of the sums."""
        terms = [tensor.double().add_(ROUNDER).sub_(ROUNDER) for tensor in tensors]
        if not self.totals:
            self.totals = terms
        else:
            for total, term in zip(self.totals, terms, strict=True):
                total.add_(term)

    def all_reduce(self) -> None:
        """Add the sums of all processes."""
        for total in self.totals:
            distributed.all_reduce(total)


class ExactGradient:
    """The gradient of a global batch, computed chunk by chunk and added up exactly.

    It takes the place of ``loss.backward()``, after which DistributedDataParallel would sum the
    gradients in its own way.

    Args:
        net: Its weights are those that the gradient is for.
    """

    def __init__(self, net: nn.Module) -> None:
        self.weights = [weight for weight in net.parameters() if weight.requires_grad]
        self.sum = ExactSum()

    def loss(self, batch: Batch, loss_of: Callable[[Batch], Tensor]) -> Tensor:
        """Compute the loss of this rank's share of a batch, and the gradient of all ranks.

        Args:
            batch: The share, with its ``chunks``.
            loss_of: The loss of a part of it.

        Returns:
            Scalar; the gradient is kept for `write`.
        """
        torch.set_num_threads(1)  # a product's sums depend on how many share it
        self.sum, total = ExactSum(), batch.images.new_zeros((), dtype=torch.float32)
        for chunk in batch.split():
            loss = loss_of(chunk)
            self.sum.add(torch.autograd.grad(loss, self.weights))
            total = total + loss.detach()
        if distributed.is_initialized():
            self.sum.all_reduce()
        return total

    def write(self, batches: int) -> None:
        """Add the gradient to that of the weights, as one of so many accumulated batches."""
        for weight, total in zip(self.weights, self.sum.totals, strict=True):
            # In the weight's order of memory, which fused optimizers take for granted.
            gradient = torch.empty_like(weight).copy_(total / batches)
            weight.grad = gradient if weight.grad is None else weight.grad + gradient
