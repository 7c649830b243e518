"""What ``/metrics`` tells Prometheus."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS = ("/predict", "/health", "/info", "/metrics", "/", "/docs", "/openapi.json")
REQUESTS = Counter("mnist_cnn_requests", "Requests answered", ["path", "status"])
SECONDS = Histogram(
    "mnist_cnn_request_seconds",
    "From a request's headers to the end of its answer",
    ["path"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
IN_FLIGHT = Gauge("mnist_cnn_in_flight", "Requests not yet answered")
BATCH_SIZE = Histogram(
    "mnist_cnn_batch_size", "Images computed at once", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)


class Metrics:
    """Counts requests and times them; paths that are none of ours count as one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        path = scope["path"] if scope["path"] in PATHS else "other"
        start = time.perf_counter()
        IN_FLIGHT.inc()
        try:
            await self.app(scope, receive, note)
        finally:
            IN_FLIGHT.dec()
            _child(SECONDS, path).observe(time.perf_counter() - start)
            _child(REQUESTS, path, status).inc()


@cache
def _child(metric: Any, *labels: Any) -> Any:
    """The figure of a metric for these labels, which the library looks up slowly."""
    return metric.labels(*labels)


def exposition() -> Response:
    """The figures, in Prometheus's format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
