"""What optimizers leave in Keras's files: as real Keras writes it, and as Keras 2 did."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mnist_cnn.keras_io import import_keras, to_keras
from mnist_cnn.keras_io.optimizers import optimizer_of, rate_at
from tests.support.needs import package
from tests.test_keras_io import FILES, classic, rewritten


@pytest.fixture(scope="module")
def keras() -> Any:
    return package("keras")


def trained(keras: Any, optimizer: Any, steps: int = 2) -> Any:
    """A model of random images' digits, one of whose layers is frozen."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    chain = [
        layers.Conv2D(3, 3, trainable=False),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(10, activation="softmax", kernel_regularizer="l2"),
    ]
    model = keras.Sequential([keras.Input((28, 28, 1)), *chain])
    model.compile(optimizer, loss="sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    for _ in range(steps):
        model.train_on_batch(random.random((8, 28, 28, 1)), random.integers(0, 10, 8))
    return model


def imported(path: Path) -> tuple[dict[str, Any], dict[int, Any], str]:
    """Group and state of the optimizer that an import leaves, and what was said of it."""
    lines: list[str] = []
    import_keras(path, path.with_suffix(".ckpt"), tell=lines.append)
    checkpoint = torch.load(path.with_suffix(".ckpt"), weights_only=True)
    (optimizer,) = checkpoint["optimizer_states"]
    return optimizer["param_groups"][0], optimizer["state"], "\n".join(lines)


def decay(keras: Any) -> Any:
    return keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)


#: Settings of Adadelta, with the learning rate after two steps and what is said of it.
SETTINGS: dict[str, tuple[Callable[[Any], dict[str, Any]], float, list[str]]] = {
    "plain": (lambda k: {"rho": 0.9, "epsilon": 1e-6}, 0.5, []),
    "schedule": (
        lambda k: {"learning_rate": decay(k)},
        0.5 * 0.9**0.2,
        ["schedule ExponentialDecay", f"{0.5 * 0.9**0.2:g} after 2 steps"],
    ),
    "others": (
        lambda k: {"clipnorm": 1.0, "weight_decay": 1e-4},
        0.5,
        ["clipnorm=1.0", "weight_decay=0.0001"],
    ),
    "averages": (lambda k: {"use_ema": True}, 0.5, ["use_ema=True"]),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("kind", [*SETTINGS, "scaled"])
def test_adadelta_s_state_and_settings_come_in(
    kind: str, suffix: str, keras: Any, tmp_path: Path
) -> None:
    settings, rate, said = SETTINGS["plain" if kind == "scaled" else kind]
    adadelta = keras.optimizers.Adadelta(**{"learning_rate": 0.5} | settings(keras))
    scaled = keras.optimizers.LossScaleOptimizer(adadelta)  # what mixed_float16 makes of it
    model = trained(keras, scaled if kind == "scaled" else adadelta)
    model.save(tmp_path / f"x{suffix}")
    group, state, lines = imported(tmp_path / f"x{suffix}")
    assert group["lr"] == pytest.approx(rate)
    assert f"init_args.lr={rate:g}" in lines
    if kind in ("plain", "scaled"):
        assert (group["rho"], group["eps"]) == pytest.approx((0.9, 1e-6))
    for words in (*said, "trainable=False", "kernel_regularizer"):
        assert words in lines
    assert len(said) + 3 >= len(lines.splitlines())
    assert sorted(state) == [2, 3, 4, 5]  # not of the frozen layer
    pairs = zip(adadelta._accumulated_grads, adadelta._accumulated_delta_vars, strict=True)
    for ours, pair in zip(state.values(), pairs, strict=True):
        assert ours["step"] == 2
        squares, updates = (keras.ops.convert_to_numpy(x) for x in pair)
        np.testing.assert_array_equal(to_keras(ours["square_avg"]), squares)
        np.testing.assert_array_equal(to_keras(ours["acc_delta"]), updates)


def test_weights_alone_bring_adadelta_s_state(keras: Any, tmp_path: Path) -> None:
    model = classic(keras)
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adadelta(0.25)), "mse")
    model.train_on_batch(np.ones((2, 28, 28, 1)), np.eye(10)[:2])
    model.save_weights(tmp_path / "x.weights.h5")
    group, state, _ = imported(tmp_path / "x.weights.h5")
    assert (group["lr"], len(state), int(state[0]["step"])) == (0.25, 8, 1)


