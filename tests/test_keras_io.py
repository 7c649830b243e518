"""Keras's models here and ours in Keras: files that TensorFlow wrote, and real Keras on torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_cnn import KerasCNN, MNISTClassifier, MNISTDataModule
from mnist_cnn.checkpoints.files import CheckpointError
from mnist_cnn.keras_io import export_keras, import_keras, to_keras
from mnist_cnn.keras_io.files import KerasFileError
from mnist_cnn.nets import SequentialCNN
from tests.conftest import SHORT, Result
from tests.support.needs import package

FILES = Path(__file__).parent / "keras_files"  # see make.py there
STEPS = 5


@pytest.fixture(scope="module")
def keras() -> Any:
    return package("keras")


@pytest.fixture
def expected() -> dict[str, Any]:
    with np.load(FILES / "expected.npz") as arrays:
        return dict(arrays)


def floats(images: Tensor) -> Any:
    """Images as Keras takes them."""
    return images.numpy()[..., None].astype("float32") / 255


def probabilities(model: MNISTClassifier, images: Tensor) -> Any:
    with torch.inference_mode():
        return model.eval()(images).softmax(dim=1).numpy()


def train(
    model: MNISTClassifier, data: MNISTDataModule, first: int = 0, optimizer: Any = None
) -> Any:
    """Losses of steps on the training images in order, without dropout."""
    optimizer = optimizer or model.configure_optimizers()
    losses = []
    for step in range(first, STEPS):
        rows = slice(128 * step, 128 * (step + 1))
        logits = model.eval()(data.train_set.images[rows])
        loss = F.cross_entropy(logits, data.train_set.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def restored(path: Path) -> tuple[MNISTClassifier, Any]:
    """Model and optimizer of a checkpoint of a small classic stack."""
    checkpoint = torch.load(path, weights_only=True)
    model = MNISTClassifier(KerasCNN((4, 6), 16, 0.0, 0.0))
    model.load_state_dict(checkpoint["state_dict"])
    optimizer = model.configure_optimizers()
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    return model, optimizer


@pytest.mark.parametrize("name", ["small.keras", "small.weights.h5", "small.h5"])
def test_a_file_of_tensorflow_s_gives_the_same_probabilities_and_the_same_steps(
    name: str, mnist: MNISTDataModule, expected: dict[str, Any], tmp_path: Path
) -> None:
    model = import_keras(FILES / name, tmp_path / "x.ckpt")
    assert isinstance(model.net, KerasCNN)
    ours = probabilities(model, mnist.test_set.images[:64])
    np.testing.assert_allclose(ours, expected["probabilities"], rtol=0, atol=1e-6)
    losses = train(model, mnist)
    np.testing.assert_allclose(losses, expected["losses"], rtol=0, atol=1e-5)
    for i, parameter in enumerate(model.parameters()):
        np.testing.assert_allclose(to_keras(parameter), expected[f"weights_{i}"], rtol=0, atol=1e-4)


def for_any_keras(file: Path, folder: Path) -> Path:
    """A copy without the settings, all of them null, that older versions of Keras refuse.

    Keras 3.15 wrote the file; Python 3.10 has 3.12 at most.
    """
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(folder / file.name, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = re.sub(
                    rb', "(input_axes|output_axes|quantization_config)": null', b"", content
                )
            new.writestr(name, content)
    return folder / file.name


def test_adadelta_s_state_comes_along(
    mnist: MNISTDataModule, tmp_path: Path, keras: Any, expected: dict[str, Any]
) -> None:
    import_keras(FILES / "trained.keras", tmp_path / "x.ckpt")
    model, optimizer = restored(tmp_path / "x.ckpt")
    ours = probabilities(model, mnist.test_set.images[:64])
    np.testing.assert_allclose(ours, expected["probabilities_after"], rtol=0, atol=1e-6)
    theirs = keras.models.load_model(for_any_keras(FILES / "trained.keras", tmp_path))
    rows = slice(0, 128)
    y = keras.utils.to_categorical(mnist.train_set.labels[rows].numpy(), 10)
    theirs.train_on_batch(floats(mnist.train_set.images[rows]), y)
    train(model, mnist, first=STEPS - 1, optimizer=optimizer)  # other images: a control
    moved = [to_keras(p) for p in model.parameters()]
    model, optimizer = restored(tmp_path / "x.ckpt")
    loss = F.cross_entropy(model(mnist.train_set.images[rows]), mnist.train_set.labels[rows])
    loss.backward()
    optimizer.step()
    for ours, other, their in zip(model.parameters(), moved, theirs.get_weights(), strict=True):
        np.testing.assert_allclose(to_keras(ours), their, rtol=0, atol=2e-6)
        assert np.abs(other - their).max() > 1e-5


def classic(keras: Any) -> Any:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adadelta(1.0),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


@pytest.mark.parametrize("name", ["x.keras", "x.weights.h5", "x.h5"])
def test_the_classic_stack_goes_in_and_out(
    name: str, keras: Any, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(1)
    theirs = classic(keras)
    (theirs.save_weights if "weights" in name else theirs.save)(tmp_path / name)
    model = import_keras(tmp_path / name, tmp_path / "x.ckpt")
    assert isinstance(model.net, KerasCNN)
    assert model.net.hparams == KerasCNN().hparams
    images = mnist.test_set.images[:256]
    expected = theirs.predict(floats(images), verbose=0)
    np.testing.assert_allclose(probabilities(model, images), expected, rtol=0, atol=1e-6)
    export_keras(tmp_path / "x.ckpt", tmp_path / "out.keras")
    back = keras.models.load_model(tmp_path / "out.keras")
    np.testing.assert_allclose(back.predict(floats(images), verbose=0), expected, rtol=0, atol=1e-6)
    for ours, original in zip(back.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, original)


#: Layers of other models, given ``keras.layers``.
VARIANTS: dict[str, Callable[[Any], list[Any]]] = {
    "softmax on its own": lambda layers: [
        layers.Conv2D(3, 5),
        layers.ReLU(),
        layers.MaxPooling2D((2, 3)),
        layers.Flatten(),
        layers.Dense(10),
        layers.Softmax(),
    ],
    "names, strides, padding, no biases": lambda layers: [
        layers.Conv2D(5, (3, 4), padding="same", activation="tanh", name="eyes", use_bias=False),
        layers.Conv2D(4, 3, strides=2, activation="sigmoid", name="legs"),
        layers.MaxPooling2D(3, strides=2),
        layers.Flatten(name="flat"),
        layers.Dense(10, use_bias=False, name="head"),
        layers.Activation("softmax"),
    ],
    "deep": lambda layers: [
        layers.Conv2D(3, 3, activation="relu", padding="same"),
        layers.Conv2D(3, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Dropout(0.1),
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(12, activation="relu"),
        layers.Dense(11, activation="relu"),
        layers.Dropout(0.3),
        layers.Dense(10, activation="softmax"),
    ],
    "dense only": lambda layers: [
        layers.Flatten(),
        layers.Dense(7),
        layers.Activation("relu"),
        layers.Dense(10),
    ],
    "classic without dropout": lambda layers: [
        layers.Conv2D(3, 3, activation="relu"),
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(8, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ],
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", VARIANTS)
def test_other_sequential_models_come_in_and_go_out(
    name: str, suffix: str, keras: Any, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    theirs = keras.Sequential([keras.Input((28, 28, 1)), *VARIANTS[name](keras.layers)])
    for weight in theirs.weights:  # biases too
        weight.assign(np.random.default_rng(0).normal(size=weight.shape) * 0.2)
    theirs.save(tmp_path / f"x{suffix}")
    model = import_keras(tmp_path / f"x{suffix}", tmp_path / "x.ckpt")
    assert isinstance(model.net, KerasCNN if name.startswith("classic") else SequentialCNN)
    images = mnist.test_set.images[:50]
    output = theirs.predict(floats(images), verbose=0)
    if name == "dense only":  # its output is logits
        output = torch.from_numpy(output).softmax(dim=1).numpy()
    np.testing.assert_allclose(probabilities(model, images), output, rtol=0, atol=2e-6)
    export_keras(tmp_path / "x.ckpt", tmp_path / "out.keras")
    back = keras.models.load_model(tmp_path / "out.keras").predict(floats(images), verbose=0)
    np.testing.assert_allclose(back, output, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (
            lambda k: k.layers.BatchNormalization(name="norm"),
            "norm.*BatchNormalization.*not supported",
        ),
        (lambda k: k.layers.AveragePooling2D(2, name="mean"), "mean.*AveragePooling2D"),
        (lambda k: k.layers.Conv2D(3, 3, dilation_rate=2, name="wide"), "wide.*dilation_rate"),
        (lambda k: k.layers.Conv2D(3, 3, activation="gelu", name="g"), "g .*activation gelu"),
        (lambda k: k.layers.MaxPooling2D(2, padding="same", name="p"), "p .*padding=same"),
        (lambda k: k.layers.ReLU(max_value=6, name="six"), "six.*max_value"),
        (lambda k: k.layers.Softmax(name="early"), "layer flatten.*softmax"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    layer: Any, words: str, keras: Any, tmp_path: Path
) -> None:
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), layer(keras), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.save(tmp_path / "x.keras")
    with pytest.raises(KerasFileError, match=words):
        import_keras(tmp_path / "x.keras", tmp_path / "x.ckpt")
    assert not (tmp_path / "x.ckpt").exists()


def test_other_inputs_and_other_kinds_of_models_are_refused(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    colour = keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(10)])
    colour.save(tmp_path / "colour.keras")
    with pytest.raises(KerasFileError, match=r"\(32, 32, 3\).*\(28, 28, 1\)"):
        import_keras(tmp_path / "colour.keras", tmp_path / "x.ckpt")
    image = keras.Input((28, 28, 1))
    keras.Model(image, layers.Dense(10)(layers.Flatten()(image))).save(tmp_path / "graph.keras")
    with pytest.raises(KerasFileError, match="Functional"):
        import_keras(tmp_path / "graph.keras", tmp_path / "x.ckpt")
    deep = keras.Sequential([keras.Input((28, 28, 1)), *VARIANTS["deep"](layers)])
    deep.save_weights(tmp_path / "deep.weights.h5")
    with pytest.raises(KerasFileError, match=r"model\.save"):
        import_keras(tmp_path / "deep.weights.h5", tmp_path / "x.ckpt")


@pytest.mark.parametrize("name", ["small.keras", "small.weights.h5", "small.h5"])
def test_a_damaged_file_is_a_clear_error(name: str, tmp_path: Path) -> None:
    content = (FILES / name).read_bytes()
    for size in (0, 100, len(content) // 2):
        (tmp_path / name).write_bytes(content[:size])
        with pytest.raises(KerasFileError, match=r"damaged|not"):
            import_keras(tmp_path / name, tmp_path / "x.ckpt")
    with pytest.raises(KerasFileError, match="no such file"):
        import_keras(tmp_path / "nope.keras", tmp_path / "x.ckpt")


def test_weights_that_are_not_those_of_the_layers_are_refused(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(FILES / "small.keras") as old,
        zipfile.ZipFile(tmp_path / "x.keras", "w") as new,
    ):
        config = json.loads(old.read("config.json"))
        config["config"]["layers"][1]["config"]["filters"] = 5
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    with pytest.raises(KerasFileError, match="weights are not those"):
        import_keras(tmp_path / "x.keras", tmp_path / "x.ckpt")


def test_out_and_in_again_is_the_same_to_the_bit(tmp_path: Path) -> None:
    import_keras(FILES / "trained.keras", tmp_path / "a.ckpt")
    export_keras(tmp_path / "a.ckpt", tmp_path / "b.keras")
    import_keras(tmp_path / "b.keras", tmp_path / "b.ckpt")
    a, b = (torch.load(tmp_path / name, weights_only=True) for name in ("a.ckpt", "b.ckpt"))
    torch.testing.assert_close(b["state_dict"], a["state_dict"], rtol=0, atol=0)
    states = [c["optimizer_states"][0]["state"] for c in (b, a)]
    assert len(states[0]) == 8
    for key in states[1]:
        for name in ("square_avg", "acc_delta"):
            assert torch.equal(states[0][key][name], states[1][key][name])


def test_a_net_of_one_s_own_cannot_be_exported(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {}, "hyper_parameters": {"net": {"class_path": "my.Net"}}},
        tmp_path / "x.ckpt",
    )
    with pytest.raises(CheckpointError, match="does not hold a net of this project"):
        export_keras(tmp_path / "x.ckpt", tmp_path / "x.keras")


@pytest.mark.slow
def test_neither_way_needs_keras(tmp_path: Path) -> None:
    code = f"""
