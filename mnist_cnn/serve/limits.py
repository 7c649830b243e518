"""What a client may take of the server: bytes, and seconds; and what a browser may do for it."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import anyio
from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]


class Limits:
    """Ends requests that are too large, too slow to come, or too slow to be answered.

    Args:
        app: The application.
        max_bytes: The most bytes of a request's body; more is answered 413.
        seconds: For a request to come (else 408), and to be answered (else 504).
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        declared, received = int(length) if length.isdecimal() else 0, 0
        come = started = False

        async def limited() -> Message:
            nonlocal come, received
            if declared > self.max_bytes:
                raise self._too_large()
            message = await receive()
            received += len(message.get("body", b""))
            come = not message.get("more_body", False)
            if received > self.max_bytes:
                raise self._too_large()
            return message

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                present = {name for name, _ in message["headers"]}
                more = [header for header in HEADERS if header[0] not in present]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        with anyio.move_on_after(self.seconds) as answering:
            await self.app(scope, limited, with_headers)
        if answering.cancelled_caught and not started:
            status, detail = 504, "the answer took too long"
            if not come:
                status, detail = 408, f"the request took more than {self.seconds} s to come"
            await JSONResponse({"detail": detail}, status)(scope, receive, with_headers)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body is larger than {self.max_bytes} bytes")


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's, with a limit to its patience: it waits for a request's headers for ever.

    The rest of a body that was answered before it was read is taken for as long, and forgotten.
    """

    seconds: ClassVar[float] = 10
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()  # from here on `Limits` counts
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self._give_up)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            self.transport.close()
