"""Configurations: those that the package carries, found by name and listed; how they combine."""

from __future__ import annotations

import argparse
import difflib
import inspect
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from pydoc import locate
from typing import Any, ClassVar

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, _typehints

from mnist_cnn.errors import OptionParser, UserError, warn
from mnist_cnn.file_system.paths import user_path

#: In a wheel they are inside of the package, in a checkout beside it.
FOLDER = next(
    folder for folder in (Path(__file__).parents[n] / "configs" for n in (1, 2)) if folder.is_dir()
)
#: Which of the classes of one name is meant by it: the one that is torch's, and more.
MEANT = {
    "Adadelta": "mnist_cnn.Adadelta",
    "ReduceLROnPlateau": "lightning.pytorch.cli.ReduceLROnPlateau",
}
#: Settings that another class takes over: where a run is logged is not the logger's matter.
INHERITED = ("save_dir",)


RESOLVE = _typehints.resolve_class_path_by_name


class ConfigFile(ActionConfigFile):
    """``--config FILE``: a file, or the name of one that the package carries."""

    def __call__(self, parser: Any, namespace: Any, value: Any, *more: Any) -> None:
        """Read a configuration over what is there."""
        path = find(value)
        if Path(path).is_file() or ":" not in Path(path).name:  # else it may be YAML itself
            read(path)  # its errors name the file; those of the parser do not
        super().__call__(parser, namespace, path, *more)
        Afresh.configured.update(_class_names(namespace.as_dict()))


class Afresh:
    """Lets a class that takes another's place start from its own defaults, and says so.

    jsonargparse (4.53) hands it what was set of the other and has a name that it knows, to Adam the
    learning rate 1.0 of Adadelta. It refuses the name that two classes have. It has no hooks to
    change that: this takes the place of two of its functions.
    """

    #: Names of the classes that configuration files have named.
    configured: ClassVar[set[str]] = set()
    said: ClassVar[set[str]] = set()

    @classmethod
    def install(cls) -> None:
        """For a command line."""
        cls.configured, cls.said = set(), set()
        _typehints.discard_init_args_on_class_path_change = cls.discard
        _typehints.resolve_class_path_by_name = cls.resolve  # type: ignore[assignment]
        # A default may be of an enumeration, which no file can hold: Lightning's Timer has one.
        yaml.SafeDumper.add_multi_representer(Enum, lambda to, one: to.represent_data(one.value))

    @staticmethod
    def resolve(of: Any, name: str) -> str:
        """The import path of a class that is named without it."""
        return MEANT.get(name) or RESOLVE(of, name)

    @classmethod
    def discard(cls, _: Any, former: Any, new: Any) -> None:
        """Drop the settings of the former class, and say so of those that a file had."""
        if not former or "init_args" not in former:
            return
        paths = former["class_path"], new["class_path"]
        then, now = (locate(path) or path for path in paths)
        if then is now or paths[0] == paths[1]:
            return
        ours = inspect.signature(now).parameters if callable(now) else {}
        settings, own = former["init_args"], _own_settings(then)
        kept = [name for name in INHERITED if name in ours]
        names = [name for name in list(settings.keys()) if name not in kept]
        values = {name: settings.pop(name) for name in names}
        dropped = [name for name in names if values[name] != own.get(name, values[name])]
        was, is_now = (path.rpartition(".")[2] for path in paths)
        if dropped and was in cls.configured - cls.said:
            cls.said.add(was)
            warn(
                f"{is_now} takes the place of {was} and starts from its own defaults: dropped "
                f"{', '.join(dropped)}"
            )


def _own_settings(cls: Any) -> dict[str, Any]:
    """The defaults of a class, also of those settings that it hands on."""
    parser = ArgumentParser()
    if isinstance(cls, type):
        parser.add_class_arguments(cls, "its", fail_untyped=False)
    return dict(parser.get_defaults().get("its") or {})


def _class_names(content: Any) -> Iterator[str]:
    """The names of all classes in a configuration."""
    if isinstance(content, dict):
        if isinstance(path := content.get("class_path"), str):
            yield path.rpartition(".")[2]
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from _class_names(part)


