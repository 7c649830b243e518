"""A model exported is the model of the checkpoint, in a file that says what it is."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_cnn import FastCNN, KerasCNN, MNISTClassifier, __version__
from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.checkpoints.files import CheckpointError
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.use import export as exporting
from mnist_cnn.use.classifier import Probabilities
from tests.conftest import Result, save


def expected(checkpoint: Path, images: torch.Tensor) -> np.ndarray:
    """From the checkpoint's weights by the model that ``test`` measures."""
    model, _ = load_classifier(checkpoint)
    with torch.inference_mode():
        return model(images).softmax(dim=1).numpy()


def assert_describes(metadata: dict[str, str], accuracy: float) -> None:
    assert metadata["mnist_cnn_version"] == __version__
    net = json.loads(metadata["net"])
    assert net["class_path"] == "mnist_cnn.nets.KerasCNN"
    assert net["init_args"].items() >= {"hidden": 16}.items()
    assert float(metadata["test_accuracy"]) == pytest.approx(accuracy, abs=1e-4)
    assert "uint8" in metadata["input"]
    assert "255" in metadata["normalisation"]


def test_safetensors(
    cli: Callable[..., Result], small_net: Path, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "small.safetensors"
    result = cli("export", small_net, "--format", "safetensors", "--out", out)
    assert result.code == 0, result.err
    assert [path.name for path in out.parent.iterdir()] == ["small.safetensors"]
    with out.open("rb") as file:  # as the format is specified, without its library
        (length,) = struct.unpack("<Q", file.read(8))
        metadata = json.loads(file.read(length))["__metadata__"]
    images, labels = mnist.test_set.images, mnist.test_set.labels
    probabilities = expected(small_net, images)
    assert_describes(metadata, float(np.mean(probabilities.argmax(1) == labels.numpy())))
    model, facts = load_classifier(out)
    assert facts["test_accuracy"] == metadata["test_accuracy"]
    with torch.inference_mode():
        found = Probabilities(model)(images[:100])
    np.testing.assert_allclose(found, probabilities[:100], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_safetensors_in_place_of_a_checkpoint(
    cli: Callable[..., Result], small_net: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small.safetensors"
    exporting.export([small_net], "safetensors", out)
    answers = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for checkpoint, path in zip((small_net, out), answers, strict=True):
        flags = ["--trainer.limit_predict_batches=2", "--predictions.path", path]
        assert cli("predict", "--ckpt_path", checkpoint, *flags).code == 0
    assert answers[0].read_text() == answers[1].read_text()
    refused = cli("fit", "--model.net.filters=[4,8]", "--model.net.hidden=16", "--ckpt_path", out)
    assert refused.code == 2
    assert "goes on from a .ckpt only" in refused.err


@pytest.mark.slow
def test_nothing_is_kept_or_sent_of_the_user_s_machine(
    program: Callable[..., Result],
    small_net: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mnist_root: Path,
) -> None:
    for place in ("HOME", "TMPDIR"):
        (tmp_path / place).mkdir()
        monkeypatch.setenv(place, str(tmp_path / place))
    flags = ("--format=onnx", "--out", tmp_path / "small.onnx", "--data_dir", mnist_root)
    assert program("export", small_net, *flags).code == 0
    kept = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert "small.onnx" in kept
    assert not {"deviceid", "onnxruntime.db", ".ses"}.intersection(kept)


@pytest.mark.slow
def test_onnx(small_net: Path, mnist: MNISTDataModule, tmp_path: Path) -> None:
    import onnxruntime

    out = tmp_path / "small.onnx"
    exporting.export([small_net], "onnx", out)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 28, 28])
    assert (answer.name, answer.type) == ("probabilities", "tensor(float)")
    assert answer.shape == ["batch", 10]
    probabilities = expected(small_net, mnist.test_set.images[:300])
    for size in (1, 2, 7, 300):
        images = mnist.test_set.images[:size].numpy()
        (found,) = session.run(None, {"images": images})
        np.testing.assert_allclose(found, probabilities[:size], rtol=0, atol=1e-5)
    labels = mnist.test_set.labels.numpy()
    accuracy = np.mean(expected(small_net, mnist.test_set.images).argmax(1) == labels)
    assert_describes(session.get_modelmeta().custom_metadata_map, float(accuracy))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_a_net_that_sets_digits_upright(format: str, tmp_path: Path) -> None:
    net = FastCNN((2, 3), hidden=8, border=2, upright=0.75)
    checkpoint = save(MNISTClassifier(net, test_shifts=1), tmp_path / "x.ckpt")
    exporting.export([checkpoint], format, tmp_path / "x")  # which compares the answers


@pytest.mark.slow
def test_the_version_of_onnx_s_operators(
    cli: Callable[..., Result], small_net: Path, tmp_path: Path
) -> None:
    import onnx

    out = tmp_path / "small.onnx"
    for version in (18, 21):
        done = cli("export", small_net, "--format=onnx", "--out", out, f"--opset={version}")
        assert done.code == 0, done.err
        assert [(x.domain, x.version) for x in onnx.load(out).opset_import] == [("", version)]
    refused = cli("export", small_net, "--format=onnx", "--out", out, "--opset=7")
    assert refused.code == 2
    assert "--opset 7: torch cannot write this model with it" in refused.err
    assert onnx.load(out).opset_import[0].version == 21


@pytest.mark.slow
def test_packages_that_do_not_fit_together_are_named(
    monkeypatch: pytest.MonkeyPatch, small_net: Path, tmp_path: Path
) -> None:
    """As torch 2.6 with a newer onnx-ir, whose passes it breaks."""

    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("An error occurred when running a pass")

    monkeypatch.setattr(torch.onnx, "export", broken)
    with pytest.raises(exporting.ExportError, match=r"onnxscript .*, onnx-ir .* fail together"):
        exporting.export([small_net], "onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_torch_export(small_net: Path, mnist: MNISTDataModule, tmp_path: Path) -> None:
    out = tmp_path / "small.pt2"
    metadata = exporting.export([small_net], "torch_export", out)
    extra = {"metadata.json": ""}
    program = torch.export.load(out, extra_files=extra).module()
    assert json.loads(extra["metadata.json"]) == metadata
    probabilities = expected(small_net, mnist.test_set.images[:300])
    for size in (1, 2, 300):
        found = program(mnist.test_set.images[:size]).numpy()
        np.testing.assert_allclose(found, probabilities[:size], rtol=0, atol=1e-5)


def test_a_file_that_differs_is_not_put_in_place(
    monkeypatch: pytest.MonkeyPatch, small_net: Path, tmp_path: Path
) -> None:
    write, read = exporting.FORMATS["safetensors"]

    def damage(path: Path) -> exporting.Predict:
        predict = read(path)
        return lambda images: predict(images) + 2e-5

    monkeypatch.setitem(exporting.FORMATS, "safetensors", (write, damage))
    out = tmp_path / "model.safetensors"
    out.write_text("what was there")
    with pytest.raises(exporting.ExportError, match="differs from the checkpoint: 0 of 1000"):
        exporting.export([small_net], "safetensors", out)
    assert out.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.ckpt", "--format=onnx", "--out=x.onnx"], "there is no such file"),
        (["README.md", "--format=onnx", "--out=x.onnx"], "not a checkpoint"),
        (["SMALL", "--format=tflite", "--out=x"], "invalid choice: 'tflite'"),
        (["SMALL", "--format=onnx", "--out=README.md/x.onnx"], "--out README.md/x.onnx: cannot be"),
        (["SMALL", "--format=onnx", "--out=docs"], "--out docs: is a folder"),
        (["SMALL", "--format=torch_export", "--out=x", "--opset=18"], "--opset 18 is for --format"),
    ],
)
def test_mistakes(
    cli: Callable[..., Result], small_net: Path, arguments: list[str], message: str
) -> None:
    result = cli("export", *(str(small_net) if a == "SMALL" else a for a in arguments))
    assert result.code in (1, 2)
    assert message in result.err
    assert "Traceback" not in result.err


