"""KerasCNN is the Keras stack: compared with the same stack written out plainly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torchvision.models.feature_extraction import create_feature_extractor

from mnist_cnn import EnsembleCNN, FastCNN, KerasCNN, RecordCNN
from mnist_cnn.checkpoints.files import described_model
from mnist_cnn.errors import UserError
from mnist_cnn.nets import SequentialCNN, describe, logits_over_shifts, make_net
from mnist_cnn.nets.fast_cnn import Upright


def plain_stack(net: KerasCNN, x: Tensor) -> Tensor:
    """Layer by layer as in Keras: rectify, then pool; flatten height, width, channels."""
    x = F.conv2d(x, net.conv1.weight, net.conv1.bias).clamp(min=0)
    x = F.conv2d(x, net.conv2.weight, net.conv2.bias).clamp(min=0)
    x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(-1, -2))
    x = torch.stack([image.movedim(0, -1).reshape(-1) for image in x])
    x = (x @ net.dense1.weight.T + net.dense1.bias).clamp(min=0)
    return x @ net.dense2.weight.T + net.dense2.bias


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_computes_the_keras_stack_and_its_gradient(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    net = KerasCNN().double().eval().to(memory_format=memory_format)
    for parameter in net.parameters():  # biases too
        nn.init.normal_(parameter, std=0.05)
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64).to(memory_format=memory_format)
    gradients = []
    for function in (net, lambda x: plain_stack(net, x)):
        logits = function(x)
        (logits * torch.arange(10)).sum().backward()
        gradients.append([logits, *(p.grad for p in net.parameters())])
        net.zero_grad()
    for ours, plain in zip(*gradients, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


def test_it_has_as_many_weights_as_the_keras_model() -> None:
    # Keras's model.summary(): 320 + 18,496 + 1,179,776 + 1,290
    assert sum(p.numel() for p in KerasCNN().parameters()) == 1_199_882


def test_its_initial_weights_are_keras_s() -> None:
    torch.manual_seed(0)
    net = KerasCNN()
    # Glorot-uniform: ±sqrt(6 / (fan_in + fan_out)), fans of a convolution times its 9 places
    fans = {
        "conv1": 9 * (1 + 32),
        "conv2": 9 * (32 + 64),
        "dense1": 9216 + 128,
        "dense2": 128 + 10,
    }
    for name, fan in fans.items():
        layer: Any = net.get_submodule(name)
        bound = math.sqrt(6 / fan)
        assert bound * 0.95 < float(layer.weight.detach().abs().max()) <= bound
        assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert not layer.bias.detach().any()


def test_dropout_is_in_keras_s_places() -> None:
    net = KerasCNN(conv_dropout=0.25, dense_dropout=0.5)
    sizes = {}
    for name in ("conv_dropout", "dense_dropout"):
        layer = net.get_submodule(name)
        layer.register_forward_hook(lambda _, x, __, name=name: sizes.update({name: x[0].shape}))
    net(torch.zeros(2, 1, 28, 28))
    assert sizes == {"conv_dropout": (2, 9216), "dense_dropout": (2, 128)}
    assert (net.conv_dropout.p, net.dense_dropout.p) == (0.25, 0.5)


def test_its_shape_can_be_chosen() -> None:
    assert KerasCNN((4, 6), hidden=5, num_classes=3)(torch.zeros(2, 1, 28, 28)).shape == (2, 3)


def test_logits_over_shifts_are_of_the_mean_of_five_probabilities() -> None:
    torch.manual_seed(0)
    net, x = FastCNN(), torch.zeros(3, 1, 28, 28)
    x[:, :, 8:20, 8:20] = torch.rand(3, 1, 12, 12)
    assert torch.equal(logits_over_shifts(net, x, 0), net(x))
    moves = [(0, 0), (2, 0), (-2, 0), (0, 2), (0, -2)]  # the ink does not reach the edge
    mean = sum(net(x.roll(move, (2, 3))).softmax(dim=1) for move in moves) / 5
    torch.testing.assert_close(logits_over_shifts(net, x, 2).softmax(dim=1), mean)


def test_the_record_net_is_what_its_docstring_says() -> None:
    torch.manual_seed(0)
    net, x = RecordCNN().train(), torch.rand(6, 1, 28, 28)
    assert sum(p.numel() for p in net.parameters()) == 280_682
    convolutions = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [weight.shape[-1] for weight in convolutions] == [5, 3, 3, 3, 3]

    def normalised(x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), keepdim=True, correction=0)
        return ((x - mean) / (variance + 1e-5).sqrt()).clamp(min=0)

    pooled = F.max_pool2d(F.conv2d(x, convolutions[0]), 2)
    y = normalised(F.conv2d(normalised(pooled), convolutions[1], padding=1))
    y = F.max_pool2d(y + normalised(F.conv2d(y, convolutions[2], padding=1)), 2)
    y = normalised(F.conv2d(y, convolutions[3], padding=1))
    y = y + normalised(F.conv2d(y, convolutions[4], padding=1))
    y = net.dense(torch.cat([y.flatten(2).max(dim=2).values, y.flatten(2).mean(dim=2)], dim=1))
    torch.testing.assert_close(net(x), y, rtol=1e-4, atol=1e-4)


def test_an_ensemble_averages_probabilities() -> None:
    torch.manual_seed(0)
    nets: list[nn.Module] = [KerasCNN((4, 8), hidden=16), FastCNN((4, 8), hidden=16)]
    x = torch.rand(5, 1, 28, 28)
    ensemble = EnsembleCNN(nets).eval()
    mean = sum(net(x).softmax(dim=1) for net in nets) / 2
    torch.testing.assert_close(ensemble(x).softmax(dim=1), mean)
    again = make_net(describe(ensemble)).eval()
    again.load_state_dict(ensemble.state_dict())
    assert torch.equal(again(x), ensemble(x))
    with pytest.raises(ValueError, match="has to be a net"):
        EnsembleCNN([])


def test_only_nets_of_this_project_are_made_from_a_description() -> None:
    evil = {"class_path": "torch.nn.Linear", "init_args": {}}
    for net in (evil, {"class_path": "mnist_cnn.nets.EnsembleCNN", "init_args": {"nets": [evil]}}):
        with pytest.raises(UserError):
            make_net(net)
        assert described_model({"hyper_parameters": {"net": net}}) is None


def test_a_border_is_cut_off() -> None:
    net, x = FastCNN(border=2), torch.rand(3, 1, 28, 28)
    assert net.dense1.in_features == 32 * 4 * 4
    framed = F.pad(x[:, :, 2:-2, 2:-2], [2] * 4, value=1.0)
    assert torch.equal(net(x), net(framed))  # what the border holds does not matter
    x[:, :, 2, 2] += 1  # and what lies next to it does
    assert not torch.equal(net(x), net(framed))
    whole = FastCNN()
    assert whole.dense1.in_features == 32 * 5 * 5
    for border in (1, 3, 7):
        assert FastCNN(border=border)(x).shape == (3, 10)
    with pytest.raises(ValueError, match="from 0 to 7"):
        FastCNN(border=8)
    with pytest.raises(UserError, match="upright is 2"):
        FastCNN(upright=2)


@pytest.mark.parametrize("lean", [-0.6, 0.3, 0.6])
def test_a_line_that_leans_is_set_upright(lean: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    inside = (rows > 5) & (rows < 22)
    line = ((1.5 - (columns - 13 - lean * (rows - 16)).abs()).clamp(0, 1) * inside)[None, None]
    straight = Upright(share=1, border=2)(line)
    assert straight.shape == (1, 1, 24, 24)
    widths = (straight > 0.3).any(dim=2).sum(), (line > 0.3).any(dim=2).sum()
    assert widths[0] <= 5 < widths[1]
    half = Upright(share=0.5, border=2)(line)
    assert widths[0] < (half > 0.3).any(dim=2).sum() < widths[1]
    moved = Upright(share=1, border=2)(line.roll((2, -1), dims=(2, 3)))
    assert torch.allclose(moved, straight.roll((2, -1), dims=(2, 3)), atol=1e-4)


def test_what_has_no_slant_stays_as_it_is() -> None:
    blank, bar, level = torch.zeros(3, 1, 28, 28)
    bar[:, 4:24, 12:15] = level[:, 12, 4:24] = 1
    images = torch.stack([blank, bar, level])
    assert torch.allclose(Upright(share=1, border=0)(images), images, atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [((3, 3), (3, 3)), ((4, 2), (3, 1)), ((5, 5), (2, 2))])
def test_same_average_pooling_is_the_mean_of_the_pixels_in_the_image(
    size: tuple[int, int], stride: tuple[int, int]
) -> None:
    """As TensorFlow does it, whose padding is uneven: by NumPy, window for window."""
    layer = {"avg_pool": list(size), "stride": list(stride), "padding": "same"}
    x = torch.rand(2, 1, 28, 28)
    found = SequentialCNN([layer])(x)
    rows, columns = ([*range(0, 28, step)] for step in stride)
    before = [
        max((-(-28 // s) - 1) * s + k - 28, 0) // 2 for k, s in zip(size, stride, strict=True)
    ]
    expected = [
        [
            x[:, 0, max(r - before[0], 0) : r - before[0] + size[0]][
                :, :, max(c - before[1], 0) : c - before[1] + size[1]
            ]
            .numpy()
            .mean(axis=(1, 2))
            for c in columns
        ]
        for r in rows
    ]
    np.testing.assert_allclose(found[:, 0].permute(1, 2, 0), expected, rtol=0, atol=1e-6)


def test_a_layer_that_does_not_fit_is_a_line() -> None:
    for layer, words in (
        ({"conv": 2, "padding": "sme"}, "sme"),
        ({"dense": 10}, "flatten comes first"),
        ({"max_pool": [2, 2], "padding": "some"}, "some"),
        ({"global_pool": "mean"}, "mean"),
    ):
        with pytest.raises(UserError, match=rf"layer 1, .*{words}"):
            SequentialCNN([layer])


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("make", [KerasCNN, FastCNN])
def test_hooks_of_one_layer_keep_what_it_takes(make: type[nn.Module], bf16: bool) -> None:
    x = torch.rand(4, 1, 28, 28)
    for name in dict(make().named_children()):
        kept: list[Tensor] = []
        net = make()
        layer = net.get_submodule(name)
        layer.register_forward_pre_hook(lambda _, x, to=kept: to.extend((x[0], x[0].clone())))
        layer.register_full_backward_hook(lambda *a, to=kept: to.append(a[2][0]))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            net(x).sum().backward()
        assert torch.equal(kept[0], kept[1]), name
        assert len(kept) == 3, name


@pytest.mark.parametrize("make", [KerasCNN, FastCNN])
def test_hooks_that_are_gone_or_of_all_modules_keep_what_they_saw(make: type[nn.Module]) -> None:
    net, x = make(), torch.rand(4, 1, 28, 28)
    kept: list[tuple[Tensor, Tensor]] = []
    handles: list[Any] = []

    def keep_once(seen: Tensor) -> None:
        kept.append((seen, seen.clone()))
        handles.pop().remove()

    for layer in net.children():
        handles.append(layer.register_forward_pre_hook(lambda _, given: keep_once(given[0])))
        net(x)
        handles.append(layer.register_forward_hook(lambda *a: keep_once(a[2])))
        net(x)
    assert not handles
    everywhere = register_module_forward_hook(lambda *a: kept.append((a[2], a[2].clone())))
    try:
        net(x)
    finally:
        everywhere.remove()
    assert len(kept) > 2 * len(list(net.children()))
    assert all(torch.equal(*pair) for pair in kept)


@pytest.mark.parametrize("make", [KerasCNN, FastCNN, RecordCNN])
def test_hooks_keep_what_a_layer_gave_and_its_gradient(make: type[nn.Module]) -> None:
    """Also where what follows is written over a layer's output."""
    torch.manual_seed(0)
    net, x = make(), torch.rand(4, 1, 28, 28)
    layers = {name: layer for name, layer in net.named_modules() if not list(layer.children())}
    expected = net(x)
    kept: dict[str, Tensor] = {}
    copied: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, given, output, name=name: kept.update({name: output}))
        layer.register_forward_hook(lambda *a, name=name: copied.update({name: a[2].clone()}))
        layer.register_full_backward_hook(lambda *a, name=name: gradients.update({name: a[2][0]}))
    found = net(x)
    found.sum().backward()
    assert kept.keys() == copied.keys() == gradients.keys() == layers.keys()
    for name in layers:
        assert torch.equal(kept[name], copied[name]), name
    if make is FastCNN:  # the others draw
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "surgery",
    [
        {"padding": 1},
        {"dilation": 2},
        {"stride": 2},
        {"kernel_size": (2, 3)},
        {"padding": "same"},
        {"bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("which", ["conv1", "conv2"])
def test_other_convolutions_may_take_their_places(which: str, surgery: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net, x = KerasCNN(conv_dropout=0, dense_dropout=0), torch.rand(4, 1, 28, 28)
    old = net.get_submodule(which)
    assert isinstance(old, nn.Conv2d)
    settings = {"kernel_size": 3, **surgery}
    new = nn.Conv2d(old.in_channels, old.out_channels, **settings)
    setattr(net, which, new)
    hidden = F.relu(net.conv2(F.relu(net.conv1(x))))
    features = F.max_pool2d(hidden, 2).permute(0, 2, 3, 1).flatten(1)
    net.dense1 = nn.Linear(features.shape[1], 128)
    expected = net.dense2(F.relu(net.dense1(features)))
    found = net(x)
    torch.testing.assert_close(found, expected)
    weights = list(net.parameters())
    for ours, plain in zip(
        torch.autograd.grad(found.square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


def test_layers_that_are_more_than_convolutions_do_all_that_they_do() -> None:
    torch.manual_seed(0)
    net, x = KerasCNN(conv_dropout=0, dense_dropout=0), torch.rand(4, 1, 28, 28)
    before = net(x)

    class Doubled(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    doubled = Doubled(1, 32, 3)
    doubled.load_state_dict(net.conv1.state_dict())
    net.conv1, plain = doubled, net.conv1
    twice = net(x)
    net.conv1 = plain
    plain.forward = lambda input: 2 * nn.Conv2d.forward(plain, input)  # type: ignore[method-assign]
    assert torch.equal(net(x), twice)
    assert not torch.allclose(before, twice)


def test_torch_fx_sees_the_layers() -> None:
    net, x = KerasCNN(conv_dropout=0, dense_dropout=0), torch.rand(4, 1, 28, 28)
    features = create_feature_extractor(net, ["conv1", "conv2", "dense2"])(x)
    assert features["conv1"].shape == (4, 32, 26, 26)
    assert features["conv2"].shape == (4, 64, 24, 24)
    torch.testing.assert_close(features["dense2"], net(x))
