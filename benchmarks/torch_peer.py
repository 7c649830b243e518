"""The classic net trained as the official PyTorch example of MNIST trains its own.

    python -m benchmarks.torch_peer --seed 1 --data data

That is (https://github.com/pytorch/examples, mnist): torchvision's transforms image by image, a
DataLoader, contiguous tensors, ``nn.Dropout``, a function that trains an epoch and prints as it
goes, one that tests in batches of 1000. Net, optimizer and batch size are those of the Keras run.
Nothing of this project. Prints a JSON line: seconds of the training (train_s) and with the test
(s), loss, val_accuracy.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import datasets, transforms


def train(
    model: nn.Module, loader: DataLoader[Any], optimizer: optim.Optimizer, steps: int | None
) -> float:
    """Train for an epoch, or for so many steps of it; return the mean loss."""
    model.train()
    total = batches = 0.0
    for i, (data, target) in enumerate(islice(loader, steps)):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), target)
        loss.backward()
        optimizer.step()
        total, batches = total + loss.item(), batches + 1
        if i % 10 == 0:
            print(f"Batch {i} of {len(loader)}, loss {loss.item():.6f}")
    return total / batches


def test(model: nn.Module, loader: DataLoader[Any], steps: int | None) -> float:
    """Return the accuracy."""
    model.eval()
    total = right = tested = 0.0
    with torch.no_grad():
        for data, target in islice(loader, steps):
            output = model(data)
            total += F.cross_entropy(output, target, reduction="sum").item()
            right += output.argmax(dim=1).eq(target).sum().item()
            tested += len(target)
    print(f"Test: loss {total / tested:.4f}, accuracy {right / tested:.4f}")
    return right / tested


def main() -> None:
    """Train an epoch, test, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of training, and of the test")
    parser.add_argument("--data", default="data", help="torchvision's folder of MNIST")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    to_tensor = [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    train_set, test_set = (
        datasets.MNIST(args.data, train=train, transform=transforms.Compose(to_tensor))
        for train in (True, False)
    )
    train_loader = DataLoader(train_set, batch_size=128, shuffle=True)
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()),
        *(nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
    )
    optimizer = optim.Adadelta(model.parameters(), lr=1.0, rho=0.95, eps=1e-7)

    start = perf_counter()
    loss = train(model, train_loader, optimizer, args.steps)
    trained = perf_counter()
    accuracy = test(model, DataLoader(test_set, batch_size=1000), args.steps)
    row = {"train_s": trained - start, "s": perf_counter() - start}
    print(json.dumps(row | {"loss": loss, "val_accuracy": accuracy}))


if __name__ == "__main__":
    main()
