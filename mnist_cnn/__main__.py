"""``python -m mnist_cnn``, and the console script ``mnist-cnn``."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import errno
import logging
import os
import shlex
import signal
import sys
import sysconfig
import traceback
import warnings
from importlib import import_module
from pathlib import Path

from mnist_cnn import __version__
from mnist_cnn.errors import UserError, usage_error
from mnist_cnn.importing import importing
from mnist_cnn.reports.output import fall_back

LAUNCHER = "MNIST_CNN_LAUNCHER"  # environment variable: process number
PR_SET_PDEATHSIG = 1  # of Linux's sys/prctl.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


#: Exit statuses: a bug in a class of the user's own, as Python's; his mistake; a bug of ours
#: (EX_SOFTWARE of BSD's sysexits.h).
USERS_BUG, USER_ERROR, BUG = 1, 2, 70
#: A file system that is full, or not to be written.
MACHINE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
#: Lightning's words for settings that it refuses by other exceptions than its own.
REFUSALS = (
    "Early stopping conditioned on metric",
    "`val_check_interval`",
    "is not in bounds, numpy accepts",  # a seed
    "no HPC checkpoint was found",
    "Checkpoint file not found",  # at an address
    "does not support dense gradients",  # an optimizer
    "'MNISTClassifier' object has no attribute 'backbone'",  # which BackboneFinetuning tunes
)
BUG_REPORT = """
This is a bug of mnist-cnn, not a mistake of yours. Please report it to whom you have the program
from, with the lines above and this command:
  {}"""


def main() -> None:
    """Run the command line.

    A mistake of the user's ends in a line; a bug shows its traceback and asks to be reported.
    """
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ["MNIST_CNN_DEBUG"] = "1"  # an environment variable reaches all processes
    end_with_launcher()
    keep_freed_memory()
    yield_cores()
    quieten()
    fall_back()
    try:
        run(sys.argv[1:])
    except Exception as error:
        if os.environ.get("MNIST_CNN_DEBUG", "0") not in ("", "0"):
            raise
        if (line := users_mistake(error)) is None:
            traceback.print_exc()
            if code := users_code(error):
                print(f"\nThis arose in code that is not of mnist-cnn: {code}", file=sys.stderr)
                sys.exit(USERS_BUG)
            print(BUG_REPORT.format(shlex.join(sys.argv)), file=sys.stderr)
            sys.exit(BUG)
        print(f"error: {line}", "(--debug shows the traceback)", sep="\n", file=sys.stderr)
        sys.exit(USER_ERROR)


def users_mistake(error: Exception) -> str | None:
    """What to tell the user of what he or his machine did; None: the error is a bug of ours."""
    lightning = sys.modules.get("lightning.pytorch.utilities.exceptions")  # seconds, if not there
    others = (ModuleNotFoundError, *([lightning.MisconfigurationException] if lightning else []))
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error)
    text = " ".join(str(error).split())
    if isinstance(error, others):
        return text
    return text if any(words in text for words in REFUSALS) else None


def users_code(error: Exception) -> str | None:
    """Where in a class of the user's own an error arose, if it did: file and line.

    Whatever library it came from, it is his who called that last.
    """
    ours = Path(__file__).parent.resolve()
    paths = sysconfig.get_paths()
    standard = [Path(paths[name]).resolve() for name in ("stdlib", "platstdlib")]
    installed = {"site-packages", "dist-packages"}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        if ours in path.parents:
            return None
        library = installed.intersection(path.parts) or not set(standard).isdisjoint(path.parents)
        made = any(part.startswith("torchinductor_") for part in path.parts)
        if path.is_file() and not library and not made:
            return f"{path}, line {frame.lineno}"
    return None


LIGHTNINGS = ("fit", "validate", "test", "predict")  # commands
#: This project's commands, and the modules whose `main` they are.
COMMANDS = {
    "configs": "mnist_cnn.settings.config_files",
    "export": "mnist_cnn.use.export",
    "export-keras": "mnist_cnn.keras_io",
    "import-keras": "mnist_cnn.keras_io",
    "predict": "mnist_cnn.use.predict",  # of pictures
    "serve": "mnist_cnn.serve",
}
#: What others call some of them.
CALLED = {"train": "fit", "evaluate": "test", "eval": "test"}


def run(arguments: list[str]) -> None:
    """Run a command: this project's, or one of Lightning's."""
    command, *rest = arguments or [""]
    if command == "--version":  # Lightning's parser knows it, too, after seconds
        return print("mnist-cnn", __version__)
    known = list(dict.fromkeys([*LIGHTNINGS, *COMMANDS]))  # both have predict
    if command not in known and not command.startswith("-"):
        near = difflib.get_close_matches(command, [*known, *CALLED], n=1)
        wrong = f"there is no command {command}" if command else "no command is given"
        better = (
            f"did you mean {CALLED.get(near[0], near[0])}?"
            if near
            else f"the commands are {', '.join(known)}"
        )
        usage_error("mnist-cnn", f"{wrong}; {better}")
    if command in COMMANDS:
        with importing():
            module = import_module(COMMANDS[command])
        if command.endswith("-keras"):
            return module.main(arguments)
        if command != "predict" or module.takes(rest):
            return module.main(rest)
    with importing():
        cli = import_module("mnist_cnn.cli")
    cli.MNISTCLI()


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


def yield_cores() -> None:
    """Let OpenMP's idle threads leave the cores to the threads of `kernels`.

    For how many turns of a loop the OpenMP of torch's Linux builds keeps a core busy that has
    nothing to do: by default so many that a step of the Keras net takes 1.1 of the time. Read when
    torch is loaded.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


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
