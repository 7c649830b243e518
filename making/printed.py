"""Makes digits that MNIST's writers did not write, for `configs/pictures.yaml` to train on as well.

In the fonts that come with matplotlib, and as strokes of a pen: see making/images.py.
Takes a minute.

    python -m making.printed # writes data/printed.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from making import images as made


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=12_000, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("data/printed.npz"), help="(%(default)s)")
    args = parser.parse_args()
    images, labels = made.digits(args.count, np.random.default_rng(1))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, images=images.numpy(), labels=labels.numpy())
    print(f"{len(images)} digits: {args.out}")


if __name__ == "__main__":
    main()
