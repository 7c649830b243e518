"""The classes that a configuration can name: listed, and guessed from a misspelt name."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_cnn.nets import NETS
from mnist_cnn.training.augment import Augmentation

#: By setting, those that are named without their module: the package's, or all of a kind.
CLASSES: dict[str, tuple[type, ...]] = {
    "model.net": tuple(NETS.values()),
    "model.optimizer": (Optimizer,),
    "model.lr_scheduler": (LRScheduler,),
    "model.augment": (Augmentation,),
    "trainer.callbacks": (Callback,),
    "trainer.logger": (Logger,),
}
#: How jsonargparse's messages quote a class that is not there.
NOT_THERE = re.compile(
    r"import path string: ([\w.]+)"
    r"|class_path '([\w.]+)':\s+(?:No module|module)"
    r"|callable class: (?:No module|module).*Got value: ([\w.]+)",
    re.DOTALL,
)


def names(setting: str) -> list[str]:
    """The names of the classes for a setting; of all classes, for one that is not in `CLASSES`."""
    bases = CLASSES.get(setting) or [base for bases in CLASSES.values() for base in bases]
    found = (cls for base in bases for cls in _subclasses(base) or [base])
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
    """What to add to a message of jsonargparse's about a class that is not there.

    >>> meant('Parser key "model.optimizer": Expected a dot import path string: Adm')
    '; did you mean Adam?'
    """
    if not (found := NOT_THERE.search(message)):
        return ""
    module, _, name = next(filter(None, found.groups())).rpartition(".")
    key = re.search(r'Parser key "([\w.]+)"', message)
    setting = key[1] if key else ""
    there = {other.lower(): other for other in names(setting)}
    if module in sys.modules:
        classes = [n for n, value in vars(sys.modules[module]).items() if isinstance(value, type)]
        there |= {other.lower(): f"{module}.{other}" for other in classes}
    if near := difflib.get_close_matches(name.lower(), there, n=1):
        return f"; did you mean {there[near[0]]}?"
    return f"; --{setting}.help lists those that there are" if setting in CLASSES else ""
