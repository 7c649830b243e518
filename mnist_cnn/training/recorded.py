"""A function of tensors, recorded once and replayed: a CUDA graph that proves itself first.

A GPU that trains a small net waits for Python, which starts a hundred small kernels for each step.
A CUDA graph starts them all at once. But it replays kernels, not Python: a number that Python has
computed, a branch, a draw from Python's generator are what they were when it was recorded. So this
compares replays with calls of the function before it is used, and leaves no trace of that.

There is nothing in this file of this project or of Lightning: copy it to where you need it.

    step = Recorded(train_step, state=lambda: [*net.parameters(), *optimizer_state])
    step.prove([(indices_1, keys_1, rate_1), (indices_2, keys_2, rate_2)])  # NotRecordableError?
    loss = step(indices, keys, rate)

On a CPU there is nothing to record: the function is called, and all else is the same.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: Calls before a recording, on another stream: they make cuDNN choose and libraries allocate.
WARM_UP = 3
#: Results nearer to 0 than this are compared as if they were so large.
LEAST = 0.1


class NotRecordableError(Exception):
    """What a function computes is not what its recording computes; says why."""


class Recorded:
    """Calls a function by replaying its recording, of which there is one for each set of shapes.

    What the function must be:

    - All that differs from call to call comes in through its arguments, tensors on one device, or
      is a tensor of `state`, which it changes in place: other values, the same memory.
    - It returns a tensor. What it does besides (Python's numbers, prints, files) is not repeated.
    - It asks the device for nothing (``item``, ``nonzero``, copies to the CPU), and the shapes in
      it do not depend on values.

    Its result is the same tensor each time, overwritten by the next call.

    Args:
        function: The function.
        state: Lists the tensors that it changes, and those of which a recording keeps the address.
            They must stay where they are: see `moved`.
        plain: The same function in the plainest form, like one that is not compiled, to which the
            replays are compared.
        modules: Modules whose attributes in Python it may change; they are put back after a proof.
        tolerance: The relative difference between a replay and a call that is still taken for
            rounding.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        state: Callable[[], list[Tensor]],
        plain: Callable[..., Tensor] | None = None,
        modules: Sequence[nn.Module] = (),
        tolerance: float = 0.02,
    ) -> None:
        self.function = function
        self.state = state
        self.plain = plain or function
        self.modules = modules
        self.tolerance = tolerance
        self._recordings: dict[Any, _Recording] = {}
        self._places = _places(state())

    def __call__(self, *arguments: Tensor) -> Tensor:
        """What the function returns, and what it does to the state.

        Raises:
            KeyError: If `prove` has not seen arguments of these shapes.
        """
        return self._recordings[_shapes(arguments)](*arguments)

    def knows(self, *arguments: Tensor) -> bool:
        """Whether there is a recording for arguments of these shapes."""
        return _shapes(arguments) in self._recordings

    def moved(self) -> bool:
        """Whether the state is no longer where the recordings look for it."""
        return _places(self.state()) != self._places

    def prove(self, examples: Sequence[tuple[Tensor, ...]]) -> None:
        """Record the function for the shapes of these arguments, and see that it is the same.

        From the present state the function is called with each example in turn, then replayed with
        each. State, generators and attributes are then what they were.

        Args:
            examples: Arguments, all of the same shapes, that differ in all that may ever differ.

        Raises:
            NotRecordableError: If it cannot be recorded, or the replays differ from the calls.
        """
        before = _Snapshot(self.state(), self.modules)
        try:
            called = [self.plain(*example).clone() for example in examples]
            expected = [tensor.clone() for tensor in self.state()]
            if self.moved():
                raise NotRecordableError("a call replaces tensors that it should change in place")
            before.restore()
            recording = _Recording(self.function, examples[0])
            before.restore()
            replayed = [recording(*example).clone() for example in examples]
            self._compare(torch.stack(called), torch.stack(replayed), before.tensors, expected)
        except (RuntimeError, AssertionError) as error:  # torch's, of what cannot be recorded
            raise NotRecordableError(str(error).strip().partition("\n")[0]) from error
        finally:
            before.restore()
        self._recordings[_shapes(examples[0])] = recording

    def _compare(
        self, called: Tensor, replayed: Tensor, before: list[Tensor], expected: list[Tensor]
    ) -> None:
        """Raise unless results and changes of the state agree up to rounding."""
        scale = called.abs().clamp_min(LEAST)
        difference = float(((replayed - called).abs() / scale).max())
        if not difference <= self.tolerance:
            raise NotRecordableError(
                f"its replay returns something else: {replayed.tolist()} in place of "
                f"{called.tolist()}"
            )
        # Of each tensor the part of its change that was missed; small tensors may be noise alone.
        numbers, missed = 0, 0.0
        for was, meant, now in zip(before, expected, self.state(), strict=True):
            if not now.is_floating_point():
                # What is counted may be a near-tie that rounding decides, such as an answer.
                off, counted = ((x.double() - meant).abs() for x in (now, was))
                if not bool((off <= 5 * self.tolerance * counted).all()):
                    raise NotRecordableError("its replay counts differently")
                continue
            wrong, change = (float((x - meant).detach().double().norm()) for x in (now, was))
            numbers += now.numel()
            missed += now.numel() * (wrong / max(change, wrong) if wrong else 0.0)
        if not missed <= 5 * self.tolerance * numbers:
            raise NotRecordableError(
                f"its replay changes the state otherwise, by {missed / numbers:.1%}"
            )


