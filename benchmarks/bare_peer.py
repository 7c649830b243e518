"""This project's training in a plain loop: what its trainer, metrics, logs and checkpoints cost.

    python -m benchmarks.bare_peer --seed 1

The net, dropout masks, batches and optimizer are those of ``python -m mnist_cnn fit --config
configs/cnn.yaml``, so the weights are the same; there is nothing else.
"""

from __future__ import annotations

import os
from itertools import islice

os.environ["GOMP_SPINCOUNT"] = "10000"  # as the command line has it; read when torch is loaded

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import peers
from benchmarks.torch_peer import Batches, test
from mnist_cnn import Adadelta, KerasCNN, MNISTDataModule
from mnist_cnn.__main__ import keep_freed_memory
from mnist_cnn.training.global_batches import GlobalBatchSampler
from mnist_cnn.training.randomness import keyed_dropout, step_keys

CPU = torch.device("cpu")


def as_input(images: Tensor) -> Tensor:  # (B, 28, 28) uint8 → (B, 1, 28, 28) in [0, 1]
    """Images as the net takes them."""
    return images.unsqueeze(1).to(torch.float32, memory_format=torch.channels_last) / 255


def main() -> None:
    """Train, validate, print."""
    args = peers.options(__doc__).parse_args()
    keep_freed_memory()
    data = MNISTDataModule(args.data)
    data.setup()
    torch.manual_seed(args.seed)
    net = KerasCNN().to(memory_format=torch.channels_last)
    optimizer = Adadelta(net.parameters(), lr=1.0, rho=0.95, eps=1e-7)
    batches = GlobalBatchSampler(data.train_set, peers.BATCH_SIZE, shuffle=True, seed=args.seed)
    tests = GlobalBatchSampler(data.test_set, peers.BATCH_SIZE, shuffle=False)

    def train(epoch: int) -> float:
        total_loss, seen = torch.zeros(()), 0
        net.train()
        batches.set_epoch(epoch)
        for step, share in enumerate(islice(batches, args.steps)):
            batch = data.train_set[share]
            keys = step_keys(args.seed, epoch, step, layers=2, device=CPU)
            with keyed_dropout(net, keys[1:], first_row=0):
                loss = F.cross_entropy(net(as_input(batch.images)), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total_loss += loss.detach() * len(batch.labels)
            seen += len(batch.labels)
        return float(total_loss) / seen

    def test_batches() -> Batches:
        for share in islice(tests, args.steps):
            batch = data.test_set[share]
            yield as_input(batch.images), batch.labels

    peers.run(args.epochs, train, lambda: test(net, test_batches()))


if __name__ == "__main__":
    main()
