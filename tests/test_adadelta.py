"""The one walk of Adadelta takes the steps of torch's, and of the formula."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_cnn import Adadelta
from mnist_cnn.training import adadelta

SETTINGS: dict[str, Any] = {"lr": 0.7, "rho": 0.9, "eps": 1e-6}


def weights(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 4, 3, 3), (10, 7), (10,), ()]
    tensors = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    tensors[0] = tensors[0].to(memory_format=torch.channels_last)
    return [nn.Parameter(tensor) for tensor in tensors]


def train(
    optimizer: torch.optim.Optimizer,
    steps: int = 5,
    change: Callable[[Tensor], Tensor] = lambda g: g,
) -> list[Tensor]:
    """The weights after some steps with made-up gradients."""
    generator = torch.Generator().manual_seed(1)
    (group,) = optimizer.param_groups
    for _ in range(steps):
        for weight in group["params"]:
            gradient = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.grad = change(gradient)
        optimizer.step()
    return [weight.detach().clone() for weight in group["params"]]


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was walked over."""
    seen: list[int] = []
    flat = adadelta._flat

    def noted(x: Tensor) -> Any:
        seen.append(x.numel())
        return flat(x)

    monkeypatch.setattr(adadelta, "_flat", noted)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_takes_the_steps_of_torch(dtype: torch.dtype, walks: list[int]) -> None:
    ours, stock = (
        Adadelta(weights(dtype), **SETTINGS),
        torch.optim.Adadelta(weights(dtype), **SETTINGS),
    )
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(train(ours), train(stock), rtol=tolerance, atol=tolerance)
    assert len(walks) == 5 * 4 * 4  # steps, weights, arrays
    ours_state, stock_state = ours.state_dict(), stock.state_dict()
    assert ours_state["param_groups"] == stock_state["param_groups"]
    torch.testing.assert_close(
        ours_state["state"], stock_state["state"], rtol=tolerance, atol=tolerance
    )


def test_a_weight_alone_follows_the_formula() -> None:
    weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = Adadelta([weight], **SETTINGS)
    value, square, delta_square = 2.0, 0.0, 0.0
    for gradient in (0.5, -3.0, 0.0, 1.0):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient**2
        delta = math.sqrt(delta_square + 1e-6) / math.sqrt(square + 1e-6) * gradient
        delta_square = 0.9 * delta_square + 0.1 * delta**2
        value -= 0.7 * delta
    assert weight.item() == pytest.approx(value, rel=1e-14)


def test_gradients_and_state_in_another_order_in_memory_are_put_in_order() -> None:
    """As they come from Keras's files, and from layers that are not in channels_last."""

    def contiguous(x: Tensor) -> Tensor:
        return x.contiguous()

    ours, stock = Adadelta(weights(), **SETTINGS), torch.optim.Adadelta(weights(), **SETTINGS)
    for optimizer in (ours, stock):
        train(optimizer, steps=1, change=contiguous)
        saved = copy.deepcopy(optimizer.state_dict())
        for state in saved["state"].values():
            state["acc_delta"] = state["acc_delta"].contiguous()
        optimizer.load_state_dict(saved)
    torch.testing.assert_close(train(ours), train(stock), rtol=1e-6, atol=1e-6)


def test_it_goes_on_where_torch_stopped() -> None:
    stock = torch.optim.Adadelta(weights(), **SETTINGS)
    train(stock, steps=3)
    params = [nn.Parameter(w.detach().clone()) for w in stock.param_groups[0]["params"]]
    ours = Adadelta(params, **SETTINGS)
    ours.load_state_dict(copy.deepcopy(stock.state_dict()))
    torch.testing.assert_close(train(ours), train(stock), rtol=1e-6, atol=1e-6)


def test_what_it_is_not_for_is_torch_s(walks: list[int]) -> None:
    settings = SETTINGS | {"weight_decay": 0.1}
    ours, stock = Adadelta(weights(), **settings), torch.optim.Adadelta(weights(), **settings)
    torch.testing.assert_close(train(ours), train(stock), rtol=0, atol=0)
    assert not walks


def test_a_closure_is_called_first() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = Adadelta([weight], **SETTINGS)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    assert optimizer.step(closure).item() < 3
