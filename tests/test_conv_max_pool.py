"""relu_conv_max_pool is rectifier, convolution and max-pooling, forwards and backwards."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_cnn import KerasCNN
from mnist_cnn.kernels import numba_cache
from mnist_cnn.kernels.conv_max_pool import relu_conv_max_pool
from mnist_cnn.kernels.numba_cache import compiled_loops

Inputs = tuple[Tensor, Tensor, Tensor]


def inputs(
    batch: int = 5, channels: int = 3, filters: int = 7, kernel: int = 3, pixels: int = 11
) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, pixels, pixels + 2, generator=generator, dtype=torch.double)
    weight = torch.randn(filters, channels, kernel, kernel, generator=generator).double()
    bias = torch.randn(filters, generator=generator).double()
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


def stock(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.max_pool2d(F.conv2d(F.relu(x), weight, bias), 2)


def is_sparse(y: Tensor) -> bool:
    return "ReLUConvMaxPool" in type(y.grad_fn).__name__


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"kernel": 5},
        {"kernel": 1, "channels": 1},
        {"pixels": 12},  # an odd row and column of the convolution are left out
        {"filters": 1, "batch": 1},
        {"batch": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("share_of_zeros", [0.0, 0.9, 1.0])
def test_it_is_the_stock_function_and_gradient(
    shape: dict[str, int], memory_format: torch.memory_format, share_of_zeros: float
) -> None:
    leaves = inputs(**shape)
    x, weight, bias = (
        leaf.detach().to(memory_format=memory_format) if leaf.dim() == 4 else leaf.detach()
        for leaf in leaves
    )
    gradients = []
    for function in (relu_conv_max_pool, stock):
        arguments = [leaf.clone().requires_grad_() for leaf in (x, weight, bias)]
        pooled = function(*arguments)
        assert is_sparse(pooled) == (function is relu_conv_max_pool)
        generator = torch.Generator().manual_seed(1)
        given = torch.randn(pooled.shape, generator=generator).double()
        given *= torch.rand(pooled.shape, generator=generator) >= share_of_zeros
        gradients.append([pooled, *torch.autograd.grad(pooled, arguments, given)])
    for ours, plain in zip(*gradients, strict=True):
        assert ours.dtype == plain.dtype
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)


def test_it_may_overwrite_its_input_and_is_the_same() -> None:
    x, weight, bias = inputs()
    found = []
    for overwrite in (False, True):
        before = 1 * x  # as a layer would have made it
        pooled = relu_conv_max_pool(before, weight, bias, overwrite=overwrite)
        assert before.ge(0).all() == overwrite
        loss = pooled.sin().sum()
        first = torch.autograd.grad(loss, (x, weight, bias), create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), (x, weight))
        found.append([pooled, *first, *second])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_what_needs_its_output_as_it_was_says_so() -> None:
    x, weight, bias = inputs()
    pooled = relu_conv_max_pool(x.tanh(), weight, bias, overwrite=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        pooled.sum().backward()


def test_its_input_may_be_changed_afterwards() -> None:
    x, weight, bias = inputs()
    before = 1 * x
    pooled = relu_conv_max_pool(before, weight, bias)
    before.add_(1)
    for ours, plain in zip(
        torch.autograd.grad(pooled.sum(), (x, weight)),
        torch.autograd.grad(stock(x, weight, bias).sum(), (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain)


def test_a_pixel_that_is_no_number_is_as_in_torch() -> None:
    x, weight, bias = inputs()
    with torch.no_grad():
        x[1, 0, 3, 3] = torch.nan
    found: list[Tensor] = []
    for function in (relu_conv_max_pool, stock):
        pooled = function(x, weight, bias)
        given = torch.ones_like(pooled)
        found += torch.autograd.grad(pooled, x, given)
    assert found[1][1, 0, 3, 3] != 0
    torch.testing.assert_close(*found)


def test_a_numerical_gradient_agrees() -> None:
    assert torch.autograd.gradcheck(relu_conv_max_pool, inputs(batch=2, filters=2, pixels=7))


def test_an_input_that_needs_no_gradient_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = inputs()
    loops = compiled_loops()
    assert loops is not None
    wanted: list[int] = []
    go_back = loops.gradients

    def noted(*arguments: Any) -> None:
        wanted.append(arguments[5].size)
        go_back(*arguments)

    monkeypatch.setattr(loops, "gradients", noted)
    image = x.detach()
    pooled = relu_conv_max_pool(image, weight, bias)
    pooled.sum().backward()
    assert is_sparse(pooled)
    assert image.grad is None
    assert wanted
    assert not any(wanted)  # nor was it computed in vain
    for ours, plain in zip(
        (weight.grad, bias.grad),
        torch.autograd.grad(stock(x, weight, bias).sum(), (weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_is_seen(bad: float) -> None:
    x, weight, bias = inputs()
    pooled = relu_conv_max_pool(x, weight, bias)
    given = torch.zeros_like(pooled)
    given[2, 1, 0, 0] = bad
    pooled.backward(given)
    assert weight.grad is not None
    assert not weight.grad[1].isfinite().any()
    assert weight.grad[0].eq(0).all()


def test_the_sums_do_not_depend_on_the_threads() -> None:
    gradients = []
    threads = torch.get_num_threads()
    try:
        for torch_threads in (1, 2, 3):
            torch.set_num_threads(torch_threads)
            leaves = [leaf.detach().float().requires_grad_() for leaf in inputs(batch=64)]
            torch.manual_seed(0)
            pooled = relu_conv_max_pool(*leaves)
            given = torch.randn_like(pooled) * (torch.rand_like(pooled) < 0.2)
            gradients.append(torch.autograd.grad(pooled, leaves[:2], given))
    finally:
        torch.set_num_threads(threads)
    for others in gradients[1:]:
        assert all(map(torch.equal, gradients[0], others))


def test_it_is_stock_where_the_sparse_pass_is_not_for() -> None:
    x, weight, bias = (leaf.detach().float().requires_grad_() for leaf in inputs())
    with torch.no_grad():
        assert relu_conv_max_pool(x, weight, bias).grad_fn is None
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_sparse(relu_conv_max_pool(x, weight, bias))
    assert not is_sparse(relu_conv_max_pool(x.bfloat16(), weight.bfloat16(), bias.bfloat16()))
    traced = torch.jit.trace(relu_conv_max_pool, (x, weight, bias))
    assert "max_pool2d" in str(traced.graph)


def test_its_gradient_can_be_differentiated() -> None:
    assert is_sparse(relu_conv_max_pool(*inputs()))
    assert torch.autograd.gradgradcheck(relu_conv_max_pool, inputs(batch=2, channels=2, filters=2))
    x, weight, bias = inputs(batch=2)
    weight.requires_grad_(False)  # a penalty on the gradient of an image
    (gradient,) = torch.autograd.grad(
        relu_conv_max_pool(x, weight, bias).sin().sum(), x, create_graph=True
    )
    gradient.square().sum().backward()
    assert x.grad is not None
    x.requires_grad_(False)  # and one on that of the biases alone
    some = relu_conv_max_pool(x, weight, bias).square().sum()
    (gradient,) = torch.autograd.grad(some, bias, create_graph=True)
    torch.testing.assert_close(gradient, 2 * relu_conv_max_pool(x, weight, bias).sum(dim=(0, 2, 3)))


def test_a_hook_of_a_weight_runs_once_in_a_gradient_that_is_differentiated() -> None:
    found: list[Tensor] = []
    for function in (relu_conv_max_pool, stock):
        x, weight, bias = inputs()
        weight.register_hook(lambda gradient: 2 * gradient)
        some = function(x, weight, bias).square().sum()
        found += torch.autograd.grad(some, weight, create_graph=True)
    torch.testing.assert_close(*found)


def test_gradients_of_each_example_by_torch_func() -> None:
    x, weight, bias = inputs()

    def loss(weight: Tensor, example: Tensor) -> Tensor:
        return relu_conv_max_pool(example[None], weight, bias).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight.detach(), x.detach())
    for gradient, example in zip(each, x.detach(), strict=True):
        torch.testing.assert_close(gradient, *torch.autograd.grad(loss(weight, example), weight))


def test_without_numba_the_net_is_the_stock_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net, images = KerasCNN(conv_dropout=0, dense_dropout=0), torch.rand(4, 1, 28, 28)
    losses = []
    for there in (True, False):
        loops = compiled_loops() if there else None
        monkeypatch.setattr(numba_cache, "compiled_loops", lambda loops=loops: loops)
        net.zero_grad()
        net(images).square().sum().backward()
        losses.append([p.grad for p in net.parameters()])
    for ours, plain in zip(*losses, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_a_numba_that_does_not_work_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mnist_cnn.kernels.numba_loops", None)
    monkeypatch.delattr("mnist_cnn.kernels.numba_loops", raising=False)
    with pytest.warns(UserWarning, match="numba does not work"):
        assert compiled_loops.__wrapped__() is None


@pytest.mark.slow
def test_importing_the_net_does_not_import_numba() -> None:
    program = "import sys, mnist_cnn; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_it_is_part_of_the_keras_net() -> None:
    seen: list[bool] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            node = x.grad_fn
            while node is not None and "ReLUConvMaxPool" not in type(node).__name__:
                node = node.next_functions[0][0] if node.next_functions else None
            seen.append(node is not None)
            return x

    net = KerasCNN()
    net.conv_dropout = Spy()  # type: ignore[assignment]
    net(torch.rand(2, 1, 28, 28))
    assert seen == [True]
