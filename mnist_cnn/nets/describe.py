"""A net as plain numbers and strings, as it stands in configurations and checkpoints."""

from __future__ import annotations

from typing import Any

from torch import nn

ROOM = __name__.rpartition(".")[0]


def arguments(of_init: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an ``__init__``, from its ``locals()`` where it begins.

    What a net keeps of them as ``hparams`` is what `describe` knows; Lightning's
    ``save_hyperparameters`` leaves the same. Without it who only uses a net needs no Lightning,
    which takes twice as long to import as torch.
    """
    return {name: value for name, value in of_init.items() if name not in ("self", "__class__")}


def describe(net: nn.Module) -> dict[str, Any]:
    """A net as it stands in a configuration: its class and the arguments that it was made with.

    A net of this project is named by the package that exports it, whichever file it is in.

    >>> from mnist_cnn.nets import KerasCNN
    >>> description = describe(KerasCNN(hidden=32))
    >>> description["class_path"], description["init_args"]["hidden"]
    ('mnist_cnn.nets.KerasCNN', 32)
    """
    cls = type(net)
    module = ROOM if cls.__module__.startswith(f"{ROOM}.") else cls.__module__
    init_args = dict(getattr(net, "hparams", {}))
    return {"class_path": f"{module}.{cls.__qualname__}", "init_args": init_args}
