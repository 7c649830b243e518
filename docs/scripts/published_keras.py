"""Write ``tb_logs/published-keras``: the published Keras run, as TensorBoard shows it.

    python -m docs.scripts.published_keras

The twelve epochs stand on the same axes, under the same names, as the runs of this project.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from mnist_cnn.reports.curves import CURVES

FOLDER = Path(__file__).parents[2] / "tb_logs" / "published-keras"
IMAGES, STEPS = 60_000, 469  # an epoch
SECONDS = (143, 134, 137, 136, 136, 136, 134, 124, 139, 138, 135, 137)
# (train/loss, train/accuracy, val/loss, val/accuracy) of each epoch
EPOCHS = (
    (0.2597, 0.9212, 0.0696, 0.9782),
    (0.0863, 0.9745, 0.0420, 0.9861),
    (0.0654, 0.9804, 0.0380, 0.9867),
    (0.0550, 0.9830, 0.0360, 0.9873),
    (0.0471, 0.9859, 0.0303, 0.9902),
    (0.0414, 0.9873, 0.0289, 0.9910),
    (0.0382, 0.9883, 0.0292, 0.9897),
    (0.0335, 0.9897, 0.0298, 0.9903),
    (0.0319, 0.9900, 0.0267, 0.9913),
    (0.0297, 0.9909, 0.0281, 0.9913),
    (0.0273, 0.9914, 0.0281, 0.9914),
    (0.0264, 0.9918, 0.0304, 0.9899),
)


def main() -> None:
    """Write the event file anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    with SummaryWriter(FOLDER) as writer:
        time = 0.0  # seconds since the run began: TensorBoard's relative axis
        for epoch, (seconds, figures) in enumerate(zip(SECONDS, EPOCHS, strict=True), start=1):
            time += seconds
            for tag, value in zip(CURVES, figures, strict=True):
                writer.add_scalar(tag, value, epoch * STEPS - 1, time)  # as Lightning counts
                writer.add_scalar(f"over_epochs/{tag}", value, epoch, time)
                writer.add_scalar(f"over_images/{tag}", value, epoch * IMAGES, time)
            rate = IMAGES / seconds
            writer.add_scalar("train/images_per_second", rate, epoch * STEPS, time)
    (file,) = FOLDER.iterdir()
    file.rename(FOLDER / "events.out.tfevents.0.published-keras")


if __name__ == "__main__":
    main()
