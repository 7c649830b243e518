"""What a user is told: what he can mend, as a line. Anything else is a bug of ours."""

from __future__ import annotations

import sys


class UserError(ValueError):
    """What a user did, asked for or has on the machine cannot work; the message says what would.

    The command line prints it as a line and exits with status 2. Any other exception is a bug and
    shows its traceback.
    """


def warn(message: str) -> None:
    """Tell the user, once for all ranks, whatever filters Python's warnings have."""
    from lightning.pytorch.utilities import rank_zero_only  # seconds, for who needs no Lightning

    rank_zero_only(print)(f"warning: {message}", file=sys.stderr, flush=True)