@pytest.mark.parametrize("entry", ["adam", "adadelta", None])
def test_an_optimizer_may_stand_as_a_word(entry: str | None, tmp_path: Path) -> None:
    """As Keras 2.12 to 2.15 write one that ``compile`` was given as a word."""
    shutil.copy(FILES / "trained.keras", tmp_path)

    def change(config: Any) -> None:
        config["compile_config"]["optimizer"] = entry

    group, state, lines = imported(rewritten(tmp_path / "trained.keras", change))
    if entry == "adam":
        assert "Not imported: the optimizer, adam." in lines
        assert not state
    else:  # the weights' file names it too
        assert (group["lr"], len(state), int(state[0]["step"])) == (1.0, 8, 5)


def test_an_optimizer_of_another_kind_is_said(keras: Any, tmp_path: Path) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    for suffix in (".keras", ".h5"):
        trained(keras, keras.optimizers.Adam(schedule)).save(tmp_path / f"x{suffix}")
        group, state, lines = imported(tmp_path / f"x{suffix}")
        assert "the optimizer, Adam" in lines
        assert "the schedule CosineDecay" in lines
        assert (group["lr"], state) == (1.0, {})


def test_a_schedule_of_one_s_own_is_said(tmp_path: Path) -> None:
    shutil.copy(FILES / "trained.keras", tmp_path)

    def change(config: Any) -> None:
        schedule = {"module": "mine", "class_name": "Mine", "config": {"start": 3}}
        config["compile_config"]["optimizer"]["config"]["learning_rate"] = schedule

    path = rewritten(tmp_path / "trained.keras", change)
    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
        config = archive.read("config.json")
    with h5py.File(content, "r+") as file:  # with a schedule there is no number for the rate
        count = len(file["optimizer/vars"])
        del file["optimizer/vars/1"]
        for i in range(2, count):
            file.move(f"optimizer/vars/{i}", f"optimizer/vars/{i - 1}")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", content.getvalue())
    _, state, lines = imported(path)
    assert "the schedule Mine" in lines
    assert "does not say what it is now" in lines
    assert "init_args.rho=0.95" in lines
    assert "init_args.lr" not in lines
    assert len(state) == 8


def test_accumulators_of_keras_2_lie_in_halves() -> None:
    shapes = [(3, 3, 1, 2), (2,), (8, 10)]
    squares, updates = ([np.full(shape, x, np.float32) for shape in shapes] for x in (1, 2))
    for state in (
        [*squares, *updates],
        [array for pair in zip(squares, updates, strict=True) for array in pair],
    ):
        entry = {"class_name": "Custom>Adadelta", "config": {"lr": 0.5, "decay": 0.1}}
        optimizer = optimizer_of(entry, [np.array(7), *state])
        assert (optimizer.iterations, optimizer.learning_rate) == (7, 0.5)
        assert list(optimizer.losses()) == ["Not imported, of the optimizer's settings: decay=0.1."]
        for pair, shape in zip(optimizer.accumulators(shapes), shapes, strict=True):
            assert [array.shape for array in pair] == [shape, shape]
            assert [float(array.flat[0]) for array in pair] == [1, 2]
    assert optimizer.accumulators([(4,), (5,)]) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda s: s.ExponentialDecay(0.5, 10, 0.9),
        lambda s: s.ExponentialDecay(0.5, 10, 0.9, staircase=True),
        lambda s: s.InverseTimeDecay(0.5, 10, 0.9),
        lambda s: s.InverseTimeDecay(0.5, 10, 0.9, staircase=True),
        lambda s: s.PiecewiseConstantDecay([5, 12], [1.0, 0.5, 0.1]),
        lambda s: s.PolynomialDecay(0.5, 10, 0.1, power=2),
        lambda s: s.PolynomialDecay(0.5, 10, 0.1, cycle=True),
        lambda s: s.CosineDecay(0.5, 10, alpha=0.2),
        lambda s: s.CosineDecay(0.5, 10, alpha=0.2, warmup_target=0.7, warmup_steps=5),
    ],
)
def test_a_schedule_s_rate_is_keras_s(make: Any, keras: Any) -> None:
    schedule = make(keras.optimizers.schedules)
    described = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    for step in (0, 3, 5, 6, 10, 12, 13, 25):
        assert rate_at(step, described) == pytest.approx(float(schedule(step)), rel=1e-5)


def test_a_schedule_that_is_not_known_has_no_rate(keras: Any) -> None:
    schedule = keras.optimizers.schedules.CosineDecayRestarts(0.5, 10)
    assert rate_at(3, keras.saving.serialize_keras_object(schedule)) is None
