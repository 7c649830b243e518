"""Every command where the output knows ASCII only."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from mnist_cnn.reports.output import ERRORS
from tests.conftest import SHORT, SMALL, Result


def ascii_output(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Let standard output and error take ASCII only, from here on; what they have got."""
    both = io.BytesIO()
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(both, encoding="ascii", write_through=True)
        monkeypatch.setattr(sys, name, stream)
    return lambda: both.getvalue().decode("ascii")


RICH = "--trainer.callbacks+=lightning.pytorch.callbacks.Rich"


@pytest.mark.parametrize(
    "callbacks",
    [(), pytest.param((f"{RICH}ProgressBar", f"{RICH}ModelSummary"), marks=pytest.mark.slow)],
)
def test_a_training_with_bars_and_tables(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, callbacks: tuple[str, ...]
) -> None:
    shown = ascii_output(monkeypatch)
    flags = ("--trainer.enable_model_summary=true", "--trainer.enable_progress_bar=true")
    done = cli("fit", *SHORT, *SMALL, *flags, *callbacks)
    assert done.code == 0, shown()
    assert "Best val_accuracy" in shown()


def test_other_commands(
    cli: Callable[..., Result],
    small_net: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = ascii_output(monkeypatch)
    picture = Image.new("L", (60, 60), 255)
    ImageDraw.Draw(picture).line([(30, 8), (30, 52)], 0, 5)
    picture.save(tmp_path / "é×.png")
    keras = tmp_path / "猫.keras"
    for command in (
        ("fit", "--help"),
        ("configs",),
        ("predict", tmp_path / "é×.png", "--ckpt_path", small_net),
        ("export-keras", small_net, "--out", keras),
        ("import-keras", keras, "--out", tmp_path / "x.ckpt"),
    ):
        assert cli(*command).code == 0, shown()
    assert cli("serve", tmp_path / "猫.ckpt").code == 2
    text = shown()
    assert "Channels of the two 3x3 convolutions" in " ".join(text.split()) or "28x28" in text
    assert f"{tmp_path}/\\xe9x.png" in text
    assert "\\u732b.ckpt: no such file" in text


def test_what_an_encoding_has_stays_as_it_is() -> None:
    line = "28×28 … █ 猫 \udce9"  # the last: a byte of a file's name that is no text
    assert line.encode("ascii", ERRORS) == b"28x28 ... # \\u732b \\udce9"
    assert line.encode("cp437", ERRORS) == b"28x28 ... \xdb \\u732b \\udce9"
    assert line.encode("utf-8", ERRORS).decode() == "28×28 … █ 猫 \\udce9"
