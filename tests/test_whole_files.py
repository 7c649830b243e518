"""A full disk is told in the system's words, and takes nothing that was there."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_cnn.checkpoints.atomic import AtomicCheckpointIO
from mnist_cnn.data_sets.files import SHA256, prepare_mnist
from mnist_cnn.file_system.whole import UnwritableError, on_disk, write_whole
from mnist_cnn.use.tables import write_table

WRITERS: dict[str, Callable[[Path], object]] = {
    "last.ckpt": lambda path: AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(9)}, path),
    "answers.csv": lambda path: write_table(path, [{"index": 0}], torch.full((1, 10), 0.1)),
    "answers.json": lambda path: write_table(path, [{"index": 0}], torch.full((1, 10), 0.1)),
    "any": lambda path: write_whole(path, b"new"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_what_was_there_stays(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old")
    path.with_name(f".{name}.tmp").symlink_to("/dev/full")
    with pytest.raises(UnwritableError) as error:
        WRITERS[name](path)
    assert f"{path}: cannot be written: No space left on device in {tmp_path}: " in str(error.value)
    assert re.search(r"MB are free, \d+\.\d [kM]B are needed$", str(error.value))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_data_folder_ends_the_search_for_mnist(tmp_path: Path, mnist_root: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    *there, missing = (mnist_root / "MNIST" / "raw" / name for name in SHA256)
    for file in there:
        (raw / file.name).symlink_to(file)
    (raw / f"{missing.name}.gz").write_bytes(gzip.compress(missing.read_bytes()))
    (raw / f".{missing.name}.tmp").symlink_to("/dev/full")
    with pytest.raises(UnwritableError, match=f"{missing.name}: cannot be written: No space left"):
        prepare_mnist(tmp_path)


def test_logs_on_a_full_disk_are_named_by_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    def log() -> None:
        thread = threading.Thread(target=write)  # like an event file's, which hands its error on
        thread.start()
        thread.join()
        write()

    shown: list[object] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    (tmp_path / "events").write_bytes(bytes(2_500_000))
    words = f"{tmp_path}: cannot be written: No space left on device in {tmp_path}: .* free, the "
    words += r"run's files have 2\.5 MB so far"
    with pytest.raises(UnwritableError, match=words), on_disk(tmp_path):
        log()
    assert shown == []
    with pytest.raises(FileNotFoundError), on_disk(tmp_path):
        (tmp_path / "missing").read_text()
