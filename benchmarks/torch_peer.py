"""Three trainings in plain PyTorch. Nothing of this project but `Recorded` is in them.

    python -m benchmarks.torch_peer example --seed 1
    python -m benchmarks.torch_peer public
    python -m benchmarks.torch_peer gpu --record --precision bf16 --epochs 3

example  The Keras run as the official example of MNIST trains (https://github.com/pytorch/examples):
         torchvision's transforms image by image, a DataLoader, tests in batches of 1000.
public   The fastest way to 99 % of MNIST that is known for plain PyTorch: 24C5-pool2-relu,
         32C3-pool2-relu, 256-relu, 10; Adam with a learning rate that rises to 0.01 and falls in
         one epoch of batches of 256 (https://github.com/tuomaso/train_mnist_fast, whose author
         gives a mean of 0.9904). The images are floats in memory, normalised and shuffled before
         the clock starts, so there is no loader to wait for.
gpu      The Keras run on a GPU, the data on it: a step at a time, or recorded as one. No test.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks import peers

Batches = Iterable[tuple[Tensor, Tensor]]  # images (B, 1, 28, 28), labels (B,)
CONSTANTS = (0.1307,), (0.3081,)  # mean and deviation of MNIST's pixels


def keras_net() -> nn.Sequential:
    """The net of the Keras run: (B, 1, 28, 28) → logits (B, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()),
        *(nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
    )


def loaders(
    args: argparse.Namespace, *transform: Any, test_batch_size: int, workers: int = 0
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Training and test images, transformed one by one."""
    all_of_them = transforms.Compose([transforms.ToTensor(), *transform])
    train_set, test_set = (
        datasets.MNIST(args.data, train=part, transform=all_of_them) for part in (True, False)
    )
    more: Any = {"num_workers": workers, "persistent_workers": workers > 0}
    return (
        DataLoader(train_set, batch_size=peers.BATCH_SIZE, shuffle=True, **more),
        DataLoader(test_set, batch_size=test_batch_size, **more),
    )


def train(net: nn.Module, batches: Batches, optimizer: torch.optim.Optimizer) -> float:
    """Train on each batch; return the mean loss."""
    net.train()
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def test(net: nn.Module, batches: Batches) -> float:
    """Return the accuracy."""
    net.eval()
    with torch.no_grad():
        return torch.cat([net(x).argmax(dim=1) == y for x, y in batches]).float().mean().item()


def example(args: argparse.Namespace) -> None:
    """Train as the official example does."""
    batches, tests = loaders(args, transforms.Normalize(*CONSTANTS), test_batch_size=1000)
    net = keras_net()
    optimizer = torch.optim.Adadelta(net.parameters(), lr=1.0, rho=0.95, eps=1e-7)
    peers.run(
        args.epochs,
        lambda epoch: train(net, islice(batches, args.steps), optimizer),
        lambda: test(net, islice(tests, args.steps)),
    )


def public(args: argparse.Namespace) -> None:
    """Train the public record net."""

    def read(train: bool, size: int) -> list[tuple[Tensor, Tensor]]:
        data = datasets.MNIST(args.data, train=train)
        order = torch.randperm(len(data))
        images = transforms.Normalize(*CONSTANTS)(data.data[order].unsqueeze(1) / 255)
        return list(zip(images.split(size), data.targets[order].split(size), strict=True))

    batches, tests = read(True, 256), read(False, 2000)
    net = nn.Sequential(
        *(nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.7, 0.9))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.01, total_steps=args.epochs * len(batches), cycle_momentum=False
    )
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    peers.run(
        args.epochs,
        lambda epoch: train(net, batches[: args.steps], optimizer),
        lambda: test(net, tests[: args.steps]),
    )


def gpu(args: argparse.Namespace) -> None:
    """Train on a GPU, step by step or recorded."""
    from mnist_cnn.training.recorded import Recorded

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    mnist = datasets.MNIST(args.data)
    images, labels = mnist.data.unsqueeze(1).to(device), mnist.targets.to(device)
    net = keras_net().to(device)
    optimizer = torch.optim.Adadelta(
        net.parameters(), lr=1.0, eps=1e-7, capturable=device.type == "cuda"
    )
    bf16 = torch.autocast(device.type, torch.bfloat16, cache_enabled=False)

    def step(indices: Tensor) -> Tensor:
        with bf16 if args.precision == "bf16" else nullcontext():
            loss = F.cross_entropy(net(images[indices] / 255), labels[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def state() -> list[Tensor]:
        slots = [slot for of in optimizer.state.values() for slot in of.values()]
        return [*net.parameters(), *slots]

    take: Any = step

    def train(epoch: int) -> float:
        nonlocal take
        order = torch.randperm(len(images), device=device)
        batches = order.split(peers.BATCH_SIZE)[: args.steps]
        if args.record and epoch == 0:
            step(batches[0])  # the optimizer has its state
            take = Recorded(step, state)
            for size in {len(batch): batch for batch in batches}.values():
                take.prove([(size,), (size.flip(0) // 2,)])
        total = torch.zeros((), device=device)
        for batch in batches:
            total += take(batch)
        return float(total) / len(batches)  # waits for the device

    peers.run(args.epochs, train)


def main() -> None:
    """Train one, and print."""
    parser = peers.options(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("way", choices=("example", "public", "gpu"))
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="tf32")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    {"example": example, "public": public, "gpu": gpu}[args.way](args)


if __name__ == "__main__":
    main()
