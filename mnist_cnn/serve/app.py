"""The web application: the page, the API, its documentation, and what requests must keep to."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import fastapi_offline
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.security import APIKeyHeader
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from mnist_cnn import __version__
from mnist_cnn.checkpoints.files import read_checkpoint
from mnist_cnn.checkpoints.trained import load_net
from mnist_cnn.data_sets import class_words
from mnist_cnn.digits.decode import FORMATS
from mnist_cnn.digits.mnist_form import SIDE
from mnist_cnn.serve import metrics
from mnist_cnn.serve.api import Answer, Digits, Question
from mnist_cnn.serve.batching import Batches
from mnist_cnn.serve.limits import Limits
from mnist_cnn.serve.reading import read_candidates
from mnist_cnn.use.answers import device
from mnist_cnn.use.reading import Reader

PAGE = Path(str(files("mnist_cnn.serve") / "page"))
DOCS = Path(fastapi_offline.__file__).parent / "static"
KEY_HEADER = "X-API-Key"
KEY = Security(APIKeyHeader(name=KEY_HEADER, auto_error=False))
PROBLEMS = {
    400: "The body is not what its Content-Type says",
    401: "The key is missing or wrong",
    408: "The request took too long to come",
    413: "The body has too many bytes",
    415: "The Content-Type is not one of the two",
    422: "There is no picture of a digit in it",
    504: "The answer took too long",
}


def make_app(
    checkpoint: str,
    *,
    api_key: str | None,
    accelerator: str,
    max_batch_size: int,
    batch_timeout: float,
    max_bytes: int,
    max_pixels: int,
    timeout: float,
    cors: Sequence[str] = (),
) -> FastAPI:
    """Put the application together.

    Args:
        checkpoint: The file.
        api_key: What requests must carry as ``X-API-Key``, if anything.
        accelerator: Where to compute.
        max_batch_size: The most images computed at once.
        batch_timeout: Seconds to wait for more images when there is one.
        max_bytes: Of a request's body.
        max_pixels: Of a picture.
        timeout: Seconds for a request to come, and to be answered.
        cors: Origins whose pages may ask, as browsers name them; ``*`` stands for all.

    Raises:
        UserError: If the checkpoint or the accelerator cannot be used.
    """
    model = load_net(checkpoint)
    reader = Reader(model, is_mnist=not class_words(model.facts["dataset"]))
    reader.to(device(accelerator)).eval()
    described = {"checkpoint": Path(checkpoint).name, "version": __version__}
    described |= measured(read_checkpoint(checkpoint)) | model.facts
    app = FastAPI(
        title="Handwritten digits",
        version=__version__,
        description="A convolutional net trained on MNIST. [Draw on the page](/).",
        docs_url=None,
        redoc_url=None,
    )
    app.state.max_pixels = max_pixels
    # The last added is asked first: figures count preflights, and pages may read refusals.
    app.add_middleware(HeadAsGet)
    app.add_middleware(Limits, max_bytes=max_bytes, seconds=timeout)
    if cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("Content-Type", KEY_HEADER),
        )
    app.add_middleware(metrics.Metrics)
    _add_api(
        app,
        Batches(Digits(reader), max_batch_size, batch_timeout),
        {"model": described, "server": {"device": str(reader.device), "timeout": timeout}},
        [Depends(_keyed(api_key))] if api_key else [],
    )
    _add_pages(app)
    return app


class HeadAsGet:
    """Answers HEAD as GET, of which the HTTP server then sends the headers alone (RFC 9110)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


def measured(checkpoint: dict[str, Any]) -> dict[str, float]:
    """The accuracy that training measured last, if the checkpoint tells.

    Returns:
        ``test_accuracy``, where training validated on the test images, or ``val_accuracy``, on
        images held out of the training set.
    """
    history = checkpoint.get("callbacks", {}).get("Report", {}).get("history") or [{}]
    if "val/accuracy" not in history[-1]:
        return {}
    held_out = checkpoint.get("datamodule_hyper_parameters", {}).get("val_size", 0)
    name = "val_accuracy" if held_out else "test_accuracy"
    return {name: round(history[-1]["val/accuracy"], 4)}


def _keyed(api_key: str) -> Any:
    """A dependency that refuses a request without the key."""

    async def authorize(key: Annotated[str | None, KEY] = None) -> None:
        if not secrets.compare_digest((key or "").encode(), api_key.encode()):
            raise HTTPException(401, f"{KEY_HEADER} is missing or wrong")

    return authorize


def _add_api(
    app: FastAPI, batches: Batches[Question, Answer], info: dict[str, Any], key: list[Any]
) -> None:
    @app.post(
        "/predict",
        dependencies=key,
        response_model=Answer,
        summary="Read a digit, or a number",
        description=f"A picture ({', '.join(FORMATS)}; any size, dark on light or light on dark), "
        f"or {SIDE} x {SIDE} bytes that are used as they are.",
        openapi_extra={"requestBody": {"required": True, "content": _contents()}},
        responses={status: _problem(status) for status in PROBLEMS},
    )
    async def predict(
        request: Request,
        pixels: Annotated[bool, Query(description="answer with what the network saw")] = False,
        contributions: Annotated[
            bool, Query(description="answer with what each pixel contributed")
        ] = False,
    ) -> Response:
        question = Question(await read_candidates(request), pixels, contributions)
        # Not the answer itself, which FastAPI would check once more: a tenth of the time.
        return JSONResponse(await batches.ask(question))

    @app.get("/info", dependencies=key, summary="The model and the server", responses=_keyless())
    async def information() -> dict[str, Any]:
        return info

    @app.get(
        "/metrics",
        dependencies=key,
        response_class=PlainTextResponse,
        summary="Figures for Prometheus",
        responses=_keyless(),
    )
    async def figures() -> Response:
        return metrics.exposition()

    @app.get("/health", response_class=PlainTextResponse, summary="Whether it is ready")
    async def health() -> str:
        return "ok"

    @app.exception_handler(RequestValidationError)
    async def one_line(_: Request, error: RequestValidationError) -> Response:
        reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        return JSONResponse({"detail": "; ".join(reasons)}, 422)


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(PAGE / "docs.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/swagger-ui", StaticFiles(directory=DOCS))


def _keyless() -> dict[int | str, dict[str, Any]]:
    return {401: _problem(401)}


def _contents() -> dict[str, Any]:
    byte = {"type": "integer", "minimum": 0, "maximum": 255}
    row = {"type": "array", "items": byte, "minItems": SIDE, "maxItems": SIDE}
    pixels = {
        "type": "array",
        "items": row,
        "minItems": SIDE,
        "maxItems": SIDE,
        "description": "0 is the background, 255 is ink",
    }
    image = {
        "type": "string",
        "contentEncoding": "base64",
        "description": "a picture's file; its data URL will do as well",
    }
    file = {"type": "string", "format": "binary", "description": "a picture's file"}
    return {
        "multipart/form-data": {"schema": _object(image=file)},
        "application/json": {"schema": {"oneOf": [_object(image=image), _object(pixels=pixels)]}},
    }


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _problem(status: int) -> dict[str, Any]:
    detail = {
        "type": "object",
        "properties": {"detail": {"type": "string"}},
        "required": ["detail"],
    }
    return {
        "description": PROBLEMS[status],
        "content": {"application/json": {"schema": detail}},
    }
