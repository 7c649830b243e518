"""Layers that torch does not have; `Dropout` is with its random numbers, in `training.randomness`.

Letters of the shapes: B images, C channels, H and W pixels, O channels out, P and Q pixels out.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

from mnist_cnn.errors import UserError
from mnist_cnn.kernels import double_conv as kernels
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


def double_conv(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
    """``relu(max_pool2d(second(relu(first(x))), 2))``, whose gradient on a CPU leaves out zeros.

    See `mnist_cnn.kernels.double_conv`, which is for layers that are convolutions and nothing else.

    Args:
        first: Makes (B, C, H, W) of `x`.
        second: Makes of that what is pooled.
        x: Images.

    Returns:
        (B, O, P, Q).
    """
    symbolic = not isinstance(x, Tensor)  # torch.fx takes notes
    if symbolic or has_hooks(first, second) or not (is_plain(first) and is_plain(second, (1, 1))):
        return F.relu(F.max_pool2d(second(F.relu(first(x))), 2), inplace=True)
    weights = first.weight, first.bias, second.weight, second.bias
    return kernels.double_conv(x, *weights, stride=first.stride)


def is_plain(layer: Any, stride: tuple[int, int] | None = None) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a convolution without padding, dilation or groups, and nothing else."""
    if type(layer) is not nn.Conv2d or not {"forward", "_conv_forward"}.isdisjoint(layer.__dict__):
        return False
    plain = (layer.padding, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
    return plain and isinstance(layer.stride, tuple) and stride in (None, layer.stride)


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


class FlattenChannelsLast(nn.Module):
    """Flattens rows, columns, channels in Keras's order."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) → (B, H·W·C)
        return x.permute(0, 2, 3, 1).flatten(1)


def load_kernels(net: nn.Module) -> None:
    """Load the compiled loops that a net will use on a CPU: a second that its first step saves."""
    if any(is_plain(getattr(module, "conv2", None)) for module in net.modules()):
        kernels.load()
    if dropout_layers(net):
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else next(net.parameters()).dtype
        Dropout().draw(torch.tensor(0), torch.zeros(1, 1, dtype=dtype))
