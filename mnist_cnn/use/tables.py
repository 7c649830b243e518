"""Predictions as CSV and JSON files, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_cnn.errors import UserError
from mnist_cnn.file_system.whole import unwritable, write_whole

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".csv", ".json")
#: What becomes of bytes in a file's name that are no text: \\udce9, which JSON reads as they were.
NO_TEXT = "backslashreplace"
Keys = list[dict[str, Any]]


def check_suffix(flag: str, path: str) -> None:
    """Refuse a file of another kind.

    Raises:
        UserError: If it is neither CSV nor JSON by its suffix.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UserError(f"{flag} {path}: must end in {' or '.join(SUFFIXES)}")


def check_place(flag: str, path: str) -> None:
    """Refuse, before the work, a table that could not be written after it.

    Raises:
        UserError: If it is neither CSV nor JSON, or a folder, or there can be no file.
    """
    check_suffix(flag, path)
    if Path(path).is_dir():
        raise UserError(f"{flag} {path}: is a folder; name a file")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=Path(path).parent).close()
    except OSError as error:
        raise UserError(f"{flag} {unwritable(Path(path), error)}") from error


def write_table(
    path: Path,
    keys: Keys,
    probabilities: Tensor,
    names: Sequence[str] = (),
    more: Sequence[dict[str, Any]] = (),
) -> None:
    """Write a row for each prediction: what names it, digit, confidence, ten probabilities.

    Args:
        path: CSV or JSON by its suffix.
        keys: What names each of N rows; the same names in all.
        probabilities: (N, 10).
        names: Of the classes, for a column of their own: not those of digits.
        more: What else to say of each row, in the same columns; lists have room in JSON only.

    Raises:
        UnwritableError: If the file cannot be written.
    """
    if names:
        answers = probabilities.argmax(dim=1).tolist()
        keys = [key | {"class": names[i]} for key, i in zip(keys, answers, strict=True)]
    more = more or [{}] * len(keys)
    text = (_json if path.suffix.lower() == ".json" else _csv)(keys, probabilities, more)
    write_whole(path, text.encode("utf-8", errors=NO_TEXT))


def _csv(keys: Keys, probabilities: Tensor, more: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text)
    classes = [f"p{digit}" for digit in range(probabilities.shape[1])]
    added = [name for name, value in more[0].items() if not isinstance(value, list)]
    table.writerow([*keys[0], "digit", "confidence", *classes, *added])
    for key, row, others in zip(keys, probabilities, more, strict=True):
        answer = [int(row.argmax()), f"{float(row.max()):.6f}"]
        figures = [f"{p:.6f}" for p in row.tolist()]
        table.writerow([*key.values(), *answer, *figures, *(others[name] for name in added)])
    return text.getvalue()


def _json(keys: Keys, probabilities: Tensor, more: Sequence[dict[str, Any]]) -> str:
    rows = []
    for key, row, others in zip(keys, probabilities, more, strict=True):
        figures = [round(p, 6) for p in row.tolist()]
        answer = {"digit": int(row.argmax()), "confidence": max(figures)}
        whole = key | answer | {"probabilities": figures} | others
        rows.append(json.dumps(whole, ensure_ascii=False))
    return "[\n" + ",\n".join(rows) + "\n]\n"
