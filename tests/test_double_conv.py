"""double_conv is two convolutions, their rectifiers and max-pooling, forwards and backwards."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_cnn import EnsembleCNN, FastCNN, KerasCNN, RecordCNN
from mnist_cnn.kernels import double_conv as module
from mnist_cnn.kernels import numba_cache
from mnist_cnn.kernels.double_conv import double_conv
from mnist_cnn.kernels.numba_cache import compiled_loops
from mnist_cnn.nets import load_kernels

Weights = tuple[Tensor, Tensor, Tensor, Tensor]
KINDS = [torch.contiguous_format, torch.channels_last]


def inputs(
    batch: int = 5,
    channels: int = 1,
    hidden: int = 3,
    filters: int = 7,
    first: tuple[int, int] = (3, 3),
    second: tuple[int, int] = (3, 3),
    pixels: int = 13,
) -> tuple[Tensor, Weights]:
    """Images, half of whose pixels are black, and the weights of both convolutions."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).double()

    images = random(batch, channels, pixels, pixels + 2).clamp(min=0)
    weights = (
        random(hidden, channels, *first),
        random(hidden),
        random(filters, hidden, *second),
        random(filters),
    )
    return images, tuple(weight.requires_grad_() for weight in weights)  # type: ignore[return-value]


def stock(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    stride: tuple[int, ...] = (1, 1),
) -> Tensor:
    hidden = F.relu(F.conv2d(x, weight1, bias1, stride))
    return F.relu(F.max_pool2d(F.conv2d(hidden, weight2, bias2), 2))


def is_sparse(y: Tensor) -> bool:
    return "DoubleConv" in type(y.grad_fn).__name__


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"second": (5, 2)},
        {"second": (1, 1), "hidden": 1},
        {"first": (3, 5), "channels": 2},
        {"first": (1, 1)},
        {"pixels": 14},  # an odd row and column of the convolution are left out
        {"pixels": 18, "stride": (2, 1)},
        {"pixels": 23, "stride": (2, 3), "first": (5, 5)},
        {"filters": 1, "batch": 1},
        {"batch": 40, "hidden": 9},
        {"batch": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("memory_format", KINDS)
@pytest.mark.parametrize("share_of_zeros", [0.0, 0.9, 1.0])
def test_it_is_the_stock_function_and_gradient(
    shape: dict[str, Any], memory_format: torch.memory_format, share_of_zeros: float
) -> None:
    stride = shape.get("stride", (1, 1))
    sizes = {name: size for name, size in shape.items() if name != "stride"}
    images, weights = inputs(**sizes)
    images = images.to(memory_format=memory_format)
    leaves = [
        leaf.detach().to(memory_format=memory_format) if leaf.dim() == 4 else leaf.detach()
        for leaf in weights
    ]
    gradients = []
    for function in (double_conv, stock):
        arguments = [leaf.clone().requires_grad_() for leaf in leaves]
        pooled = function(images, *arguments, stride=stride)
        assert is_sparse(pooled) == (function is double_conv)
        generator = torch.Generator().manual_seed(1)
        given = torch.randn(pooled.shape, generator=generator).double()
        given *= torch.rand(pooled.shape, generator=generator) >= share_of_zeros
        gradients.append([pooled, *torch.autograd.grad(pooled, arguments, given)])
    for ours, plain in zip(*gradients, strict=True):
        assert ours.dtype == plain.dtype
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-11)


def test_without_biases_it_is_the_stock_function_and_gradient() -> None:
    images, (weight1, _, weight2, _) = inputs()
    found = []
    for function in (double_conv, stock):
        pooled = function(images, weight1, None, weight2, None)
        found.append([pooled, *torch.autograd.grad(pooled.sin().sum(), (weight1, weight2))])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("where", ["images", "hidden"])