class _Recording:
    """A function with arguments of its own, which are overwritten, and the graph of its kernels."""

    def __init__(self, function: Callable[..., Tensor], arguments: Sequence[Tensor]) -> None:
        self.function = function
        self.arguments = [argument.clone() for argument in arguments]
        self.graph: torch.cuda.CUDAGraph | None = None
        if not arguments[0].is_cuda:
            return
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP - 1):
                function(*self.arguments)
            with waiting_is_an_error():
                function(*self.arguments)
        here.wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may go on: a loader that pins memory, the process group's watchdog.
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.result = function(*self.arguments)
        finally:
            torch.cuda.set_stream(here)  # which torch does not, where a recording fails

    def __call__(self, *arguments: Tensor) -> Tensor:
        for own, given in zip(self.arguments, arguments, strict=True):
            own.copy_(given, non_blocking=True)
        if self.graph is None:
            return self.function(*self.arguments)
        self.graph.replay()
        return self.result


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Raise where something waits for the GPU, which a recording could hardly recover from."""
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


class _Snapshot:
    """Tensors, generators and modules' attributes as they are now."""

    def __init__(self, tensors: list[Tensor], modules: Sequence[nn.Module]) -> None:
        self.places = tensors
        self.tensors = [tensor.detach().clone() for tensor in tensors]
        self.attributes = [(module, dict(vars(module))) for module in modules]
        self.python, self.numpy = random.getstate(), np.random.get_state()
        self.torch = torch.get_rng_state()
        self.device = next((t.device for t in tensors if t.is_cuda), None)
        self.cuda = None if self.device is None else torch.cuda.get_rng_state(self.device)

    def restore(self) -> None:
        with torch.no_grad():
            for place, tensor in zip(self.places, self.tensors, strict=True):
                place.copy_(tensor)
        for module, attributes in self.attributes:
            vars(module).clear()
            vars(module).update(attributes)
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda is not None and self.device is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)


def _shapes(arguments: Sequence[Tensor]) -> tuple[Any, ...]:
    return tuple((tuple(x.shape), x.dtype) for x in arguments)


def _places(tensors: list[Tensor]) -> list[tuple[int, bool]]:
    return [(tensor.data_ptr(), tensor.requires_grad) for tensor in tensors]
