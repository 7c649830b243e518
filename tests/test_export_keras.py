"""Each of this project's nets answers in real Keras as it does here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mnist_cnn import EnsembleCNN, FastCNN, KerasCNN, MNISTClassifier, MNISTDataModule, RecordCNN
from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.checkpoints.files import BUNDLED
from mnist_cnn.errors import UserError
from mnist_cnn.keras_io import export_keras, import_keras
from mnist_cnn.keras_io.models import model_of
from mnist_cnn.nets import SequentialCNN
from mnist_cnn.training.adadelta import Adadelta
from tests.conftest import Result, save
from tests.support.needs import package
from tests.test_keras_io import answers, probabilities


@pytest.fixture(scope="module")
def keras() -> Any:
    return package("keras")


def norm() -> RecordCNN:
    return RecordCNN((3, 4, 5))


#: Nets, and how far ``test_shifts`` moves the images.
NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "fast": (lambda: FastCNN((3, 4), 8), 0),
    "fast, cropped": (lambda: FastCNN((3, 4), 8, border=3), 0),
    "record": (norm, 0),
    "record, shifted": (norm, 2),
    "classic, shifted": (lambda: KerasCNN((3, 4), 8), 1),
    "ensemble": (lambda: EnsembleCNN([norm(), KerasCNN((3, 4), 8), FastCNN((3, 4), 8), norm()]), 0),
    "ensemble, shifted": (lambda: EnsembleCNN([norm(), FastCNN((3, 4), 8)]), 1),
    "ensembles": (lambda: EnsembleCNN([EnsembleCNN([norm(), norm()]), EnsembleCNN([norm()])]), 0),
    "rectified logits": (
        lambda: SequentialCNN([{"flatten": True}, {"dense": 10, "activation": "relu"}]),
        0,
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_answers_in_keras_as_here(
    name: str, keras: Any, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    make, shifts = NETS[name]
    torch.manual_seed(0)
    model = MNISTClassifier(make(), test_shifts=shifts)
    for key, value in model.state_dict().items():  # offsets and running statistics too
        if value.is_floating_point():
            value += torch.rand_like(value) * (1 if "running" in key else 0.2)
    save(model, tmp_path / "x.ckpt")
    export_keras(tmp_path / "x.ckpt", tmp_path / "new" / "x.keras")
    images = mnist.test_set.images[:50]
    theirs = keras.models.load_model(tmp_path / "new" / "x.keras")
    found = answers(keras, theirs, images)
    np.testing.assert_allclose(found, probabilities(model, images), rtol=0, atol=1e-5)
    if name == "fast":  # a chain, which comes back
        back = import_keras(tmp_path / "new" / "x.keras", tmp_path / "back.ckpt")
        np.testing.assert_allclose(probabilities(back, images), found, rtol=0, atol=1e-5)


def test_the_included_model_answers_in_keras_as_here(
    cli: Callable[..., Result], keras: Any, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    done = cli("export-keras", "--out", tmp_path / "x.keras")
    assert done.code == 0, done.err
    images = mnist.test_set.images[:10]
    found = answers(keras, keras.models.load_model(tmp_path / "x.keras"), images)
    expected = probabilities(load_classifier(BUNDLED)[0], images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_adadelta_goes_on_in_keras_with_a_residual_net(
    keras: Any, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = MNISTClassifier(norm(), optimizer=lambda p: Adadelta(p, lr=0.5, rho=0.9))
    optimizer = model.configure_optimizers()
    logits = model(mnist.train_set.images[:32])
    nn.functional.cross_entropy(logits, mnist.train_set.labels[:32]).backward()
    optimizer.step()
    checkpoint = torch.load(save(model, tmp_path / "x.ckpt"), weights_only=True)
    torch.save(checkpoint | {"optimizer_states": [optimizer.state_dict()]}, tmp_path / "x.ckpt")
    export_keras(tmp_path / "x.ckpt", tmp_path / "x.keras")
    theirs = keras.models.load_model(tmp_path / "x.keras").optimizer
    assert float(theirs.learning_rate) == 0.5
    assert theirs.rho == 0.9
    assert int(theirs.iterations) == 1
    states = optimizer.state.values()
    for state, squares in zip(states, theirs._accumulated_grads, strict=True):
        expected = state["square_avg"].flatten().sort().values
        found = torch.from_numpy(keras.ops.convert_to_numpy(squares)).flatten().sort().values
        torch.testing.assert_close(found, expected)


def test_a_net_without_a_counterpart_is_refused_by_name() -> None:
    class Mine(nn.Module):
        pass

    with pytest.raises(UserError, match="Mine has no counterpart in Keras"):
        model_of(Mine())
    with pytest.raises(UserError, match="FastCNN with upright"):
        model_of(FastCNN(upright=0.5))
