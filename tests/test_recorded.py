"""What a recording repeats, and how it is found out where it does not: see `support.tape`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnist_cnn.training import recorded
from mnist_cnn.training.recorded import NotRecordableError, Recorded
from tests.support.tape import TapedRecording


@pytest.fixture(autouse=True)
def tape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "_Recording", TapedRecording)


class Training:
    """Plain descent on a linear layer, with something to go wrong in between."""

    def __init__(self, wrong: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(5, 1)
        self.wrong = wrong

    def __call__(self, x: Tensor, rate: Tensor) -> Tensor:
        loss = self.wrong(self.layer(x)).square().mean()
        with torch.no_grad():
            for weight, gradient in zip(
                self.layer.parameters(),
                torch.autograd.grad(loss, list(self.layer.parameters())),
                strict=True,
            ):
                weight.sub_(rate * gradient)
        return loss.detach()

    def state(self) -> list[Tensor]:
        return [*self.layer.parameters(), *self.layer.buffers()]

    def recorded(self) -> Recorded:
        return Recorded(self, self.state, modules=[self.layer])


def examples(count: int = 3, rows: int = 8) -> list[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(rows, 5, generator=generator), torch.tensor(0.1 / (1 + i)))
        for i in range(count)
    ]


def test_a_recording_does_what_the_function_does() -> None:
    called, replayed = Training(), Training()
    program = replayed.recorded()
    for rows in (8, 3):  # shapes have recordings of their own
        arguments = examples(6, rows)
        assert not program.knows(*arguments[0])
        program.prove(arguments[:3])
        assert program.knows(*arguments[0])
        for given in arguments[2:]:
            assert torch.equal(program(*given), called(*given))
            assert all(map(torch.equal, replayed.state(), called.state()))


def _numpy() -> list[int]:
    state: Any = np.random.get_state()
    return [*state[1], state[2]]


def test_a_proof_leaves_no_trace() -> None:
    training = Training(lambda x: x + 0 * torch.rand(1) * random.random() * np.random.rand())
    training.layer.register_buffer("count", torch.tensor(3))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), _numpy(), torch.get_rng_state()
    weights = [tensor.clone() for tensor in training.state()]
    training.recorded().prove(examples())
    assert random.getstate() == before[0]
    assert _numpy() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert all(map(torch.equal, training.state(), weights))


def test_torch_s_generator_goes_on_in_a_recording() -> None:
    called, replayed = (Training(lambda x: nn.functional.dropout(x, 0.5)) for _ in range(2))
    program = replayed.recorded()
    program.prove(examples())
    losses = []
    for step in (called, program):
        torch.manual_seed(5)
        losses.append([float(step(*given)) for given in examples(5)])
    assert losses[0] == losses[1]


class Counting(nn.Linear):
    """Does something else each time, by a number of Python's."""

    calls = 0

    def forward(self, input: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(input) * self.calls


def test_a_net_that_counts_in_python_is_refused_and_its_count_put_back() -> None:
    training = Training()
    training.layer = Counting(5, 1)
    with pytest.raises(NotRecordableError, match="its replay returns something else"):
        training.recorded().prove(examples())
    assert training.layer.calls == 0


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda x: x * random.random(), "returns something else"),
        (lambda x: x * float(np.random.rand()), "returns something else"),
        (lambda x: x if x.sum() > 0 else -2 * x, "not permitted when stream is capturing"),
        (lambda x: x * x.mean().item(), "not permitted when stream is capturing"),
        (lambda x: x[x[:, 0].abs().nonzero()[:, 0]], "not permitted when stream is capturing"),
    ],
)
def test_what_python_decides_is_refused(wrong: Callable[[Tensor], Tensor], why: str) -> None:
    training = Training(wrong)
    weights = [tensor.clone() for tensor in training.state()]
    program = training.recorded()
    with pytest.raises(NotRecordableError, match=why):
        program.prove(examples())
    assert not program.knows(*examples()[0])
    assert all(map(torch.equal, training.state(), weights))


def test_a_rate_that_python_has_read_is_refused() -> None:
    training = Training()
    rates = iter([0.1, 0.2, 0.3] * 9)

    def step(x: Tensor, rate: Tensor) -> Tensor:
        return training(x, torch.tensor(next(rates)))

    with pytest.raises(NotRecordableError, match="its replay"):
        Recorded(step, training.state).prove(examples())


def test_a_tensor_that_is_replaced_is_refused() -> None:
    training = Training()
    means = [torch.zeros(())]

    def step(x: Tensor, rate: Tensor) -> Tensor:
        means[0] = 0.9 * means[0] + 0.1 * x.mean()
        return training(x, rate)

    with pytest.raises(NotRecordableError, match="should change in place"):
        Recorded(step, lambda: [*training.state(), *means]).prove(examples())


def test_it_is_seen_when_the_state_moves() -> None:
    training = Training()
    program = training.recorded()
    assert not program.moved()
    training.layer.weight.requires_grad_(False)
    assert program.moved()
    training.layer.weight.requires_grad_(True)
    training.layer.weight = nn.Parameter(training.layer.weight.detach().clone())
    assert program.moved()


def test_any_other_error_is_not_taken_for_one_of_recording() -> None:
    def wrong(x: Tensor) -> Tensor:
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        Training(wrong).recorded().prove(examples())


@pytest.mark.parametrize(
    ("answers", "steps", "refused"), [(101, 1, False), (130, 1, True), (100, 2, True)]
)
def test_counts_may_differ_by_near_ties_alone(answers: int, steps: int, refused: bool) -> None:
    training = Training()
    counts = torch.tensor([0, 0])

    def counting(right: int, steps: int) -> Callable[..., Tensor]:
        def step(x: Tensor, rate: Tensor) -> Tensor:
            counts.add_(torch.tensor([right, steps]))
            return training(x, rate)

        return step

    program = Recorded(
        counting(answers, steps), lambda: [*training.state(), counts], plain=counting(100, 1)
    )
    if refused:
        with pytest.raises(NotRecordableError, match="counts differently"):
            program.prove(examples())
    else:
        program.prove(examples())
    assert counts.tolist() == [0, 0]
