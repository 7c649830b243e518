"""Where predictions go."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mnist_cnn.digits.files import Page, PictureBatch, name
from mnist_cnn.training.global_batches import Batch
from mnist_cnn.training.trainer_state import gather, log_dir

SHOWN = 50  # rows of a table in the terminal; the file has them all
SUFFIXES = (".csv", ".json")


class Predicted(NamedTuple):
    """What a rank has predicted of a batch."""

    probabilities: Tensor  # (B, 10)
    pages: list[Page]  # B, or none if these are the test images
    failures: list[str]


class PredictionWriter(Callback):
    """Writes predictions: index or file and page, digit, confidence, and all ten probabilities.

    Predictions of pictures are printed as a table as well, and those that cannot be used named.

    Args:
        path: Where to write, as CSV or JSON by its suffix; by default ``predictions.csv`` in the
            folder of the run's logs.

    Raises:
        ValueError: If the suffix is another.
    """

    def __init__(self, path: str | None = None) -> None:
        if path is not None and Path(path).suffix.lower() not in SUFFIXES:
            raise ValueError(f"--predictions.path {path}: must end in {' or '.join(SUFFIXES)}")
        self.path = path
        self.mine: list[Predicted] = []
        self.failures: list[str] = []  # of all ranks, known to the first, when all is done

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mine = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch | PictureBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        read = (batch.pages, batch.failures) if isinstance(batch, PictureBatch) else ([], [])
        self.mine.append(Predicted(outputs.cpu(), *read))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        by_rank = gather(trainer, self.mine)
        if not trainer.is_global_zero:
            return
        # The ranks' shares of a batch are consecutive rows of it.
        parts = [part for batch in zip(*by_rank, strict=True) for part in batch]
        probabilities = torch.cat([part.probabilities for part in parts])
        pages = [page for part in parts for page in part.pages]
        self.failures = [line for part in parts for line in part.failures]
        path = Path(self.path or (log_dir(trainer) or Path()) / "predictions.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        write = _write_json if path.suffix.lower() == ".json" else _write_csv
        write(temporary, _keys(probabilities, pages), probabilities)
        temporary.replace(path)
        if pages:
            print(*_table(probabilities, pages, path), sep="\n")
        print(f"{len(probabilities)} predictions: {path}", flush=True)
        for line in self.failures:
            print(f"error: {line}", file=sys.stderr)


def _keys(probabilities: Tensor, pages: list[Page]) -> list[dict[str, str | int]]:
    """What names each row."""
    if pages:
        return [{"file": page.file, "page": page.page} for page in pages]
    return [{"index": index} for index in range(len(probabilities))]


def _write_csv(path: Path, keys: list[dict[str, str | int]], probabilities: Tensor) -> None:
    names = list(keys[0]) if keys else ["file", "page"]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        classes = [f"p{digit}" for digit in range(probabilities.shape[1])]
        table.writerow([*names, "digit", "confidence", *classes])
        for key, row in zip(keys, probabilities, strict=True):
            figures = (f"{p:.6f}" for p in row.tolist())
            table.writerow([*key.values(), int(row.argmax()), f"{float(row.max()):.6f}", *figures])


def _write_json(path: Path, keys: list[dict[str, str | int]], probabilities: Tensor) -> None:
    rows = []
    for key, row in zip(keys, probabilities, strict=True):
        figures = [round(p, 6) for p in row.tolist()]
        answer = {"digit": int(row.argmax()), "confidence": max(figures)}
        rows.append(key | answer | {"probabilities": figures})
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f"[\n{lines}\n]\n" if rows else "[]\n", encoding="utf-8")


def _table(probabilities: Tensor, pages: list[Page], path: Path) -> list[str]:
    """Lines for the terminal."""
    names = [name(page) for page in pages[:SHOWN]]
    width = max(len(n) for n in names)
    classes = "".join(f"{digit:7}" for digit in range(probabilities.shape[1]))
    lines = [f"{'file':{width}}  digit  confidence{classes}"]
    for shown, row in zip(names, probabilities, strict=False):
        figures = "".join(f"{p:7.3f}" for p in row.tolist())
        lines.append(f"{shown:{width}}  {int(row.argmax()):5}  {float(row.max()):10.4f}{figures}")
    if len(pages) > SHOWN:
        lines.append(f"… and {len(pages) - SHOWN} more in {path}")
    return lines
