"""The stock net in a plain loop on a GPU, the data on it: a step at a time, or recorded as one.

    python -m benchmarks.gpu_peer --record --precision bf16 --epochs 3

Of this project only `mnist_cnn.training.recorded` is in it. Prints a JSON line an epoch: seconds of
the training (train_s), loss.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_cnn.training.recorded import Recorded


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=469)
    parser.add_argument("--raw", type=Path, default=Path("data/MNIST/raw"))
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="tf32")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.allow_tf32 = args.precision == "tf32"

    def read(name: str, offset: int) -> Tensor:
        content = bytearray((args.raw / f"train-{name}-ubyte").read_bytes())
        return torch.frombuffer(content, dtype=torch.uint8, offset=offset).to(device)

    images, labels = read("images-idx3", 16).view(-1, 1, 28, 28), read("labels-idx1", 8).long()
    net = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()),
        *(nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
    ).to(device)
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
    for epoch in range(1, args.epochs + 1):
        start = perf_counter()
        batches = torch.randperm(len(images), device=device).split(128)[: args.steps]
        if args.record and epoch == 1:
            step(batches[0])  # the optimizer has its state
            take = Recorded(step, state)
            for size in {len(batch): batch for batch in batches}.values():
                take.prove([(size,), (size.flip(0) // 2,)])
        total = torch.zeros((), device=device)
        for batch in batches:
            total += take(batch)
        loss = float(total) / len(batches)  # waits for the device
        print(json.dumps({"epoch": epoch, "train_s": perf_counter() - start, "loss": loss}))


if __name__ == "__main__":
    main()
