"""Draw ``docs/wrong.png``: the test images that a model reads wrongly, and print them as a table.

    python -m docs.scripts.wrong [CHECKPOINT]

Without a checkpoint: the model that is included.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from mnist_cnn import MNISTDataModule
from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.checkpoints.files import BUNDLED
from mnist_cnn.use.export import BATCH

COLUMNS = 8


def main(checkpoint: Path) -> None:
    """Draw and print."""
    data = MNISTDataModule()
    data.prepare_data()
    data.setup()
    images, labels = data.test_set.images, data.test_set.labels
    model, _ = load_classifier(checkpoint)
    with torch.inference_mode():
        probabilities = torch.cat([model(batch).softmax(dim=1) for batch in images.split(BATCH)])
    confidence, answers = probabilities.max(dim=1)
    mistakes = (answers != labels).nonzero().flatten()
    wrong = mistakes[confidence[mistakes].argsort(descending=True)].tolist()
    print(f"{len(wrong)} of {len(labels)} wrong: accuracy {1 - len(wrong) / len(labels):.4f}\n")
    print("| image | label | answer | confidence |\n|---|---|---|---|")
    rows = -(-len(wrong) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(COLUMNS * 1.3, rows * 1.6), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, index in zip(axes.flat, wrong, strict=False):
        label, answer, sure = int(labels[index]), int(answers[index]), float(confidence[index])
        print(f"| {index} | {label} | {answer} | {sure:.2f} |")
        axis.imshow(255 - images[index], cmap="gray", vmin=0, vmax=255)
        axis.set_title(f"{label}, read as {answer}\n{sure:.0%}", fontsize=8)
    figure.tight_layout()
    figure.savefig(Path(__file__).parents[1] / "wrong.png", dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else BUNDLED)
