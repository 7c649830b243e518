"""Layers that torch does not have; `Dropout` is with its random numbers, in `training.randomness`.

Letters of the shapes: B images, C channels, H and W pixels, O channels out, P and Q pixels out.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

from mnist_cnn.errors import UserError
from mnist_cnn.kernels import conv_max_pool as kernels
from mnist_cnn.training.randomness import Dropout, dropout_layers


def check_sizes(net: nn.Module, *sizes: int) -> None:
    """Refuse a net whose layers have nothing in them.

    Raises:
        UserError: If a number of filters, units or classes is less than 1.
    """
    if min(sizes) < 1:
        raise UserError(f"{type(net).__name__}: filters, units and classes must be at least 1")


def rectified(layer: nn.Module, x: Tensor, **settings: Any) -> Tensor:
    """``relu(layer(x, **settings))``, written over the output, which no gradient needs.

    Big blocks are what a CPU waits for.
    """
    overwrite = not has_hooks(layer)  # before it runs: a hook may take itself away
    return F.relu(layer(x, **settings), inplace=overwrite)


def has_hooks(*layers: nn.Module) -> bool:
    """Whether what layers take and give must stay as it is.

    A hook may keep it, to show activations, and a full backward hook forbids to change it.
    """
    kinds = ("forward_pre", "forward", "backward_pre", "backward")
    return any(getattr(layer, f"_{kind}_hooks") for layer in layers for kind in kinds) or any(
        getattr(nn.modules.module, f"_global_{kind}_hooks") for kind in kinds
    )


class BatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose statistics are those of the global batch.

    The same function as ``nn.SyncBatchNorm`` in training, which is for GPUs only; with one device
    it is ``nn.BatchNorm2d``.
    """

    def forward(self, input: Tensor) -> Tensor:  # (B, C, H, W) → (B, C, H, W)
        if not (self.training and distributed.is_initialized()):
            return super().forward(input)
        if distributed.get_world_size() == 1:
            return super().forward(input)
        x = input.float() if input.element_size() < 4 else input  # 16 bits are too few for sums
        # Of each device: how many numbers a channel has, their sum, and that of their squares.
        count = x.new_full((1,), x.numel() / x.shape[1])
        sums = [x.sum(dim=(0, 2, 3)), x.square().sum(dim=(0, 2, 3))]
        total = all_reduce(torch.cat([count, *sums]))
        count, (mean, square) = total[0].detach(), total[1:].view(2, -1) / total[0].detach()
        variance = (square - mean.square()).clamp_min(0)
        self._keep(mean.detach(), (variance * count / (count - 1)).detach())
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(input.dtype)

    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        """Take a batch into the running statistics that evaluation uses."""
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            running.lerp_(new, self.momentum)  # type: ignore[union-attr,arg-type]
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]


class ReLUConvMaxPool(nn.Conv2d):
    """Rectifier, convolution and 2×2 max-pooling, whose gradient leaves out zeros.

    See `mnist_cnn.kernels.conv_max_pool`.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: Of the convolution, which has stride 1 and no padding.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size)

    # (B, C, H, W) → (B, O, P, Q); `overwrite` says that nothing else uses the input
    def forward(self, input: Tensor, overwrite: bool = False) -> Tensor:
        return kernels.relu_conv_max_pool(input, self.weight, self.bias, overwrite=overwrite)


class FlattenChannelsLast(nn.Module):
    """Flattens rows, columns, channels in Keras's order."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) → (B, H·W·C)
        return x.permute(0, 2, 3, 1).flatten(1)


def load_kernels(net: nn.Module) -> None:
    """Load the compiled loops that a net will use on a CPU: a second that its first step saves."""
    if any(isinstance(module, ReLUConvMaxPool) for module in net.modules()):
        kernels.load()
    if dropout_layers(net):
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else next(net.parameters()).dtype
        Dropout().draw(torch.tensor(0), torch.zeros(1, 1, dtype=dtype))
