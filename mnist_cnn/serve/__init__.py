"""``python -m mnist_cnn serve best.ckpt``: the model as a web service, and a page to draw on.

One process: uvicorn and FastAPI answer HTTP, a pool of threads decodes pictures, and a thread of
its own computes, in batches of what has gathered meanwhile. How a request goes: `limits` →
`reading` → `batching` → `api`, put together in `app`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import re
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from mnist_cnn.checkpoints.files import BUNDLED
from mnist_cnn.checkpoints.run_folder import newest
from mnist_cnn.errors import OptionParser, UserError
from mnist_cnn.file_system.paths import user_path

PACKAGES = ("fastapi", "fastapi_offline", "prometheus_client", "python_multipart", "uvicorn")
KEY_VARIABLE = "MNIST_CNN_API_KEY"
HOW_TO_TRAIN = "python -m mnist_cnn fit --config configs/cnn.yaml makes one and prints where it is"


def main(arguments: list[str]) -> None:
    """``mnist-cnn serve``.

    Raises:
        UserError: If the checkpoint cannot be used, or an option on this machine.
    """
    options = _parser().parse_args(arguments)
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise UserError(f"serve needs {', '.join(missing)}: pip install 'mnist-cnn[serve]'")
    options.checkpoint = newest(options.checkpoint)
    if not Path(options.checkpoint).is_file():
        raise UserError(f"checkpoint {options.checkpoint}: no such file; {HOW_TO_TRAIN}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with _listen(options.host, options.port) as listener:
        _serve(options, listener)


def _serve(options: argparse.Namespace, listener: socket.socket) -> None:
    import torch
    import uvicorn

    from mnist_cnn.serve.app import make_app
    from mnist_cnn.serve.limits import PatientProtocol

    logging.basicConfig(level=options.log_level.upper(), stream=sys.stderr)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # warns of what clients send
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))  # one core reads requests
    app = make_app(
        options.checkpoint,
        api_key=options.api_key or os.environ.get(KEY_VARIABLE),
        accelerator=options.accelerator,
        max_batch_size=options.max_batch_size,
        batch_timeout=options.batch_timeout,
        max_bytes=options.max_bytes,
        max_pixels=options.max_pixels,
        timeout=options.timeout,
        cors=options.cors,
    )
    PatientProtocol.seconds = options.timeout
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_level=options.log_level,
        access_log=options.log_level in ("info", "debug"),
        server_header=False,
        timeout_graceful_shutdown=options.timeout + 1,
        timeout_keep_alive=75,  # proxies keep theirs for 60 s: none sends into one that closes
    )
    gc.freeze()  # torch's objects stay: looking through them again took a fifth of the time
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    print(f"Serving {options.checkpoint} at http://{name}:{port} (Ctrl+C stops)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A socket at once, so that a port in use is known before anything is loaded."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        family, kind, protocol, _, address = found
        # With the protocol left out, asyncio does not know a TCP socket, leaves Nagle's algorithm
        # on, and each answer waits 40 ms for the acknowledgement of its first half.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: {error.strerror}; choose another, or --port 0 for any"
        ) from error
    return listener


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="mnist-cnn serve",
        description="Serve a checkpoint: a page to draw on at /, the API's documentation at /docs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "checkpoint",
        type=user_path,
        nargs="?",
        default=str(BUNDLED),
        help="a checkpoint of one of this project's nets, or what export wrote as safetensors; "
        "last or best: the newest run's in tb_logs",
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: every computer may ask")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one")
    parser.add_argument(
        "--api_key",
        help=f"what requests must carry as X-API-Key; better given as ${KEY_VARIABLE}, which no "
        "other user of the machine can see",
    )
    parser.add_argument(
        "--cors",
        action="append",
        type=_origin,
        default=[],
        metavar="ORIGIN",
        help="pages from there, such as https://example.org, may ask as well; *: from anywhere. "
        "May be given several times",
    )
    parser.add_argument(
        "--accelerator",
        choices=("auto", "cpu", "gpu", "cuda", "mps"),
        default="auto",
        help="device",
    )
    parser.add_argument(
        "--max_batch_size", type=_positive(int), default=64, help="images computed at once"
    )
    parser.add_argument(
        "--batch_timeout",
        type=_positive(float, zero=True),
        default=0.0,
        help="seconds to wait for more images when there is one; without waiting, a batch is what "
        "gathered while the one before it was computed",
    )
    parser.add_argument(
        "--max_bytes", type=_positive(int), default=10_000_000, help="of a request's body"
    )
    parser.add_argument(
        "--max_pixels", type=_positive(int), default=16_000_000, help="of a picture"
    )
    parser.add_argument(
        "--timeout",
        type=_positive(int),
        default=10,
        help="seconds for a client to send a request, and for the server to answer it",
    )
    parser.add_argument(
        "--log_level", choices=("debug", "info", "warning", "error"), default="warning"
    )
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 to 65535")
    return port


_port.__name__ = "port"  # argparse: "invalid port value"


def _origin(text: str) -> str:
    """An origin as browsers name it: in small letters, and without the scheme's own port."""
    origin = text.lower().removesuffix("/")
    if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^\s/?#@]+", origin):
        raise argparse.ArgumentTypeError(
            f"{text}: must be an origin, such as https://example.org, or * for any"
        )
    return re.sub(r"^(http://.*):80$|^(https://.*):443$", r"\1\2", origin)


def _positive(kind: type[int] | type[float], zero: bool = False):  # type: ignore[no-untyped-def]
    def number(text: str) -> int | float:
        value = kind(text)
        if not (value > 0 or (zero and value == 0)) or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text}: must be {'at least' if zero else 'above'} 0")
        return value

    number.__name__ = kind.__name__  # argparse: "invalid int value"
    return number
