"""The command line's parser, and what jsonargparse leaves out: the classes there are, the line."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_cnn.errors import usage_error
from mnist_cnn.nets import NETS
from mnist_cnn.settings import config_files
from mnist_cnn.settings.plain_words import NO_SUCH_CLASS, NOT_IMPORTED, REFUSED, in_plain_words
from mnist_cnn.training.augment import Augmentation
from mnist_cnn.training.averaging import MovingAverage
from mnist_cnn.training.pens import RandomPen

#: By setting, those that are named without their module: the package's, or all of a kind that are
#: imported.
CLASSES: dict[str, tuple[type, ...]] = {
    "model.net": tuple(NETS.values()),
    "model.optimizer": (Optimizer,),
    "model.lr_scheduler": (LRScheduler,),
    "model.augment": (Augmentation, RandomPen),
    "trainer.callbacks": (Callback, MovingAverage),
    "trainer.logger": (Logger,),
}
#: What others call our flags, one of which no parser knows before it knows the class.
CALLED = dict.fromkeys(("lr", "learning_rate"), "--model.optimizer.lr") | dict.fromkeys(
    ("epochs", "num_epochs", "n_epochs"), "--trainer.max_epochs"
)
#: How plain messages quote a class that is not there.
NOT_THERE = re.compile(rf"--(\S+) ([\w.]+): (?:{NO_SUCH_CLASS}|{NOT_IMPORTED.pattern})")
#: How jsonargparse's messages quote a setting.
QUOTED = re.compile(r"Parser key \"([\w.]+)\"|does not accept option '([\w.]+)'")


def names(setting: str) -> list[str]:
    """The names of the classes for a setting; of all classes, for one that is not in `CLASSES`."""
    bases = CLASSES.get(setting) or [base for bases in CLASSES.values() for base in bases]
    nets = [base for base in bases if base in NETS.values()]  # of the others, those that derive
    found = [*nets, *(cls for base in bases for cls in _subclasses(base))]
    return sorted({cls.__name__ for cls in found if not cls.__name__.startswith("_")})


def _subclasses(base: type) -> list[type]:
    direct: list[type] = base.__subclasses__()
    return [cls for sub in direct for cls in (sub, *_subclasses(sub))]


def listing(arguments: Sequence[str]) -> str | None:
    """What ``--model.net.help`` and its like ask for, where no class is named after it."""
    for argument, value in zip(arguments, [*arguments[1:], "-"], strict=True):
        setting = argument.removeprefix("--").removesuffix(".help")
        if argument == f"--{setting}.help" and setting in CLASSES and value.startswith("-"):
            known = names(setting)
            return (
                f"Classes for --{setting}: {', '.join(known)}; and your own, by import path.\n"
                f"The settings of one: {argument} {known[-1]}"
            )
    return None


def meant(message: str) -> str:
    """What to add to a plain message about a class that is not there.

    >>> meant("--model.optimizer Adm: there is no such class")
    '; did you mean Adam?'
    """
    if not (found := NOT_THERE.match(message)):
        return ""
    setting, class_path = found.groups()
    module, _, name = class_path.rpartition(".")
    there = {other.lower(): other for other in names(setting)}
    if module in sys.modules:
        classes = [n for n, value in vars(sys.modules[module]).items() if isinstance(value, type)]
        there |= {other.lower(): f"{module}.{other}" for other in classes}
    if near := difflib.get_close_matches(name.lower(), there, n=1):
        return f"; did you mean {there[near[0]]}?"
    return f"; --{setting}.help lists those that there are" if setting in CLASSES else ""


def flag_meant(message: str, flags: Iterable[str]) -> str:
    """What to add to a message about a flag that is not there.

    >>> flag_meant("unrecognized arguments: --batch_size=64", ["--data.batch_size"])
    '; did you mean --data.batch_size?'
    """
    if found := re.search(r"(?i)unrecognized arguments: (\S+\.ya?ml)$", message):
        return f"; did you mean --config {found[1]}?"
    if not (found := re.search(r"(?i)unrecognized arguments: --([\w.]+)", message)):
        return ""
    there = CALLED | {flag.rpartition(".")[2].lstrip("-"): flag for flag in flags}
    name = found[1].rpartition(".")[2]
    near = [name] if name in there else difflib.get_close_matches(name, there, n=2, cutoff=0.75)
    known = dict.fromkeys(there[name] for name in near)  # one flag may have two such names
    return f"; did you mean {' or '.join(known)}?" if near else ""


def where(message: str, arguments: Sequence[str]) -> str:
    """Which line of which configuration a message is about, if of any: " (mine.yaml, line 3)".

    Args:
        message: It quotes a setting by its key.
        arguments: Of the command line. What they set themselves, no configuration did.
    """
    if not (quoted := QUOTED.search(message)):
        return ""
    key = quoted[1] or quoted[2]
    given = (argument.removeprefix("--").partition("=")[0] for argument in arguments)
    if any(name == key or name.startswith((f"{key}.", f"{key}+")) for name in given):
        return ""
    inner = REFUSED.search(message)
    for name in filter(os.path.isfile, reversed(config_files.named(arguments))):
        node = yaml.compose(Path(name).read_text(encoding="utf-8"))
        for path in ([key, "init_args", inner[1]] if inner else [], [key]):
            if path and (line := _line(node, ".".join(path).split("."))):
                return f" ({name}, line {line})"
    return ""


def _line(node: yaml.Node, path: list[str]) -> int | None:
    """The line, from 1, of a setting in a configuration; None if it is not there."""
    first, *rest = path
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value == first:
            return _line(value, rest) if rest else key.start_mark.line + 1
    return None


class ArgumentParser(LightningArgumentParser):
    """Takes no abbreviations, and says what is wrong in two lines instead of a page of usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_args(self, args: Any = None, *more: Any, **kwargs: Any) -> Any:
        """Parse; a flag wins over configurations wherever it stands, as in most programs."""
        if self._subcommands_action is None and args is not None:  # a command's own arguments
            args = config_files.first(args)
        return super().parse_args(args, *more, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # a part of another parser, which handles it
            super().error(message, ex)
        if debugging() and ex is not None:
            raise ex
        parser = getattr(ex, "subcommand_parser", None) or self
        flags = (f for a in parser._actions for f in a.option_strings if not f.endswith("+"))
        plain = in_plain_words(message)
        more = meant(plain) + flag_meant(message, flags) + where(message, sys.argv)
        usage_error(parser.prog.replace(" [options]", ""), plain + more)


def debugging() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get("MNIST_CNN_DEBUG", "0") not in ("", "0")
