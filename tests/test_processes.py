"""Reading by several processes, and what holds while modules are imported."""

from __future__ import annotations

import gc
import os
import signal
import sys

import pytest

from mnist_cnn.errors import UserError
from mnist_cnn.importing import importing
from mnist_cnn.processes import cores, mapped


def end_itself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(sys.platform != "linux" or cores() < 2, reason="there are none to end")
def test_a_process_that_is_told_to_end_ends_and_a_line_says_so() -> None:
    # Whoever forks hands on how he leaves, which a pool would take for an answer.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with pytest.raises(UserError, match="was ended"), mapped(end_itself, range(20)) as found:
        list(found)


def test_what_is_computed_keeps_its_order() -> None:
    for count in (0, 1, 7, 8, 2_000):  # the last is more than is computed ahead
        with mapped(abs, range(-count, 0)) as found:
            assert list(found) == list(range(count, 0, -1))


def test_no_garbage_is_looked_for_while_modules_are_imported() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
