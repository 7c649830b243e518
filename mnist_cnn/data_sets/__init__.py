"""The data sets: MNIST, and those of its form that torchvision knows, in ten classes.

Each has files with published sums, a way to read them, and names of its classes. `files`
gets them. What torchvision knows of them is asked of it when it is needed.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mnist_cnn.errors import UserError

#: SHA-256 of each uncompressed file of MNIST; torchvision has MD5 sums of the .gz.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
DIGITS = [str(digit) for digit in range(10)]


class DataSet:
    """A data set in four ``.gz`` files, at torchvision's mirrors.

    Args:
        torchvision: The name of torchvision's class, and of the folder.
        keras: The name of the files' folder in Keras's cache, if Keras has the data set.
    """

    def __init__(self, torchvision: str, keras: str | None = None) -> None:
        self.name, self.keras = torchvision, keras

    @property
    def torchvisions(self) -> Any:
        """The class of torchvision's."""
        from torchvision import datasets  # a second, for who asks for no data

        return getattr(datasets, self.name)

    def folder(self, data_dir: str | Path) -> Path:
        """Where the files are put, which is where torchvision looks for them."""
        return Path(data_dir, self.name, "raw")

    @property
    def resources(self) -> list[tuple[str, str]]:
        """URL and MD5 of each file that is downloaded, or its name at each of the mirrors."""
        return list(self.torchvisions.resources)

    @property
    def mirrors(self) -> list[str]:
        """What a file's name is appended to."""
        folders = dict.fromkeys(url.rpartition("/")[0] for url, _ in self.resources)
        return [f"{folder}/" for folder in folders if folder] or list(self.torchvisions.mirrors)

    @property
    def sums(self) -> dict[str, str]:
        """By its name, the sum that each file must have: an MD5 or SHA-256."""
        return {url.rpartition("/")[2]: md5 for url, md5 in self.resources}

    def unpacked(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        """Name and content of each file that torchvision reads, from those that are verified."""
        for name in self.sums:
            yield name.removesuffix(".gz"), gzip.decompress((folder / name).read_bytes())

    def read(self, data_dir: str, train: bool) -> tuple[Any, Any]:
        """Images (N, 28, 28) uint8, ink bright on dark, and labels (N,) int64, as tensors."""
        found = self._open(data_dir, train=train)
        return found.data, found.targets

    def _open(self, data_dir: str, **which: Any) -> Any:
        # Not older versions' processed files, which nothing has verified.
        of_raw_files = {"_check_legacy_exist": lambda _: False}
        return type(self.name, (self.torchvisions,), of_raw_files)(data_dir, **which)

    @property
    def classes(self) -> list[str]:
        """What the labels stand for, in their order."""
        return list(self.torchvisions.classes)


class MNIST(DataSet):
    """MNIST itself, whose files are verified as they are read, whatever they were packed in."""

    sums = SHA256
    classes = DIGITS

    def unpacked(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        """Nothing."""
        return iter(())


class QMNIST(DataSet):
    """MNIST made anew from NIST's scans: its 60,000 training and 60,000 test images, 10,000 old."""

    classes = DIGITS

    @property
    def resources(self) -> list[tuple[str, str]]:
        """Of the training and of the test images."""
        return [*self.torchvisions.resources["train"], *self.torchvisions.resources["test"]]

    def read(self, data_dir: str, train: bool) -> tuple[Any, Any]:
        """The first of the eight numbers of a label is the digit."""
        images, labels = super().read(data_dir, train)
        return images, labels[:, 0].contiguous()


class EMNIST(DataSet):
    """A part of EMNIST with digits only. All parts share one archive of 536 MB.

    Args:
        split: torchvision's name of the part.
    """

    classes = DIGITS

    def __init__(self, split: str) -> None:
        super().__init__("EMNIST")
        self.split = split

    @property
    def resources(self) -> list[tuple[str, str]]:
        """The archive."""
        return [(self.torchvisions.url, self.torchvisions.md5)]

    def unpacked(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        """The four files of this part."""
        with zipfile.ZipFile(folder / "gzip.zip") as archive:
            for part in ("train", "test"):
                for kind in ("images-idx3", "labels-idx1"):
                    name = f"emnist-{self.split}-{part}-{kind}-ubyte"
                    yield name, gzip.decompress(archive.read(f"gzip/{name}.gz"))

    def read(self, data_dir: str, train: bool) -> tuple[Any, Any]:
        """The files, and torchvision, have each image with rows and columns exchanged."""
        found = self._open(data_dir, split=self.split, train=train)
        return found.data.transpose(1, 2).contiguous(), found.targets


class USPS(DataSet):
    """Digits from envelopes, 16×16: 7,291 training and 2,007 test images.

    They are enlarged to 20×20, bilinearly, with a border of 4: MNIST's digits fill a box of 20×20.
    """

    classes = DIGITS
    BOX, BORDER = 20, 4  # pixels

    @property
    def resources(self) -> list[tuple[str, str]]:
        """Of the training and of the test images."""
        return [(url, md5) for url, _, md5 in self.torchvisions.split_list.values()]

    def unpacked(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        """Nothing: torchvision unpacks while it reads."""
        return iter(())

    def read(self, data_dir: str, train: bool) -> tuple[Any, Any]:
        """Enlarged."""
        import torch
        from torch.nn import functional as F

        found = self.torchvisions(self.folder(data_dir), train=train)
        small = torch.from_numpy(found.data).unsqueeze(1).float()
        box = F.interpolate(small, size=(self.BOX, self.BOX), mode="bilinear")
        images = F.pad(box, [self.BORDER] * 4).squeeze(1).round().to(torch.uint8)
        return images, torch.tensor(found.targets)


#: Those of ten classes, which is what the nets have. EMNIST's other parts have 26 to 62.
Dataset = Literal[
    "MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNISTDigits", "EMNISTMNIST", "USPS"
]
DATASETS: dict[Dataset, DataSet] = {
    "MNIST": MNIST("MNIST"),
    "FashionMNIST": DataSet("FashionMNIST", keras="fashion-mnist"),
    "KMNIST": DataSet("KMNIST"),
    "QMNIST": QMNIST("QMNIST"),
    "EMNISTDigits": EMNIST("digits"),
    "EMNISTMNIST": EMNIST("mnist"),
    "USPS": USPS("USPS"),
}


def class_names(dataset: Dataset) -> list[str]:
    """What the labels of a data set stand for, in their order.

    >>> class_names("FashionMNIST")[:3]
    ['T-shirt/top', 'Trouser', 'Pullover']
    """
    return DATASETS[dataset].classes


def class_words(dataset: Dataset) -> list[str]:
    """The same where they are words, for a column beside the digits; else nothing.

    >>> class_words("USPS")
    []
    """
    return [] if class_names(dataset) == DIGITS else class_names(dataset)


def read_images(path: str) -> tuple[Tensor, Tensor]:
    """Images (N, 28, 28) uint8 and labels (N,) int64 from an ``.npz`` file.

    Raises:
        UserError: If it is another file, or the arrays are of another form.
    """
    try:
        with np.load(path) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except FileNotFoundError as error:
        raise UserError(
            f"--data.extra {path}: no such file. That of pictures.yaml is made by "
            "`python -m making.printed`, in a copy of the repository."
        ) from error
    except OSError as error:
        raise UserError(f"--data.extra {path}: {error.strerror or 'is no .npz file'}") from error
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f"--data.extra {path}: must be an .npz file with the arrays images and labels"
        ) from error
    if images.dtype != np.uint8 or images.shape != (len(labels), 28, 28):
        raise UserError(
            f"--data.extra {path}: images must be {len(labels)} x 28 x 28 of uint8, as many as "
            f"labels, but are {' x '.join(map(str, images.shape))} of {images.dtype}"
        )
    if labels.ndim != 1 or not np.isin(labels, range(10)).all():
        raise UserError(f"--data.extra {path}: labels must be whole numbers from 0 to 9")
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))
