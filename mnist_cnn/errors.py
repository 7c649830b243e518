"""What a user is told: what he can mend, as a line. Anything else is a bug of ours."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn


class UserError(ValueError):
    """What a user did, asked for or has on the machine cannot work; the message says what would.

    The command line prints it as a line and exits with status 2. Any other exception shows its
    traceback: a bug, or an error in a class of the user's own.
    """


def warn(message: str) -> None:
    """Tell the user, once for all ranks, whatever filters Python's warnings have."""
    lightning = sys.modules.get("lightning.pytorch.utilities")  # without it there is one process
    if lightning is None or lightning.rank_zero_only.rank == 0:
        print(f"warning: {message}", file=sys.stderr, flush=True)


def usage_error(program: str, message: str) -> NoReturn:
    """Say what is wrong with a command line, and what prints its options; leave with status 2."""
    print(f"error: {message}", f"(all options: {program} --help)", sep="\n", file=sys.stderr)
    sys.exit(2)


class OptionParser(argparse.ArgumentParser):
    """Takes no abbreviations, and says what is wrong in two lines instead of a page of usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Leave with status 2."""
        usage_error(self.prog, message)
