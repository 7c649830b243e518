"""From an HTTP request to the 28×28 bytes that the network sees, or to a 4xx that says why not.

Here and not where batches are computed, of which one bad picture would spoil the whole.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from functools import cache
from typing import Annotated, Any, NamedTuple, NoReturn

import anyio
from fastapi import HTTPException, Query, Request
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from mnist_cnn.digits.decode import PictureError, open_pictures
from mnist_cnn.digits.normalise import SIDE, normalise

logger = logging.getLogger(__name__)


class Question(NamedTuple):
    """What the model is asked."""

    pixels: bytes  # 28·28, ink bright on dark
    wants_pixels: bool
    wants_contributions: bool


async def read_question(
    request: Request,
    pixels: Annotated[bool, Query(description="answer with what the network saw")] = False,
    contributions: Annotated[
        bool, Query(description="answer with what each pixel contributed")
    ] = False,
) -> Question:
    """Read a request to ``/predict``; a dependency of FastAPI's.

    Raises:
        HTTPException: 4xx, with the reason, if there is no picture of a digit in it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    image: bytes | Picture
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
            _pixels_of,
            image.content,
            request.app.state.max_pixels,
            limiter=_decoders(),
            abandon_on_cancel=True,
        )
    return Question(image, pixels, contributions)


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


def _from_json(body: bytes) -> bytes | Picture:
    try:
        document = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is no JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict) or set(document) not in ({"image"}, {"pixels"}):
        raise HTTPException(
            422, 'give {"image": "<base64>"} or {"pixels": [28 rows of 28 numbers]}'
        )
    if "pixels" in document:
        return _pixel_bytes(document["pixels"])
    try:
        return Picture(base64.b64decode("".join(document["image"].split()), validate=True))
    except (AttributeError, ValueError):
        raise HTTPException(422, "image must be the base64 of a picture's file") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _pixel_bytes(rows: Any) -> bytes:
    """Check that `rows` is 28×28 whole numbers from 0 to 255, and not all of them 0."""
    if not _is_list_of(SIDE, rows) or not all(_is_list_of(SIDE, row) for row in rows):
        raise HTTPException(422, f"pixels must be {SIDE} rows of {SIDE} numbers")
    flat = [pixel for row in rows for pixel in row]
    if set(map(type, flat)) != {int} or min(flat) < 0 or max(flat) > 255:
        raise HTTPException(422, "pixels must be whole numbers from 0, the ground, to 255, ink")
    if not any(flat):
        raise HTTPException(422, "pixels shows no ink: all are 0")
    return bytes(flat)


def _is_list_of(length: int, value: Any) -> bool:
    return isinstance(value, list) and len(value) == length


def _pixels_of(content: bytes, max_pixels: int) -> bytes:
    try:
        return normalise(open_pictures(content, max_pixels)[0]).numpy().tobytes()
    except PictureError as error:
        raise HTTPException(422, f"the image {error}") from None
    except Exception as error:  # no picture may do this: ours to mend, and its sender's to know
        logger.exception("a picture of %d bytes was not foreseen", len(content))
        raise HTTPException(422, "the image is of a kind that was not foreseen") from error


@cache
def _decoders() -> anyio.CapacityLimiter:
    """As many pictures at a time as there are cores: each can take some 100 MB."""
    return anyio.CapacityLimiter(os.cpu_count() or 1)
