"""From an HTTP request to what in its picture may be digits, or to a 4xx that says why not.

Here and not where batches are computed, of which one bad picture would spoil the whole.
"""

from __future__ import annotations

import base64
import logging
import os
import re
from functools import cache
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import unquote

import anyio
import numpy as np
from fastapi import HTTPException, Request
from pydantic_core import from_json
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from mnist_cnn.digits.decode import PictureError, open_pictures
from mnist_cnn.digits.find import Candidate, find_digits, with_images
from mnist_cnn.digits.mnist_form import SIDE

logger = logging.getLogger(__name__)
#: What a data URL (RFC 2397) has in front of the base64, such as a canvas gives it.
DATA_URL = re.compile(r"\s*data:[^,]*;base64,", re.IGNORECASE)


async def read_candidates(request: Request) -> list[Candidate]:
    """Read the picture of a request to ``/predict``.

    Returns:
        At least one.

    Raises:
        HTTPException: 4xx, with the reason, if there is no picture of a digit in it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    image: list[Candidate] | Picture
    try:
        if kind == "multipart/form-data":
            image = await _uploaded(request)
        elif kind == "application/json":
            image = _from_json(await request.body())
        else:
            raise HTTPException(415, "Content-Type: multipart/form-data or application/json")
    except ClientDisconnect:
        raise HTTPException(400, "the client left before its request was complete") from None
    if isinstance(image, Picture):
        image = await anyio.to_thread.run_sync(
            _candidates_of,
            image.content,
            request.app.state.max_pixels,
            limiter=_decoders(),
            abandon_on_cancel=True,
        )
    return image


class Picture(NamedTuple):
    """A file, not yet decoded."""

    content: bytes


async def _uploaded(request: Request) -> Picture:
    try:
        form = await request.form(max_files=1, max_fields=8)
    except (HTTPException, ClientDisconnect):
        raise
    except Exception as error:  # whatever the parser stumbles over is what the client sent
        raise HTTPException(400, "the body is no well-formed multipart/form-data") from error
    file = form.get("image")
    if not isinstance(file, UploadFile):
        raise HTTPException(422, 'the form needs a file named "image"')
    return Picture(await file.read())


def _from_json(body: bytes) -> list[Candidate] | Picture:
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise HTTPException(400, f"the body is no JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict) or set(document) not in ({"image"}, {"pixels"}):
        raise HTTPException(
            422, 'give {"image": "<base64>"} or {"pixels": [28 rows of 28 numbers]}'
        )
    if "pixels" in document:
        return [_as_it_is(document["pixels"])]
    try:
        text = document["image"]
        if url := DATA_URL.match(text):
            text = unquote(text[url.end() :])
        return Picture(base64.b64decode("".join(text.split()), validate=True))
    except (AttributeError, TypeError, ValueError):
        raise HTTPException(
            422, "image must be a picture's file in base64, or a data URL of that"
        ) from None


def _as_it_is(rows: Any) -> Candidate:
    """Check that `rows` is 28×28 whole numbers from 0 to 255, and not all of them 0."""
    if not _are_lists([rows]) or not _are_lists(rows):
        raise HTTPException(422, f"pixels must be {SIDE} rows of {SIDE} numbers")
    numbers = list(chain.from_iterable(rows))
    try:
        pixels = bytes(numbers if set(map(type, numbers)) == {int} else [-1])
    except ValueError:  # not from 0 to 255
        raise HTTPException(
            422, "pixels must be whole numbers from 0, the background, to 255, ink"
        ) from None
    if not any(pixels):
        raise HTTPException(422, "pixels shows no ink: all are 0")
    image = np.array(numbers, np.uint8).reshape(SIDE, SIDE)
    return Candidate(0, 0, 1, image, (0, 0, SIDE, SIDE), 1.0)


def _are_lists(values: list[Any]) -> bool:
    """Whether all values are lists of 28."""
    return set(map(type, values)) == {list} and set(map(len, values)) == {SIDE}


def _candidates_of(content: bytes, max_pixels: int) -> list[Candidate]:
    try:
        return with_images(find_digits(open_pictures(content, max_pixels)[0]))
    except PictureError as error:
        raise HTTPException(422, f"the image {error}") from None
    except Exception as error:  # no picture may do this: ours to mend, and its sender's to know
        logger.exception("a picture of %d bytes was not foreseen", len(content))
        raise HTTPException(422, "the image is of a kind that was not foreseen") from error


@cache
def _decoders() -> anyio.CapacityLimiter:
    """As many pictures at a time as there are cores: each can take some 100 MB."""
    return anyio.CapacityLimiter(os.cpu_count() or 1)