def test_a_pixel_that_is_no_number_is_as_in_torch(where: str) -> None:
    images, weights = inputs()
    with torch.no_grad():
        if where == "images":
            images[1, 0, 3, 3] = torch.nan
        else:
            weights[1][0] = torch.nan
    found = []
    for function in (double_conv, stock):
        pooled = function(images, *weights)
        given = torch.ones_like(pooled)
        found.append(torch.autograd.grad(pooled, weights, given))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, equal_nan=True)
    assert not all(gradient.isfinite().all() for gradient in found[1])


def test_a_numerical_gradient_agrees() -> None:
    images, weights = inputs(batch=2, filters=2, pixels=9)
    assert torch.autograd.gradcheck(lambda *weights: double_conv(images, *weights), weights)


@pytest.mark.parametrize("frozen", [(0, 1), (0,), (2, 3), (1, 3), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("first", [(3, 3), (5, 5)], ids=str)
def test_frozen_weights_get_no_gradient(
    first: tuple[int, int], frozen: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = compiled_loops()
    assert loops is not None
    gone_on: list[int] = []
    go_back = loops.gradients

    def noted(*arguments: Any) -> None:
        gone_on.append(arguments[6].size + arguments[7].size)
        go_back(*arguments)

    monkeypatch.setattr(loops, "gradients", noted)
    images, weights = inputs(first=first)
    for i in frozen:
        weights[i].requires_grad_(False)
    pooled = double_conv(images, *weights)
    pooled.sum().backward()
    assert is_sparse(pooled)
    assert [weight.grad is None for weight in weights] == [i in frozen for i in range(4)]
    assert set(map(bool, gone_on)) == {not {0, 1} <= {*frozen}}  # nor was one computed in vain
    free = [weight for weight in weights if weight.requires_grad]
    plain = torch.autograd.grad(stock(images, *weights).sum(), free)
    for weight, gradient in zip(free, plain, strict=True):
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, gradient)


def test_the_gradient_may_be_asked_for_twice() -> None:
    images, weights = inputs()
    pooled = double_conv(images, *weights)
    first = torch.autograd.grad(pooled.sum(), weights, retain_graph=True)
    second = torch.autograd.grad(pooled.sum(), weights)
    assert all(map(torch.equal, first, second))


def test_images_whose_gradient_is_wanted_get_it() -> None:
    images, weights = inputs()
    images.requires_grad_()
    pooled = double_conv(images, *weights)
    assert not is_sparse(pooled)
    for ours, plain in zip(
        torch.autograd.grad(pooled.sum(), (images, *weights)),
        torch.autograd.grad(stock(images, *weights).sum(), (images, *weights)),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_is_seen(bad: float) -> None:
    images, weights = inputs()
    pooled = double_conv(images, *weights)
    given = torch.zeros_like(pooled)
    image, filter_, row, column = (pooled > 0).nonzero()[-1].tolist()
    given[image, filter_, row, column] = bad
    weight1_grad, bias1_grad, weight2_grad, bias2_grad = torch.autograd.grad(pooled, weights, given)
    assert not weight1_grad.isfinite().all()
    assert not bias1_grad.isfinite().all()
    for gradient in (weight2_grad, bias2_grad):
        assert not gradient[filter_].isfinite().all()
        others = torch.arange(len(gradient)) != filter_
        assert gradient[others].eq(0).all()


def test_the_sums_do_not_depend_on_the_threads() -> None:
    gradients = []
    threads = torch.get_num_threads()
    try:
        for torch_threads in (1, 2, 3):
            torch.set_num_threads(torch_threads)
            images, doubles = inputs(batch=64)
            weights = [weight.detach().float().requires_grad_() for weight in doubles]
            torch.manual_seed(0)
            pooled = double_conv(images.float(), *weights)
            given = torch.randn_like(pooled) * (torch.rand_like(pooled) < 0.2)
            gradients.append(torch.autograd.grad(pooled, weights, given))
    finally:
        torch.set_num_threads(threads)
    for others in gradients[1:]:
        assert all(map(torch.equal, gradients[0], others))


def test_it_is_stock_where_the_sparse_pass_is_not_for() -> None:
    images, doubles = inputs()
    images = images.float()
    weights = [weight.detach().float().requires_grad_() for weight in doubles]
    with torch.no_grad():
        assert double_conv(images, *weights).grad_fn is None
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_sparse(double_conv(images, *weights))
    assert not is_sparse(double_conv(images.bfloat16(), *(w.bfloat16() for w in weights)))
    traced = torch.jit.trace(double_conv, (images, *weights))
    assert "max_pool2d" in str(traced.graph)
    assert "DoubleConv" not in str(traced.graph)


def test_its_gradient_can_be_differentiated() -> None:
    images, weights = inputs(batch=2, hidden=2, filters=2, pixels=9)
    assert is_sparse(double_conv(images, *weights))
    assert torch.autograd.gradgradcheck(lambda *weights: double_conv(images, *weights), weights)
    for i in range(3):
        weights[i].requires_grad_(False)  # a penalty on the gradient of a bias alone
    (gradient,) = torch.autograd.grad(
        double_conv(images, *weights).square().sum(), weights[3], create_graph=True
    )
    torch.testing.assert_close(gradient, 2 * double_conv(images, *weights).sum(dim=(0, 2, 3)))


def test_a_hook_of_a_weight_runs_once_in_a_gradient_that_is_differentiated() -> None:
    found: list[Tensor] = []
    for function in (double_conv, stock):
        images, weights = inputs()
        for i in (0, 2):
            weights[i].register_hook(lambda gradient: 2 * gradient)
        some = function(images, *weights).square().sum()
        found += torch.autograd.grad(some, (weights[0], weights[2]), create_graph=True)
    torch.testing.assert_close(found[:2], found[2:])


def test_many_gradients_at_once_and_derivatives_forwards() -> None:
    images, weights = inputs(batch=2, pixels=9)
    pooled = double_conv(images, *weights)
    assert is_sparse(pooled)
    given = torch.randn(3, *pooled.shape).double()
    at_once = torch.autograd.grad(pooled, weights, given, is_grads_batched=True, retain_graph=True)
    for i in range(3):
        one = torch.autograd.grad(pooled, weights, given[i], retain_graph=True)
        for gradient, many in zip(one, at_once, strict=True):
            torch.testing.assert_close(many[i], gradient)

    def summed(*weights: Tensor) -> Tensor:
        return double_conv(images, *weights).square().sum()

    assert torch.autograd.gradcheck(summed, weights, check_forward_ad=True)


def test_gradients_of_each_example_by_torch_func() -> None:
    images, (_, *others) = inputs()
    weight = inputs()[1][0].detach()

    def loss(weight: Tensor, example: Tensor) -> Tensor:
        return double_conv(example[None], weight, *others).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight, images)
    weight.requires_grad_()
    for gradient, example in zip(each, images, strict=True):
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


@pytest.mark.parametrize(
    "net", [KerasCNN(), FastCNN(), EnsembleCNN([KerasCNN()])], ids=lambda net: type(net).__name__
)
def test_the_loops_are_loaded_for_the_nets_that_use_them(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bool] = []
    monkeypatch.setattr(module, "load", lambda: loaded.append(True))
    load_kernels(net)
    assert loaded
    loaded.clear()
    load_kernels(RecordCNN())
    assert not loaded


def test_it_is_part_of_the_keras_net() -> None:
    seen: list[bool] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            node = x.grad_fn
            while node is not None and "DoubleConv" not in type(node).__name__:
                node = node.next_functions[0][0] if node.next_functions else None
            seen.append(node is not None)
            return x

    net = KerasCNN()
    net.conv_dropout = Spy()  # type: ignore[assignment]
    net(torch.rand(2, 1, 28, 28))
    assert seen == [True]
