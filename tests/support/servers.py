"""A real server in a process of its own, as a user starts it."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).parents[2]


class Server:
    """``python -m mnist_cnn serve`` on a free port, while the context is open.

    Args:
        checkpoint: What it serves.
        options: Further flags.
        environment: Variables on top of this process's.
    """

    def __init__(self, checkpoint: Path, *options: str, **environment: str) -> None:
        command = [sys.executable, "-m", "mnist_cnn", "serve", str(checkpoint), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def __enter__(self) -> Server:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, (line, self.errors)
        self.url, self.port = found[0], int(found[1])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        self._reader.join(timeout=10)

    def stop(self, seconds: float = 60) -> int:
        """Ask it to stop, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


def png(image: Tensor | np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """The bytes of a PNG of (H, W) uint8."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(file, "PNG")
    return file.getvalue()
