"""Text on a terminal or in a pipe whose encoding lacks some of its characters."""

from __future__ import annotations

import codecs
import io
import sys

#: What stands for characters of this project's and of Rich's lines where they cannot be shown.
PLAIN = {
    **{"…": "...", "–": "-", "—": "-", "×": "x", "·": ".", "→": "->", "≥": ">=", "≤": "<="},
    **dict.fromkeys("─━╸╺╴╶═", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋┡┩╇╭╮╰╯╞╡╪", "+"),
    **dict.fromkeys("█▉▊▋▌▍▎▏", "#"),
}
ERRORS = "mnist_cnn.plain"


def plain(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""Replace what an encoding lacks by ASCII, or by its number, as in ``\\u732b``.

    An error handler of `codecs`; use it as ``errors=ERRORS``.

    >>> "28×28 … 猫".encode("ascii", ERRORS)
    b'28x28 ... \\u732b'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    known = "".join(PLAIN.get(c, c.encode("ascii", "backslashreplace").decode()) for c in lacking)
    return known, error.end


codecs.register_error(ERRORS, plain)


def fall_back() -> None:
    """Let standard output and error show what they can of each line, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a notebook's
            stream.reconfigure(errors=ERRORS)
