"""``python -m mnist_cnn``, and the console script ``mnist-cnn``."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import warnings
from typing import Any, NoReturn

LAUNCHER = "MNIST_CNN_LAUNCHER"  # environment variable: process number
PR_SET_PDEATHSIG = 1  # of Linux's sys/prctl.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def main() -> None:
    """Run the command line; a mistake of the user's ends in a line or two, not in a traceback."""
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ["MNIST_CNN_DEBUG"] = "1"  # an environment variable reaches all processes
    end_with_launcher()
    keep_freed_memory()
    quieten()

    from mnist_cnn.cli import MNISTCLI, debugging

    try:
        leave_on_signals()
        if sys.argv[1:2] in (["import-keras"], ["export-keras"]):
            from mnist_cnn import keras_io

            keras_io.main(sys.argv[1:])
        elif sys.argv[1:2] == ["export"]:
            from mnist_cnn.use import export

            export.main(sys.argv[2:])
        elif sys.argv[1:2] == ["serve"]:
            from mnist_cnn import serve

            serve.main(sys.argv[2:])
        else:
            MNISTCLI()
    except Exception as error:
        if debugging():
            raise
        message = " ".join(str(error).split()) if not str(error).startswith("MNIST:") else error
        print(f"error: {message or type(error).__name__}", file=sys.stderr)
        print("(--debug shows the traceback)", file=sys.stderr)
        sys.exit(1)


def leave_on_signals() -> None:
    """Leave on SIGTERM, Ctrl-C and SIGUSR1 with status 128 + number, and no traceback.

    A training changes that to finishing its step and saving it first: see `resume`.
    """

    def leave(number: int, frame: Any) -> NoReturn:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGUSR1", signal.SIGTERM)):
        signal.signal(number, leave)


def end_with_launcher() -> None:
    """Let a process that a launcher started for one device end when the launcher is killed.

    It would wait for the other processes otherwise, for half an hour. Linux only.
    """
    if "LOCAL_RANK" not in os.environ:
        os.environ[LAUNCHER] = str(os.getpid())  # should Lightning start others from here
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get(LAUNCHER, str(os.getppid())) != str(os.getppid()):
        sys.exit(1)  # it was killed before that call


def keep_freed_memory() -> None:
    """Let glibc keep the blocks that a step frees for the next step.

    By default it gives big ones back to the system and faults them in again page by page, which
    costs a tenth of a training step on the CPU. Does nothing with another C library.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # glibc's maximum
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)


def quieten() -> None:
    """Drop messages of libraries that a user of this program can do nothing about."""
    warnings.filterwarnings("ignore", ".*does not have many workers")  # indexing needs none
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable")  # its sampler is
    warnings.filterwarnings("ignore", ".*treespec, LeafSpec")
    warnings.filterwarnings("ignore", ".*torch.jit.trace")  # TensorBoard draws the graph by it
    warnings.filterwarnings("ignore", ".*configure_model callback. WeightAveraging doesn't")
    rank_zero = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    rank_zero.addFilter(lambda record: not record.getMessage().startswith("💡 Tip"))


if __name__ == "__main__":
    main()
