"""The randomness of training is a function of (seed, step), and of nothing else.

Which images a step sees and which units it drops follow from keys, not from the state of a
generator. So they are the same whichever number of devices shares the step, and a resumed run
needs nothing restored to go on as if it had never stopped.

The numbers come from SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), used as a counter-based generator in the way of Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3" (SC 2011): word i of a stream is ``mix(key + i·γ)``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mnist_cnn.errors import UserError
from mnist_cnn.kernels.numba_cache import loops_for


def _signed(word: int) -> int:
    """The 64 bits of `word` as the signed number that torch's int64 takes them for."""
    return (word & WORD ^ 2**63) - 2**63


WORD = 2**64 - 1  # all bits of a word
GAMMA = _signed(0x9E3779B97F4A7C15)
GAMMA_INVERSE = _signed(pow(GAMMA, -1, 2**64))
FACTORS = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def global_seed() -> int:
    """The seed that Lightning's ``seed_everything`` was given, on every rank; 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def stream_key(*parts: int) -> int:
    """Mix e.g. (seed, epoch, batch, layer) into the 64-bit key of an independent stream.

    >>> stream_key(1, 2) != stream_key(2, 1)
    True
    """
    key = 0
    for part in parts:
        key = _mix_word(key + part * GAMMA + GAMMA)
    return _signed(key)


def _mix_word(z: int) -> int:
    """`_mix` of a single word, without torch: 0.2 ms a key less."""
    z &= WORD
    z = (z ^ z >> 30) * FACTORS[0] & WORD
    z = (z ^ z >> 27) * FACTORS[1] & WORD
    return z ^ z >> 31


def random_bytes(key: Tensor, rows: int, row_bytes: int, first_row: int = 0) -> Tensor:
    """Uniform bytes in which every row is a function of (key, first_row + its index) alone.

    Args:
        key: int64 scalar; its device is where the bytes are made.
        rows: Number of rows.
        row_bytes: Bytes in a row.
        first_row: Index of the first row, to draw a share of a bigger table.

    Returns:
        uint8 tensor of shape (rows, row_bytes).
    """
    words = -(-row_bytes // 8)  # 8 bytes a word, rounded up
    start = first_row * words
    counter = torch.arange(start, start + rows * words, device=key.device)
    # key + i·γ, as (i + key/γ)·γ: torch.compile takes a counter for 32 bits, in which γ has no room
    stream = counter.add_(key * GAMMA_INVERSE).mul_(GAMMA)
    return _mix(stream).view(torch.uint8).view(rows, 8 * words)[:, :row_bytes]


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser, in place."""
    z = _xor_shift(z, 30).mul_(FACTORS[0])
    z = _xor_shift(z, 27).mul_(FACTORS[1])
    return _xor_shift(z, 31)


def _xor_shift(z: Tensor, shift: int) -> Tensor:
    # torch shifts the sign bit in; the mask makes it the logical shift that the source means.
    return z.bitwise_xor_((z >> shift).bitwise_and_((1 << (64 - shift)) - 1))


def dropout_mask(
    key: Tensor,
    rows: int,
    row_bytes: int,
    first_row: int,
    dropped: int,
    scale: float,
    *,
    dtype: torch.dtype,
) -> Tensor:
    """`scale` where the byte of `random_bytes` is `dropped` or more, else 0; (rows, row_bytes)."""
    if loops := loops_for(key):
        mask = torch.empty(rows, row_bytes, dtype=dtype, device=key.device)
        first_word = first_row * -(-row_bytes // 8)
        array = mask.numpy()
        loops.dropout_mask(int(key), first_word, dropped, array.dtype.type(scale), array)
        return mask
    kept = random_bytes(key, rows, row_bytes, first_row) >= dropped
    return kept.to(dtype) if scale == 1 else kept.to(dtype).mul_(scale)


class Dropout(nn.Module):
    """Inverted dropout like ``nn.Dropout``, drawn from random bytes.

    Inside `keyed_dropout` the mask is a function of (seed, step, layer, row of the global batch).
    Outside of it, it is ``nn.Dropout``.

    Args:
        p: Probability that a unit is dropped, in [0, 1). Inside `keyed_dropout` it is rounded to
            a multiple of 1/256, and the units that stay are scaled to match.

    Raises:
        UserError: If `p` is outside of [0, 1).
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UserError(f"Dropout: p is {p}, but must be at least 0 and below 1")
        self.p = p
        self.key: Tensor | None = None
        self.first_row = 0

    def forward(self, x: Tensor) -> Tensor:  # (B, …) → (B, …)
        if self.key is None or not self.training:
            return nn.functional.dropout(x, self.p, self.training)
        return self.draw(self.key, x)

    def draw(self, key: Tensor, x: Tensor) -> Tensor:
        """Drop what the key says."""
        dropped = min(round(256 * self.p), 255)  # of the 256 values that a byte can take
        scale = 256 / (256 - dropped)
        rows = len(x), x[:1].numel() if len(x) else 0, self.first_row
        if x.element_size() > 2:
            return x * dropout_mask(key, *rows, dropped, scale, dtype=x.dtype).view(x.shape)
        # 16 bits would round the scale within the mask.
        mask = dropout_mask(key, *rows, dropped, 1, dtype=torch.uint8)
        return x * mask.view(x.shape).to(x.dtype) * scale

    def extra_repr(self) -> str:
        return f"p={self.p}"


def step_keys(*step: int, layers: int, device: torch.device) -> Tensor:
    """Keys of all that a step draws at random.

    Args:
        step: What names the step: seed, epoch, batch.
        layers: Number of `Dropout` layers.
        device: Where they are wanted; a GPU gets them without being waited for.

    Returns:
        (1 + layers,) int64: of the changes to the images, and of each layer.
    """
    keys = torch.tensor([stream_key(*step, layer) for layer in range(-1, layers)])
    return keys.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else keys


def dropout_layers(net: nn.Module) -> list[Dropout]:
    """The layers that `keyed_dropout` gives keys, in the order of ``net.modules()``."""
    return [module for module in net.modules() if isinstance(module, Dropout)]


@contextmanager
def keyed_dropout(net: nn.Module, keys: Tensor, *, first_row: int) -> Iterator[None]:
    """Draw the masks of all `Dropout` layers of `net` from their keys while this is open.

    Args:
        net: The net.
        keys: (layers,) int64, of its `dropout_layers`; their device is where masks are made.
        first_row: The row of the global batch that is the first of this rank's.
    """
    layers = dropout_layers(net)
    for layer, key in zip(layers, keys, strict=True):
        layer.key = key
        layer.first_row = first_row
    try:
        yield
    finally:
        for layer in layers:
            layer.key = None