def test_a_checkpoint_of_another_kind(tmp_path: Path) -> None:
    other = tmp_path / "other.ckpt"
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, other)
    with pytest.raises(CheckpointError, match="not of one of this project's nets"):
        load_classifier(other)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\0" * 99)
    with pytest.raises(CheckpointError, match="damaged or not safetensors"):
        load_classifier(broken)


@pytest.mark.parametrize("shifts", ["1", 1.5, 99, -1, torch.tensor([1, 2])])
def test_shifts_that_are_none_are_refused(small_net: Path, tmp_path: Path, shifts: object) -> None:
    content = torch.load(small_net, weights_only=True)
    content["hyper_parameters"]["test_shifts"] = shifts
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="test_shifts"):
        load_classifier(tmp_path / "x.ckpt")


@pytest.mark.slow
def test_several_checkpoints_are_exported_as_their_ensemble(
    cli: Callable[..., Result], mnist: MNISTDataModule, tmp_path: Path
) -> None:
    nets = (KerasCNN(filters=(2, 3), hidden=8), FastCNN(filters=(2, 3), hidden=8))
    paths = [
        save(MNISTClassifier(net, test_shifts=1), tmp_path / f"{i}.ckpt")
        for i, net in enumerate(nets)
    ]
    out, table = tmp_path / "both.safetensors", tmp_path / "both.csv"
    done = cli("export", *paths, "--format=safetensors", "--out", out)
    assert done.code == 0, done.err
    images = mnist.test_set.images[:50]
    found = expected(out, images)
    np.testing.assert_allclose(
        found, sum(expected(path, images) for path in paths) / 2, rtol=0, atol=1e-6
    )
    flags = ["--trainer.limit_predict_batches=1", "--predictions.path", table]
    assert cli("predict", "--ckpt_path", out, *flags).code == 0
    digits = [int(line.split(",")[1]) for line in table.read_text().splitlines()[1:51]]
    assert digits == found.argmax(axis=1).tolist()


def test_an_ensemble_shifts_all_nets_alike(tmp_path: Path) -> None:
    paths = [
        save(MNISTClassifier(KerasCNN((4, 8), hidden=16), test_shifts=n), tmp_path / f"{n}.ckpt")
        for n in (0, 1)
    ]
    with pytest.raises(CheckpointError, match="the same test_shifts"):
        exporting.load_ensemble(paths)
