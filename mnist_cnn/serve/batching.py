"""Between the process that answers HTTP and the one that computes: what LitServe does, faster.

LitServe's queues live in a third process, each put and get a question and an answer to it, and its
batching loop polls them a thousand times a second: measured on two cores, a third of the requests a
second of a plain FastAPI program, and 20 % of a core with nothing to do. Here the two processes
talk directly, over ZeroMQ, which LitServe depends on, and a batch is what has gathered.

PUSH and PULL sockets carry whole messages in order and lose none while both ends live. What a
computing process that is killed has taken is not answered, and ends in the time limit's 504.
"""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import signal
import sys
import time
from pathlib import Path
from queue import Empty
from typing import Any, NoReturn

import zmq
import zmq.asyncio
from litserve.loops.simple_loops import BatchedLoop
from litserve.transport.base import MessageTransport

#: (API server, id, time of arrival by time.monotonic, Question), as LitServe puts it together
Request = tuple[int, str, float, Any]
END: Request = (0, "", 0.0, None)  # put instead of a request: the last there is
IDLE = 1.0  # seconds without a request after which to look whether the server is still there


class Requests:
    """A queue from one process that puts to one that gets, which may be replaced by another.

    Args:
        path: Of a socket in a folder that is this user's alone, since what comes is unpickled.
    """

    def __init__(self, path: Path) -> None:
        self.address = f"ipc://{path}"
        self._socket: zmq.Socket[bytes] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (Path(self.address.removeprefix("ipc://")),)

    def put(self, item: Request) -> None:
        if self._socket is None:
            self._socket = zmq.Context.instance().socket(zmq.PUSH)
            self._socket.set_hwm(0)  # no limit but that of memory
            self._socket.connect(self.address)  # not bind: this end keeps what waits
        self._socket.send(pickle.dumps(item))

    def get(self, timeout: float) -> Request:
        """Wait for `timeout` seconds at most.

        Raises:
            Empty: If nothing came.
        """
        if self._socket is None:
            self._socket = zmq.Context.instance().socket(zmq.PULL)
            self._socket.set_hwm(0)
            self._socket.bind(self.address)
        if not self._socket.poll(round(1000 * timeout)):
            raise Empty
        return pickle.loads(self._socket.recv())


class Answers(MessageTransport):
    """The way back; LitServe's part of it.

    Args:
        path: As of `Requests`.
    """

    def __init__(self, path: Path) -> None:
        self.address = f"ipc://{path}"
        self._sender: zmq.Socket[bytes] | None = None
        self._receiver: zmq.asyncio.Socket | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (Path(self.address.removeprefix("ipc://")),)

    def send(self, item: Any, consumer_id: int) -> None:
        if self._sender is None:
            self._sender = zmq.Context.instance().socket(zmq.PUSH)
            self._sender.set_hwm(0)
            self._sender.connect(self.address)
        self._sender.send(pickle.dumps(item))

    async def areceive(self, consumer_id: int | None = None, timeout: float | None = None) -> Any:
        if self._receiver is None:
            self._receiver = zmq.asyncio.Context.instance().socket(zmq.PULL)
            self._receiver.set_hwm(0)
            self._receiver.bind(self.address)
        return pickle.loads(await self._receiver.recv())

    def close(self, **kwargs: Any) -> None:
        if self._receiver is not None:
            self._receiver.close(linger=0)


class PromptLoop(BatchedLoop):
    """Computes what waits, at once; what comes meanwhile is the next batch."""

    def get_batch_requests(
        self, lit_api: Any, request_queue: Any, transport: Any
    ) -> tuple[list[Any], list[Any]]:
        try:
            requests = [request_queue.get(timeout=IDLE)]
        except Empty:
            parent = multiprocessing.parent_process()
            if parent is not None and not parent.is_alive():
                self.end()
            return [], []
        end = time.monotonic() + lit_api.batch_timeout
        while len(requests) < lit_api.max_batch_size:
            try:
                requests.append(request_queue.get(timeout=max(0.0, end - time.monotonic())))
            except Empty:
                break
        if END in requests:
            self.end()
        oldest = time.monotonic() - lit_api.request_timeout
        in_time = [(server, uid, x) for server, uid, arrival, x in requests if arrival >= oldest]
        late = [(server, uid) for server, uid, arrival, _ in requests if arrival < oldest]
        return in_time, late

    @staticmethod
    def end() -> NoReturn:
        """End this process."""
        gc.unfreeze()
        sys.exit(0)

    @staticmethod
    def only_end_when_asked() -> None:
        """Go on after SIGINT and SIGTERM, until `END` comes.

        They may reach the whole process group, and the server still answers what it has.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
