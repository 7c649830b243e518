"""Keras's models here and ours in Keras: files that TensorFlow wrote, and real Keras on torch."""

from __future__ import annotations

import itertools
import json
import re
import shutil
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


#: Layers of other models, given ``keras.layers``. What comes first says of which images.
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
    "the beginner's": lambda layers: [
        layers.Input((28, 28)),
        layers.Flatten(),
        layers.Dense(16, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(10, activation="softmax"),
    ],
    "of rows": lambda layers: [
        layers.Input((784,)),
        layers.BatchNormalization(),
        layers.Dense(8, activation="relu"),
        layers.BatchNormalization(center=False),
        layers.Dense(10, activation="softmax"),
    ],
    "classic, reshaped": lambda layers: [
        layers.Input((28, 28)),
        layers.Reshape((28, 28, 1)),
        layers.Conv2D(3, 3, activation="relu"),
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Reshape((-1,)),
        layers.Dense(8, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ],
    "classic, of bytes": lambda layers: [
        layers.Input((784,)),
        layers.Rescaling(1 / 255),
        layers.Reshape((28, 28, -1)),
        layers.Conv2D(3, 3, activation="relu"),
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(8, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ],
    "rescaled from 0 to 1": lambda layers: [
        layers.Rescaling(2, offset=-1),
        layers.Conv2D(3, 3, strides=2, activation="relu"),
        layers.Rescaling(0.01, offset=0.5),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ],
    "batch normalisation": lambda layers: [
        layers.Conv2D(4, 3, use_bias=False),
        layers.BatchNormalization(scale=False),
        layers.Activation("relu"),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ],
    "averages": lambda layers: [
        layers.Conv2D(4, 3, activation="relu"),
        layers.AveragePooling2D((2, 3), strides=(2, 1)),
        layers.Conv2D(5, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10, activation="softmax"),
    ],
    "no dense layer": lambda layers: [
        layers.Conv2D(4, 3, strides=3, activation="relu"),
        layers.Conv2D(10, 1),
        layers.GlobalMaxPooling2D(),
        layers.Softmax(),
    ],
    "same": lambda layers: [
        layers.Conv2D(3, (4, 3), strides=(3, 2), padding="same", activation="tanh"),
        layers.Conv2D(4, 2, padding="same", activation="tanh"),
        layers.MaxPooling2D((2, 3), padding="same", strides=1),
        layers.AveragePooling2D(3, strides=1, padding="same"),
        layers.MaxPooling2D(2, padding="same"),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
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


def built(keras: Any, name: str, functional: bool = False) -> Any:
    """One of `VARIANTS` with random weights, biases and statistics too."""
    first, *layers = VARIANTS[name](keras.layers)
    if hasattr(first, "call"):
        first, layers = keras.Input((28, 28, 1)), [first, *layers]
    if functional:
        x = first
        for layer in layers:
            x = layer(x)
        model = keras.Model(first, x)
    else:
        model = keras.Sequential([first, *layers])
    random = np.random.default_rng(0)
    for weight in model.weights:
        values = random.normal(size=weight.shape) * 0.2
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    return model


def answers(keras: Any, model: Any, images: Tensor, name: str = "") -> Any:
    """Probabilities of a Keras model, whichever form of image it takes."""
    x = floats(images).reshape(-1, *model.input_shape[1:])
    output = model.predict(x * 255 if "bytes" in name else x, verbose=0)
    is_logits = name == "dense only"
    return torch.from_numpy(output).softmax(dim=1).numpy() if is_logits else output


LEGACY = ("names, strides, padding, no biases", "batch normalisation", "of rows")


@pytest.mark.parametrize(
    ("name", "suffix"), [*((x, ".keras") for x in VARIANTS), *((x, ".h5") for x in LEGACY)]
)
def test_other_models_come_in_and_go_out(
    name: str, suffix: str, keras: Any, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    theirs = built(keras, name, functional=suffix == ".h5")
    theirs.save(tmp_path / f"x{suffix}")
    model = import_keras(tmp_path / f"x{suffix}", tmp_path / "x.ckpt")
    assert isinstance(model.net, KerasCNN if name.startswith("classic") else SequentialCNN)
    images = mnist.test_set.images[:50]
    expected = answers(keras, theirs, images, name)
    np.testing.assert_allclose(probabilities(model, images), expected, rtol=0, atol=2e-6)
    export_keras(tmp_path / "x.ckpt", tmp_path / "out.keras")
    back = keras.models.load_model(tmp_path / "out.keras")
    np.testing.assert_allclose(answers(keras, back, images), expected, rtol=0, atol=2e-6)


def test_a_functional_chain_comes_in(keras: Any, mnist: MNISTDataModule, tmp_path: Path) -> None:
    theirs = built(keras, "batch normalisation", functional=True)
    theirs.save(tmp_path / "x.keras")
    images = mnist.test_set.images[:50]
    expected = answers(keras, theirs, images)
    model = import_keras(tmp_path / "x.keras", tmp_path / "x.ckpt")
    np.testing.assert_allclose(probabilities(model, images), expected, rtol=0, atol=2e-6)

    def as_keras_2(config: Any) -> None:
        for before, layer in itertools.pairwise(config["config"]["layers"]):
            layer["inbound_nodes"] = [[[before["name"], 0, 0, {}]]]
        config["config"]["output_layers"] = [config["config"]["output_layers"]]

    model = import_keras(rewritten(tmp_path / "x.keras", as_keras_2), tmp_path / "x.ckpt")
    np.testing.assert_allclose(probabilities(model, images), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda k: k.layers.LayerNormalization(name="norm"), "norm.*LayerNorm.*not supported"),
        (lambda k: k.layers.BatchNormalization(axis=1, name="rows"), "rows.*axis=1"),
        (lambda k: k.layers.GlobalMaxPooling2D(keepdims=True, name="top"), "top.*keepdims"),
        (lambda k: k.layers.Dense(3, name="each"), "each.*3 axes"),
        (lambda k: k.layers.Reshape((14, 56), name="odd"), r"odd.*\(14, 56\)"),
        (lambda k: k.layers.Rescaling([2.0], name="list"), r"list.*scale=\[2.0\]"),
        (lambda k: k.layers.Conv2D(3, 3, dilation_rate=2, name="wide"), "wide.*dilation_rate"),
        (lambda k: k.layers.Conv2D(3, 3, activation="gelu", name="g"), "g .*activation gelu"),
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

    def refused(model: Any, words: str, name: str = "x.keras") -> None:
        (model.save_weights if "weights" in name else model.save)(tmp_path / name)
        with pytest.raises(KerasFileError, match=words):
            import_keras(tmp_path / name, tmp_path / "x.ckpt")

    colour = keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(10)])
    refused(colour, r"\(32, 32, 3\).*\(28, 28, 1\)")
    image = keras.Input((28, 28, 1))
    row = layers.Flatten()(image)
    both = layers.Add(name="sum")([layers.Dense(10)(row), layers.Dense(10)(row)])
    refused(keras.Model(image, both), "dense.*Dense.*chains")
    refused(keras.Model(image, [row, layers.Dense(10)(row)]), "several outputs")
    for units in (11, 9):
        end = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(units)])
        refused(end, rf"10 numbers.*\({units},\)")
        refused(end, rf"10 numbers.*\({units},\)", "x.weights.h5")
    squashed = layers.Dense(10, activation="sigmoid", name="end")(row)
    refused(keras.Model(image, squashed), "end.*softmax.*sigmoid")
    deep = keras.Sequential([keras.Input((28, 28, 1)), *VARIANTS["deep"](layers)])
    refused(deep, r"model\.save", "deep.weights.h5")


def test_a_folder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(KerasFileError, match="is a folder; name a"):
        import_keras(tmp_path, tmp_path / "x.ckpt")
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(KerasFileError, match=r"SavedModel.*save\('model.h5'\)"):
        import_keras(tmp_path, tmp_path / "x.ckpt")


def test_weights_alone_are_given_an_activation(
    keras: Any, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    layers = keras.layers
    chain = [layers.Conv2D(3, 3, activation="tanh", use_bias=False), layers.Flatten()]
    chain += [layers.Dense(5, activation="tanh"), layers.Dense(10, activation="softmax")]
    theirs = keras.Sequential([keras.Input((28, 28, 1)), *chain])
    theirs.save_weights(tmp_path / "x.weights.h5")
    lines: list[str] = []
    take: dict[str, Any] = {"checkpoint": tmp_path / "x.ckpt", "tell": lines.append}
    model = import_keras(tmp_path / "x.weights.h5", **take)
    assert "relu" in lines[0]
    images = mnist.test_set.images[:50]
    expected = answers(keras, theirs, images)
    assert np.abs(probabilities(model, images) - expected).max() > 1e-3
    lines.clear()
    model = import_keras(tmp_path / "x.weights.h5", activation="tanh", **take)
    np.testing.assert_allclose(probabilities(model, images), expected, rtol=0, atol=2e-6)
    assert "relu" not in " ".join(lines)
    theirs.save(tmp_path / "x.keras")
    with pytest.raises(KerasFileError, match=r"--activation tanh: .* says which"):
        import_keras(tmp_path / "x.keras", activation="tanh", **take)


@pytest.mark.parametrize("name", ["small.keras", "small.weights.h5", "small.h5"])
def test_a_damaged_file_is_a_clear_error(name: str, tmp_path: Path) -> None:
    content = (FILES / name).read_bytes()
    for size in (0, 100, len(content) // 2):
        (tmp_path / name).write_bytes(content[:size])
        with pytest.raises(KerasFileError, match=r"damaged|not"):
            import_keras(tmp_path / name, tmp_path / "x.ckpt")
    with pytest.raises(KerasFileError, match="no such file"):
        import_keras(tmp_path / "nope.keras", tmp_path / "x.ckpt")


def rewritten(file: Path, change: Callable[[Any], None]) -> Path:
    """A copy of a ``.keras`` file in which a configuration was changed."""
    copy = file.with_name(f"rewritten_{file.name}")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(copy, "w") as new:
        config = json.loads(old.read("config.json"))
        change(config)
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    return copy


def test_weights_that_are_not_those_of_the_layers_are_refused(tmp_path: Path) -> None:
    shutil.copy(FILES / "small.keras", tmp_path)

    def fewer(config: Any) -> None:
        config["config"]["layers"][1]["config"]["filters"] = 5

    def none(config: Any) -> None:
        config["config"]["layers"][-1]["class_name"] = "Dens"

    for change, words in ((fewer, "weights are not those"), (none, "not supported")):
        with pytest.raises(KerasFileError, match=words):
            import_keras(rewritten(tmp_path / "small.keras", change), tmp_path / "x.ckpt")


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
    with pytest.raises(CheckpointError, match="is not of one of this project's nets"):
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


@pytest.mark.slow
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
