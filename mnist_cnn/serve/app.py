"""The web application: LitServe's, with this project's page, documentation and limits."""

from __future__ import annotations

import logging
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastapi_offline
import litserve
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

from mnist_cnn import __version__
from mnist_cnn.checkpoints.files import read_checkpoint
from mnist_cnn.digits.decode import FORMATS
from mnist_cnn.digits.normalise import SIDE
from mnist_cnn.serve import metrics
from mnist_cnn.serve.api import DigitAPI, GuardedDigitAPI
from mnist_cnn.serve.batching import END, Answers, Requests
from mnist_cnn.serve.limits import Limits
from mnist_cnn.use.classifier import load_classifier

PAGE = Path(str(files("mnist_cnn.serve") / "page"))
DOCS = Path(fastapi_offline.__file__).parent / "static"
#: LitServe's and FastAPI's own, which this application has better ones of.
REPLACED = ("/", "/docs", "/docs/oauth2-redirect", "/redoc")
PROBLEMS = {
    400: "The body is not what its Content-Type says",
    401: "The key is missing or wrong",
    408: "The request took too long to come",
    413: "The body has too many bytes",
    415: "The Content-Type is not one of the two",
    422: "There is no picture of a digit in it",
    504: "The answer took too long",
}


class Server(litserve.LitServer):
    """LitServe's server, with queues of our own between its processes.

    Args:
        folder: Of this user alone, for sockets.
        api: What it serves.
        options: As of LitServer.
    """

    def __init__(self, folder: Path, api: DigitAPI, **options: Any) -> None:
        self._folder = folder
        super().__init__(api, **options)

    def _init_manager(self, num_api_servers: int) -> Any:
        manager = super()._init_manager(num_api_servers)
        for number, path in enumerate(self.litapi_request_queues):
            self.litapi_request_queues[path] = Requests(self._folder / f"requests-{number}")
        self._transport = Answers(self._folder / "answers")
        return manager

    def end(self) -> None:
        """Ask the processes that compute to end; nothing is to be put after this."""
        for requests in self.litapi_request_queues.values():
            requests.put(END)
        # LitServe's monitor may look once more, for processes that have ended.
        logging.getLogger("litserve.server").disabled = True


def make_server(
    checkpoint: str,
    folder: Path,
    *,
    api_key: str | None,
    accelerator: str,
    max_batch_size: int,
    batch_timeout: float,
    max_bytes: int,
    max_pixels: int,
    timeout: float,
) -> Server:
    """Put the application together; `Server.app` is FastAPI's.

    Args:
        checkpoint: The file.
        folder: Of this user alone, for sockets.
        api_key: What requests must carry, if anything.
        accelerator: Where to compute.
        max_batch_size: The most images computed at once.
        batch_timeout: Seconds to wait for more images when there is one.
        max_bytes: Of a request's body.
        max_pixels: Of a picture.
        timeout: Seconds for a request to come, and to be answered.

    Raises:
        CheckpointError: If the checkpoint cannot be used.
    """
    _, facts = load_classifier(checkpoint)  # here, so that what is wrong with it is said at once
    cores = os.cpu_count() or 1
    arguments = (checkpoint, max(1, cores - 1), max_batch_size, batch_timeout)
    server = Server(
        folder,
        GuardedDigitAPI(api_key, *arguments) if api_key else DigitAPI(*arguments),
        accelerator=accelerator,
        devices=1,
        timeout=timeout,
        model_metadata={
            "checkpoint": Path(checkpoint).name,
            "version": __version__,
            **measured(read_checkpoint(checkpoint)),
            **facts,
        },
        middlewares=[(Limits, {"max_bytes": max_bytes, "seconds": timeout}), (metrics.Metrics, {})],
        restart_workers=True,
    )
    app = server.app
    app.state.max_pixels = max_pixels
    app.title, app.version = "Handwritten digits", __version__
    app.description = "A convolutional net trained on MNIST. [Draw on the page](/)."
    app.router.routes[:] = [
        route for route in app.router.routes if getattr(route, "path", None) not in REPLACED
    ]
    _add_routes(app, server.setup_auth())
    _describe(app)
    return server


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


def _add_routes(app: FastAPI, authorize: Any) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(PAGE / "docs.html")

    @app.get(
        "/metrics",
        dependencies=[Depends(authorize)],
        response_class=PlainTextResponse,
        summary="Figures for Prometheus",
        responses={401: _problem(401)},
    )
    def figures() -> Response:
        return metrics.exposition()

    @app.exception_handler(RequestValidationError)
    async def one_line(_: Request, error: RequestValidationError) -> Response:
        reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        return JSONResponse({"detail": "; ".join(reasons)}, 422)

    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/swagger-ui", StaticFiles(directory=DOCS))


def _describe(app: FastAPI) -> None:
    """Say in the OpenAPI document what LitServe's endpoints take and give."""
    routes: dict[str, Any] = {getattr(route, "path", ""): route for route in app.router.routes}
    predict, health, info = routes["/predict"], routes["/health"], routes["/info"]
    predict.summary = "Recognise a digit"
    predict.description = (
        f"A picture ({', '.join(FORMATS)}; any size, dark on light or light on dark), or "
        f"{SIDE} x {SIDE} bytes that are used as they are."
    )
    predict.openapi_extra = {"requestBody": {"required": True, "content": _contents()}}
    predict.responses = {status: _problem(status) for status in PROBLEMS}
    health.summary = "Whether it is ready"
    health.openapi_extra = {"security": []}
    health.response_class = Response
    health.responses = {503: {"description": "Not ready"}}
    info.summary = "The model and the server"
    info.responses = {401: _problem(401)}


def _contents() -> dict[str, Any]:
    byte = {"type": "integer", "minimum": 0, "maximum": 255}
    row = {"type": "array", "items": byte, "minItems": SIDE, "maxItems": SIDE}
    pixels = {
        "type": "array",
        "items": row,
        "minItems": SIDE,
        "maxItems": SIDE,
        "description": "0 is the ground, 255 is ink",
    }
    image = {"type": "string", "contentEncoding": "base64", "description": "a picture's file"}
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