import sys
for name in ("keras", "tensorflow"):
    sys.modules[name] = None  # importing it fails
from mnist_cnn.keras_io import export_keras, import_keras
import_keras({str(FILES / "small.h5")!r}, {str(tmp_path / "x.ckpt")!r})
export_keras({str(tmp_path / "x.ckpt")!r}, {str(tmp_path / "x.keras")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "x.keras").exists()


def test_the_commands(cli: Callable[..., Result], tmp_path: Path, mnist: MNISTDataModule) -> None:
    checkpoint, target = tmp_path / "x.ckpt", tmp_path / "x.keras"
    result = cli("import-keras", FILES / "trained.keras", "--out", checkpoint)
    assert result.code == 0, result.err
    assert "KerasCNN, " in result.out
    assert "init_args.lr=1 " in result.out
    few = ("--data.eval_batch_size=500", "--trainer.limit_test_batches=2")
    tested = cli("test", "--ckpt_path", checkpoint, *few)  # the net comes from the checkpoint
    assert tested.code == 0, tested.err
    accuracy = float(tested.out.split("test/accuracy")[1].split()[1])
    images, labels = mnist.test_set.images[:1000], mnist.test_set.labels[:1000]
    right = probabilities(restored(checkpoint)[0], images).argmax(axis=1) == labels.numpy()
    assert accuracy == pytest.approx(right.mean(), abs=1e-6)
    assert cli("predict", "--ckpt_path", checkpoint, "--trainer.limit_predict_batches=1").code == 0
    small = ("--model.net.init_args.filters=[4,6]", "--model.net.init_args.hidden=16")
    on = cli("fit", *SHORT, *small, "--ckpt_path", checkpoint)
    assert on.code == 0, on.err
    assert "Best val_accuracy" in on.out
    assert cli("export-keras", checkpoint, "--out", target).code == 0
    assert target.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("import-keras", "nope.keras", "--out", "x.ckpt"), "no such file"),
        (("import-keras", "README.md", "--out", "x.ckpt"), "not a Keras model"),
        (("export-keras", "nope.ckpt", "--out", "x.keras"), "no such file"),
        (("export-keras", "nope.ckpt", "--out", "x.h5"), "end in .keras"),
    ],
)
def test_mistakes_end_in_a_line(
    cli: Callable[..., Result], arguments: tuple[str, ...], words: str
) -> None:
    result = cli(*arguments)
    assert result.code != 0
    assert "Traceback" not in result.err
    assert words in result.err
    assert len(result.err.strip().splitlines()) <= 2
