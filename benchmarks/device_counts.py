"""The device-count table: the losses of 20 steps on 1, 2, 3 and 4 CPU processes.

    python -m benchmarks.device_counts
    python -m benchmarks.device_counts --config configs/exact.yaml

Every run is the command-line program with configs/cnn.yaml: same seed, same global batch, dropout
on. Three processes do not divide 128, so theirs is compared with one process, both with 126. Flags
that this script does not know go to the program.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from benchmarks import programs
from benchmarks.records import markdown
from mnist_cnn.training.randomness import Dropout, keyed_dropout

#: (processes, global batch); each batch's first is the run that the others are compared with.
RUNS = ((1, 128), (2, 128), (4, 128), (1, 126), (3, 126))
STEPS, STEPS_OF_WEIGHTS = 20, 5


def train(
    devices: int, batch_size: int, steps: int, folder: Path, flags: list[str]
) -> tuple[Tensor, list[Tensor]]:
    """Losses (steps,) of the first training steps, and the weights after them."""
    flags = [
        *("--config", "configs/cnn.yaml"),
        *("--trainer.max_epochs=1", f"--trainer.limit_train_batches={steps}"),
        *("--trainer.limit_val_batches=1", "--trainer.log_every_n_steps=1"),
        *(f"--data.batch_size={batch_size}", "--trainer.enable_model_summary=false", *flags),
        "--trainer.logger.init_args.name=run",
        f"--trainer.logger.init_args.version={devices}x{batch_size}-{steps}",
    ]
    programs.run(programs.fit(*flags, logs=folder, devices=devices))
    logs = folder / "run" / f"{devices}x{batch_size}-{steps}"
    events = EventAccumulator(str(logs))
    events.Reload()
    losses = torch.tensor([e.value for e in events.Scalars("over_images/train/loss_of_step")])
    checkpoint = torch.load(logs / "checkpoints" / "last.ckpt", weights_only=True)
    weights = [value for name, value in checkpoint["state_dict"].items() if name.startswith("net.")]
    return losses, weights


def dropout_milliseconds(repeats: int = 30) -> tuple[float, float]:
    """Median time of a step's two dropout layers, forward: ``nn.Dropout``, and this project's."""
    shapes = (((128, 64, 12, 12), 0.25), ((128, 128), 0.5))
    inputs = [torch.randn(shape) for shape, _ in shapes]
    stock = nn.ModuleList(nn.Dropout(p) for _, p in shapes).train()
    ours = nn.ModuleList(Dropout(p) for _, p in shapes).train()
    seconds: dict[str, list[float]] = {"stock": [], "ours": []}
    for step in range(repeats):
        with keyed_dropout(ours, 1, 0, step, first_row=0, device=torch.device("cpu")):
            for name, layers in (("stock", stock), ("ours", ours)):
                start = time.perf_counter()
                for layer, x in zip(layers, inputs, strict=True):
                    layer(x)
                seconds[name].append(time.perf_counter() - start)
    return tuple(1000 * float(torch.tensor(s).median()) for s in seconds.values())  # type: ignore[return-value]


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    args, flags = parser.parse_known_args()
    columns: dict[tuple[int, int], Tensor] = {}
    weights: dict[tuple[int, int], list[Tensor]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for run in RUNS:
            columns[run], _ = train(*run, args.steps, Path(folder), flags)
            _, weights[run] = train(*run, STEPS_OF_WEIGHTS, Path(folder), flags)

    first = {batch: run for run in reversed(RUNS) for batch in run[1:]}
    loss = {r: float((columns[r] - columns[first[r[1]]]).abs().max()) for r in RUNS}
    weight = {
        r: max(
            float((a - b).abs().max())
            for a, b in zip(weights[r], weights[first[r[1]]], strict=True)
        )
        for r in RUNS
    }
    header = ["step", *(f"{d} x {b // d}" for d, b in RUNS)]
    rows = [
        *([f"{n + 1}", *(f"{columns[r][n]:.7f}" for r in RUNS)] for n in range(args.steps)),
        ["largest difference", *(f"{loss[r]:.1e}" for r in RUNS)],
        [f"weights after {STEPS_OF_WEIGHTS} steps", *(f"{weight[r]:.1e}" for r in RUNS)],
    ]
    print(markdown(header, rows))
    stock, ours = dropout_milliseconds()
    print(f"\nThe dropout of a step: nn.Dropout {stock:.1f} ms, this project's {ours:.1f} ms")


if __name__ == "__main__":
    main()
