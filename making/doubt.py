"""Trains the small net that says whether an image is of a digit at all.

It sees MNIST's training images, changed by many pens, and as many images that are no digits, all
made here: letters and signs of fonts and of strokes, digits mirrored or turned, two digits in one
image, scribbles, blobs, silhouettes. Nothing that anybody drew or photographed to test it is among
them. Takes some ten minutes on two cores.

    python -m making.doubt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from making import images as made
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.nets import RecordCNN
from mnist_cnn.training.augment import Compose, RandomAffine
from mnist_cnn.training.pens import RandomPen
from mnist_cnn.use.judge import FILTERS, WEIGHTS

HELD_OUT = 5_000  # training images that it is not trained on
EPOCHS, BATCH, RATE = 3, 256, 3e-3


def main() -> None:
    """Train, save, and print how many images that it has not seen it takes for digits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=40_000, help="no digits made (%(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="(%(default)s)")
    args = parser.parse_args()
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    data = MNISTDataModule()
    data.prepare_data()
    data.setup()
    images, labels = data.train_set.images, data.train_set.labels
    digits, held_out = images[:-HELD_OUT], images[-HELD_OUT:]
    none = made.no_digits(args.count, digits, labels[:-HELD_OUT], rng)
    printed, _ = made.digits(args.count // 8, rng)
    seen = torch.cat([digits, printed, none])
    targets = torch.cat([torch.ones(len(digits) + len(printed)), torch.zeros(len(none))]).long()
    net = RecordCNN(FILTERS, num_classes=2).to(memory_format=torch.channels_last)
    change = Compose([RandomAffine(12, 2, scale=0.15, shear=0.15, bend=0.8), RandomPen(share=0.7)])
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02)
    steps = args.epochs * (len(seen) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for step in range(steps):
        batch = torch.randint(len(seen), (BATCH,))
        changed = change(seen[batch], torch.tensor(step * 1_000_003), first_row=0)
        logits = net(changed.unsqueeze(1) / 255)
        loss = F.cross_entropy(logits, targets[batch], label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", flush=True)
    net.eval()
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, args.out)
    others = made.no_digits(2_000, held_out, labels[-HELD_OUT:], rng)
    with torch.inference_mode():
        for name, images in (("digits", held_out), ("no digits", others)):
            likely = [net(part.unsqueeze(1) / 255).softmax(dim=1) for part in images.split(500)]
            taken = (torch.cat(likely)[:, 1] > 0.5).float().mean()
            print(f"{name} that it has not seen, taken for digits: {taken:.2%}")


if __name__ == "__main__":
    main()
