"""The configurations that the package carries: found by name in any folder, and listed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile

#: In a wheel they are inside of the package, in a checkout beside it.
FOLDER = next(
    folder
    for folder in (Path(__file__).with_name("configs"), Path(__file__).parents[1] / "configs")
    if folder.is_dir()
)


class ConfigFile(ActionConfigFile):
    """``--config FILE``: a file, or the name of one that the package carries."""

    def __call__(self, parser: Any, namespace: Any, value: Any, *more: Any) -> None:
        """Read a configuration over what is there."""
        super().__call__(parser, namespace, find(value), *more)


def defaults() -> dict[str, Any]:
    """What every command does that is given no configuration: ``cnn.yaml``, as flags and values."""
    content = yaml.safe_load((FOLDER / "cnn.yaml").read_text(encoding="utf-8"))
    flags: dict[str, Any] = {}
    for section, values in content.items():
        named = values.items() if isinstance(values, dict) else ()
        flags |= {f"{section}.{name}": value for name, value in named} or {section: values}
    return flags


def find(name: str) -> str:
    """The file that a user means: one in his current folder wins over the package's.

    >>> find("no-such.yaml")
    'no-such.yaml'
    """
    carried = FOLDER / name
    return str(carried) if not Path(name).exists() and carried.is_file() else name


def listed() -> Iterator[str]:
    """A line for each configuration: its name, and what its first comment says."""
    files = sorted(FOLDER.glob("*.yaml"))
    width = max(len(file.name) for file in files)
    for file in files:
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        yield f"{file.name:{width}}  {first.removeprefix('#').strip()}"


def main(arguments: list[str]) -> None:
    """The command ``configs``."""
    parser = argparse.ArgumentParser(
        prog="mnist-cnn configs",
        description="List the configurations that `--config NAME` finds in any folder. They are "
        f"in {FOLDER}.",
    )
    parser.parse_args(arguments)
    print(*listed(), sep="\n")