def defaults() -> dict[str, Any]:
    """What every command does that is given no configuration: ``cnn.yaml``, as flags and values."""
    return flags(read(FOLDER / "cnn.yaml"))


def flags(content: dict[str, Any]) -> dict[str, Any]:
    """What a configuration says, by the names of flags.

    >>> flags({"trainer": {"max_epochs": 3}, "ckpt_path": "last"})
    {'trainer.max_epochs': 3, 'ckpt_path': 'last'}
    """
    found: dict[str, Any] = {}
    for section, values in content.items():
        named = values.items() if isinstance(values, dict) else ()
        found |= {f"{section}.{name}": value for name, value in named} or {section: values}
    return found


def read(path: str | Path) -> dict[str, Any]:
    """The content of a configuration file.

    Raises:
        UserError: If it cannot be read, or is no configuration; the message says where and why.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        carried = [file.stem for file in FOLDER.glob("*.yaml")]
        near = difflib.get_close_matches(Path(path).stem, carried, n=1, cutoff=0.75)
        more = f"; did you mean {near[0]}.yaml?" if near else ""
        raise UserError(f"--config {path}: {error.strerror}{more}") from error
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise UserError(f"--config {path}: is not a text file in UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"--config {path}{line}: {error.problem or error.context}") from error
    if not isinstance(content, dict):
        what = "is empty" if content is None else "is not a configuration"
        raise UserError(
            f"--config {path}: {what}; it holds sections with settings, such as "
            "trainer: {max_epochs: 3}"
        )
    return content


def find(name: str) -> str:
    """The file that a user means: one in his current folder wins over the package's.

    >>> find("no-such.yaml"), Path(find("cnn")).name
    ('no-such.yaml', 'cnn.yaml')
    """
    name = user_path(name)
    carried = [file for file in (FOLDER / name, FOLDER / f"{name}.yaml") if file.is_file()]
    return str(carried[0]) if carried and not Path(name).exists() else name


def expand_paths(config: Any) -> None:
    """Apply `user_path` to all paths in a configuration: what is named ``…dir`` or ``…path``."""
    for value in config if isinstance(config, list) else ():
        expand_paths(value)
    for name, value in vars(config).items() if isinstance(config, Namespace) else ():
        if isinstance(value, (str, Path)) and name.endswith(("dir", "path")):
            config[name] = type(value)(user_path(value))
        else:
            expand_paths(value)


def named(arguments: Sequence[str]) -> list[str]:
    """The files that a command line names as configurations, in their order.

    >>> named(["fit", "--config", "mine.yaml", "--trainer.logger", "false", "-c=no-such.yaml"])
    ['mine.yaml', 'no-such.yaml']
    """
    return [find(name) for name in _apart(arguments)[0]]


def first(arguments: Sequence[str]) -> list[str]:
    """A command's arguments with the configurations first: what follows wins over what is before.

    >>> first(["--trainer.max_epochs", "3", "--config", "mine.yaml"])
    ['--config=mine.yaml', '--trainer.max_epochs', '3']
    """
    try:
        files, others = _apart(arguments)
    except argparse.ArgumentError:  # for the parser to say
        return list(arguments)
    return [*(f"--config={name}" for name in files), *others]


def _apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The configurations that a command line names, and all else."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    known, others = parser.parse_known_args(arguments)
    return [name.removeprefix("=") for name in known.config], others


def listed() -> Iterator[str]:
    """A line for each configuration: its name, and what its first comment says."""
    files = sorted(FOLDER.glob("*.yaml"))
    width = max(len(file.name) for file in files)
    for file in files:
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        yield f"{file.name:{width}}  {first.removeprefix('#').strip()}"


def main(arguments: list[str]) -> None:
    """The command ``configs``."""
    parser = OptionParser(
        prog="mnist-cnn configs",
        description="List the configurations that `--config NAME` finds in any folder. They are "
        f"in {FOLDER}.",
    )
    parser.parse_args(arguments)
    print(*listed(), sep="\n")
