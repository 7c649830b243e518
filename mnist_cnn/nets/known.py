"""The nets that are made from a description: this project's, and no other class."""

from __future__ import annotations

from typing import Any

from torch import nn

from mnist_cnn.errors import UserError
from mnist_cnn.nets.describe import ROOM
from mnist_cnn.nets.ensemble import EnsembleCNN
from mnist_cnn.nets.fast_cnn import FastCNN
from mnist_cnn.nets.keras_cnn import KerasCNN
from mnist_cnn.nets.record_cnn import RecordCNN
from mnist_cnn.nets.sequential import SequentialCNN

NETS: dict[str, type[nn.Module]] = {
    f"{ROOM}.{net.__qualname__}": net
    for net in (EnsembleCNN, FastCNN, KerasCNN, RecordCNN, SequentialCNN)
}


def make_net(description: dict[str, Any]) -> nn.Module:
    """The net that `describe` describes, with new weights.

    Raises:
        UserError: If it is not one of `NETS`. No other class is made: it could run any code.
    """
    name = description["class_path"]
    if name not in NETS:
        raise UserError(f"{name} is not one of this project's nets: give the net itself, net=…")
    init_args = dict(description["init_args"])
    if "nets" in init_args:
        init_args["nets"] = [make_net(net) for net in init_args["nets"]]
    return NETS[name](**init_args)
