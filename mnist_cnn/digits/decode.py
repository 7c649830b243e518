"""Picture files, decoded; what is not a picture is refused with its reason."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps, ImageSequence

from mnist_cnn.errors import UserError

MAX_PIXELS = 64_000_000  # of a file, all pages together: 200 MB as RGB; more is not decoded
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # and no others: some run programs
SIGNATURES = (b"\x89PNG", b"\xff\xd8", b"RIFF", b"II*", b"MM\0*", b"BM", b"GIF8")


class PictureError(UserError):
    """The picture cannot be used, for the reason that the message gives."""


def open_pictures(
    source: Path | bytes | BinaryIO, max_pixels: int = MAX_PIXELS
) -> list[Image.Image]:
    """Decode a file: all pages of a TIFF, the first frame of anything else.

    Args:
        source: A file, its bytes, or a binary stream that can seek.
        max_pixels: The most pixels to decode, all pages together.

    Returns:
        The pictures, at least one, turned upright as their EXIF says.

    Raises:
        PictureError: If there is no such file, or it is empty, damaged, too large, or no picture of
            a kind in `FORMATS`. The message does not name the file.
    """
    if isinstance(source, Path):
        try:
            source = source.read_bytes()
        except FileNotFoundError:
            raise PictureError("does not exist") from None
        except IsADirectoryError:
            raise PictureError("is a folder with no file in it") from None
        except OSError as error:
            raise PictureError(f"cannot be read: {error.strerror}") from error
    if isinstance(source, bytes):
        if not source:
            raise PictureError("is empty")
        source = io.BytesIO(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes below our limit
            return _decode(source, max_pixels)
    except PictureError:
        raise
    except Image.UnidentifiedImageError:
        source.seek(0)
        if source.read(4).startswith(SIGNATURES):
            raise PictureError("is truncated or damaged") from None
        raise PictureError(f"is not a picture ({', '.join(FORMATS)} are read)") from None
    except Image.DecompressionBombError:
        raise PictureError(f"is larger than {max_pixels} pixels") from None
    except Exception as error:  # damaged bytes end in errors of many kinds
        raise PictureError("is truncated or damaged") from error


def _decode(file: BinaryIO, max_pixels: int) -> list[Image.Image]:
    pages: list[Image.Image] = []
    pixels = 0
    with Image.open(file, formats=FORMATS) as picture:
        for page in ImageSequence.Iterator(picture):
            pixels += page.width * page.height
            if pixels > max_pixels:
                raise PictureError(f"is larger than {max_pixels} pixels")
            pages.append(ImageOps.exif_transpose(page))
            if picture.format != "TIFF":
                break
    return pages
