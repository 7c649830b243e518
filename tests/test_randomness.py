"""Dropout masks: random enough, and a function of (seed, step, layer, row) alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from mnist_cnn.kernels import numba_cache
from mnist_cnn.kernels.numba_cache import compiled_loops
from mnist_cnn.training.randomness import (
    Dropout,
    keyed_dropout,
    random_bytes,
    step_keys,
    stream_key,
)

CPU = torch.device("cpu")


def splitmix64(z: int) -> int:
    """The reference: SplitMix64's finaliser on Python's unbounded integers."""
    mask = 2**64 - 1
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


def test_bytes_are_those_of_splitmix64() -> None:
    for key in (0, 5, -1, 2**63 - 1, -(2**63)):
        words = [splitmix64((key + i * 0x9E3779B97F4A7C15) % 2**64) for i in range(50)]
        expected = b"".join(word.to_bytes(8, "little") for word in words)
        assert bytes(random_bytes(torch.tensor(key), 10, 40).flatten().tolist()) == expected


def test_a_share_of_the_rows_is_that_share_of_the_whole() -> None:
    key = torch.tensor(stream_key(1, 2, 3))
    whole = random_bytes(key, 12, 13)  # 13 bytes: not a multiple of 8
    assert torch.equal(random_bytes(key, 5, 13, first_row=4), whole[4:9])
    assert random_bytes(key, 0, 13).shape == (0, 13)


def test_bytes_are_uniform() -> None:
    counts = torch.bincount(
        random_bytes(torch.tensor(9), 1000, 1000).flatten().long(), minlength=256
    )
    chi2 = float(((counts - 1e6 / 256) ** 2 / (1e6 / 256)).sum())
    assert 160 < chi2 < 370  # 255 degrees of freedom: beyond 5 standard deviations on either side


def masks(
    p: float = 0.25, rows: int = 64, first_row: int = 0, step: tuple[int, ...] = (1, 0, 0)
) -> list[torch.Tensor]:
    net = nn.Sequential(Dropout(p), nn.Identity(), Dropout(p))
    keys = step_keys(*step, layers=2, device=CPU)[1:]
    with keyed_dropout(net, keys, first_row=first_row):
        return [net[0](torch.ones(rows, 400)), net[2](torch.ones(rows, 400))]


@pytest.mark.parametrize(
    ("p", "exact"), [(0.25, 0.25), (0.5, 0.5), (0.1, 26 / 256), (0.999, 255 / 256)]
)
def test_units_are_dropped_with_p_and_the_rest_scaled(p: float, exact: float) -> None:
    values = masks(p, rows=2000)[0]
    assert values.unique().tolist() == pytest.approx([0.0, 1 / (1 - exact)])
    share = float((values == 0).float().mean())
    assert share == pytest.approx(exact, abs=5 * (exact * (1 - exact) / values.numel()) ** 0.5)


def test_masks_follow_from_seed_step_and_layer() -> None:
    reference = masks(step=(1, 2, 3))
    assert all(map(torch.equal, masks(step=(1, 2, 3)), reference))
    others = [masks(step=step)[0] for step in [(2, 2, 3), (1, 3, 3), (1, 2, 4)]]
    for other in [*others, reference[1]]:  # another seed, epoch, batch; another layer
        agreement = float((other == reference[0]).float().mean())
        assert agreement == pytest.approx(0.75**2 + 0.25**2, abs=0.02)  # independent


def test_a_rank_drops_what_its_rows_of_the_global_batch_drop() -> None:
    whole = masks(rows=12)
    for layer in (0, 1):
        parts = [masks(rows=4, first_row=first)[layer] for first in (0, 4, 8)]
        assert torch.equal(torch.cat(parts), whole[layer])


def test_the_gradient_is_that_of_nn_dropout() -> None:
    x = torch.randn(8, 100, requires_grad=True)
    layer = Dropout(0.5)
    with keyed_dropout(layer, step_keys(1, layers=1, device=CPU)[1:], first_row=0):
        y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    kept = y.detach() != 0
    assert torch.equal(y.detach(), torch.where(kept, x.detach() * 2, 0.0))
    assert torch.equal(x.grad, torch.where(kept, 2.0, 0.0))


def test_bfloat16_is_scaled_without_bias() -> None:
    layer = Dropout(0.25)
    with keyed_dropout(layer, step_keys(1, layers=1, device=CPU)[1:], first_row=0):
        y = layer(torch.full((4, 100), 3.0, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert set(y.unique().tolist()) == {0.0, 4.0}


@pytest.mark.parametrize("p", [0.0, 0.25, 0.999])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_the_compiled_loop_drops_the_same(
    dtype: torch.dtype, p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = compiled_loops()
    assert loops is not None
    calls: list[Any] = []
    draw = loops.dropout_mask

    def noted(*arguments: Any) -> None:
        calls.append(arguments)
        draw(*arguments)

    monkeypatch.setattr(loops, "dropout_mask", noted)
    layer = Dropout(p)
    for shape in ((5, 13), (3, 4, 6), (2, 8), (0, 13)):  # 13 bytes: not a multiple of 8
        x = torch.linspace(-2, 2, math.prod(shape)).view(shape).to(dtype)
        for key in (0, 5, -1, 2**63 - 1, -(2**63)):
            dropped = []
            for there in (loops, None):
                monkeypatch.setattr(numba_cache, "compiled_loops", lambda there=there: there)
                with keyed_dropout(layer, torch.tensor([key]), first_row=7):
                    dropped.append(layer(x))
            assert torch.equal(*dropped)
            assert dropped[0].dtype == dtype
    assert len(calls) == 4 * 5


def test_outside_of_training_it_is_nn_dropout() -> None:
    x = torch.randn(16, 100)
    layer = Dropout(0.5)
    torch.manual_seed(3)
    ours = layer(x)
    torch.manual_seed(3)
    assert torch.equal(ours, nn.Dropout(0.5)(x))
    layer.eval()
    with keyed_dropout(layer, step_keys(1, layers=1, device=CPU)[1:], first_row=0):
        assert torch.equal(layer(x), x)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_p_out_of_range_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="Dropout: p"):
        Dropout(p)
