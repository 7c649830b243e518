"""A checkpoint as one file for elsewhere: ONNX, torch.export or safetensors.

The first two hold a program ``images`` (N, 28, 28) uint8 → ``probabilities`` (N, 10) float32, for
any N from 1, with the normalisation of the pixels inside. A safetensors file holds the weights,
which `mnist_cnn.load_classifier` and ``predict --ckpt_path`` read. Each carries what
`describe_model` says. A file is put in place only when it was read back and gave the checkpoint's
answers.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_cnn import __version__
from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.checkpoints.files import BUNDLED, CheckpointError
from mnist_cnn.checkpoints.run_folder import newest
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.errors import OptionParser, UserError
from mnist_cnn.file_system.paths import user_path
from mnist_cnn.file_system.whole import unwritable
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.nets import EnsembleCNN, describe
from mnist_cnn.use.classifier import Probabilities

CHECKED = 1000  # test images on which an exported file must agree with its checkpoint
TOLERANCE = 1e-5  # of a probability
BATCH = 250  # images that are computed at once here
Predict = Callable[[Tensor], Tensor]


class ExportError(UserError):
    """The model cannot be exported, for the reason that the message gives."""


def export(
    checkpoints: Sequence[str | Path],
    kind: str,
    out: str | Path,
    data_dir: str | Path = "data",
    opset: int | None = None,
) -> dict[str, str]:
    """Write a checkpoint's model, or the ensemble of several, in another format, and check it.

    Args:
        checkpoints: The files, of this project's nets.
        kind: A name in `FORMATS`.
        out: Where to write.
        data_dir: Folder of the model's data set, which is fetched if it is not there.
        opset: Version of ONNX's operators; by default torch's choice. For ONNX only.

    Returns:
        The metadata in the file.

    Raises:
        CheckpointError: If the checkpoint cannot be used.
        ExportError: If `out` cannot be written, a package is missing, the answers differ, or the
            model cannot be written with this `opset`.
    """
    if opset is not None and kind != "onnx":
        raise ExportError(f"--opset {opset} is for --format onnx, not {kind}")
    options = {} if opset is None else {"opset": opset}
    model, facts = load_ensemble(checkpoints)
    to_bytes, read = FORMATS[kind]
    out = Path(out)
    if out.is_dir():
        raise ExportError(f"--out {out}: is a folder; name a file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    except OSError as error:
        raise ExportError(f"--out {unwritable(out, error)}") from error
    with folder:
        temporary = Path(folder.name) / f"model{SUFFIXES[kind]}"
        data = MNISTDataModule(str(data_dir), dataset=facts["dataset"])
        data.prepare_data()
        data.setup()
        images, labels = data.test_set.images, data.test_set.labels
        expected = in_batches(Probabilities(model), images)
        accuracy = float((expected.argmax(dim=1) == labels).float().mean())
        metadata = describe_model(facts, round(accuracy, 4))
        try:
            content = to_bytes(model, metadata, **options)
            try:
                temporary.write_bytes(content)
            except OSError as error:
                temporary.unlink(missing_ok=True)  # what is free is what was free before
                raise ExportError(f"--out {unwritable(out, error, len(content))}") from error
            predict = read(temporary)
        except ImportError as error:
            raise ExportError(
                f"--format {kind} needs the package {error.name}: pip install 'mnist-cnn[export]'"
            ) from error
        check(predict, images[:CHECKED], expected[:CHECKED])
        temporary.replace(out)
    return metadata


def load_ensemble(
    checkpoints: Sequence[str | Path],
) -> tuple[MNISTClassifier, dict[str, Any]]:
    """The model of a checkpoint, or one that averages the probabilities of several; and its facts.

    Raises:
        CheckpointError: If one cannot be used, or they differ in ``test_shifts`` or data set.
    """
    models, facts = zip(*map(load_classifier, checkpoints), strict=True)
    if len(models) == 1:
        return models[0], facts[0]
    (shifts, *others) = {model.test_shifts for model in models}
    (dataset, *further) = {fact["dataset"] for fact in facts}
    if others or further:
        raise CheckpointError(
            "the checkpoints of an ensemble must have the same test_shifts and data set"
        )
    ensemble = EnsembleCNN([model.net for model in models])
    model = MNISTClassifier(ensemble, test_shifts=shifts).eval()
    epochs = sum(int(fact["epochs"]) for fact in facts)
    described = {"net": describe(ensemble), "test_shifts": shifts, "dataset": dataset}
    return model, described | {"epochs": epochs}


def describe_model(facts: dict[str, Any], test_accuracy: float) -> dict[str, str]:
    """The metadata of an exported file; all values are texts, ``net`` is JSON."""
    return {
        "mnist_cnn_version": __version__,
        "net": json.dumps(facts["net"]),
        "test_shifts": json.dumps(facts["test_shifts"]),
        "epochs": str(facts["epochs"]),
        "dataset": facts["dataset"],
        "test_accuracy": str(test_accuracy),
        "input": "images: (N, 28, 28) uint8, ink bright on dark, 0 is the background",
        "normalisation": "inside: divided by 255",
        "output": "probabilities: (N, 10) float32",
    }


def in_batches(predict: Predict, images: Tensor) -> Tensor:
    """Probabilities of many images."""
    with torch.inference_mode():
        return torch.cat([predict(batch) for batch in images.split(BATCH)])


def check(predict: Predict, images: Tensor, expected: Tensor) -> None:
    """Compare an exported program with its checkpoint, in batches and with a single image.

    Raises:
        ExportError: If an answer differs, or a probability by more than `TOLERANCE`.
    """
    found = torch.cat([in_batches(predict, images[:-1]), in_batches(predict, images[-1:])])
    difference = float((found - expected).abs().max())
    answers = int((found.argmax(dim=1) != expected.argmax(dim=1)).sum())
    if answers or not difference <= TOLERANCE:
        raise ExportError(
            f"the exported model differs from the checkpoint: {answers} of {len(images)} answers, "
            f"probabilities by up to {difference:.2g}; nothing was written"
        )


def _program(model: MNISTClassifier) -> torch.export.ExportedProgram:
    """The model as a graph of torch's operators, for any number of images."""
    module = Probabilities(model).requires_grad_(False)
    module = module.to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, 28, 28, dtype=torch.uint8)  # a 1 would be taken for a constant
    return torch.export.export(
        module,
        (example,),
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=2**31)}},
    )


def _torch_bytes(model: MNISTClassifier, metadata: dict[str, str]) -> bytes:
    content = io.BytesIO()
    extra_files = {"metadata.json": json.dumps(metadata)}
    torch.export.save(_program(model), content, extra_files=extra_files)
    return content.getvalue()


def _read_torch(path: Path) -> Predict:
    return torch.export.load(path).module()


def _onnx_bytes(
    model: MNISTClassifier, metadata: dict[str, str], opset: int | None = None
) -> bytes:
    import onnx
    import onnxscript  # noqa: F401  # torch.onnx names no package when it is missing

    for library in ("torch.onnx", "onnxscript"):  # what they warn of is an error below
        logging.getLogger(library).setLevel(logging.ERROR)
    exported = _program(model)
    try:
        program = torch.onnx.export(
            exported,
            dynamo=True,
            input_names=["images"],
            output_names=["probabilities"],
            opset_version=opset,
            verbose=False,
        )
    except Exception as error:  # of many kinds, when one of the three is too old for another
        packages = (f"{name} {version(name)}" for name in ("torch", "onnxscript", "onnx-ir"))
        raise ExportError(
            f"--format onnx: {', '.join(packages)} fail together ({type(error).__name__}); "
            "pip install -U torch onnxscript, or take --format torch_export"
        ) from error
    assert program is not None  # with dynamo=True
    proto = program.model_proto
    (found,) = [x.version for x in proto.opset_import if not x.domain]
    if opset not in (None, found):
        raise ExportError(
            f"--opset {opset}: torch cannot write this model with it, but with {found}"
        )
    _name_batch_axis(proto.graph)
    onnx.helper.set_model_props(proto, metadata)
    return proto.SerializeToString()


def _name_batch_axis(graph: Any) -> None:
    """Call the only axis of any length by its name, which torch numbers."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = "batch"


def _read_onnx(path: Path) -> Predict:
    # It collects what it calls telemetry, of the user's machine, in a data base in his home.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(
        session.run(["probabilities"], {"images": images.numpy()})[0]
    )


def _safetensors_bytes(model: MNISTClassifier, metadata: dict[str, str]) -> bytes:
    from safetensors.torch import save

    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    return save(weights, metadata={"format": "pt"} | metadata)


def _read_safetensors(path: Path) -> Predict:
    return Probabilities(load_classifier(path)[0])


FORMATS = {
    "onnx": (_onnx_bytes, _read_onnx),
    "torch_export": (_torch_bytes, _read_torch),
    "safetensors": (_safetensors_bytes, _read_safetensors),
}
SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}


def main(args: Sequence[str]) -> None:
    """The command ``export``."""
    parser = OptionParser(
        prog="mnist-cnn export",
        description="Write a trained model for elsewhere: uint8 images (N, 28, 28) in, "
        "probabilities (N, 10) out, checked against the checkpoint on 1,000 test images.",
    )
    parser.add_argument(
        "checkpoint",
        type=user_path,
        nargs="*",
        default=[str(BUNDLED)],
        help="of one of this project's nets, or last or best: the newest run's in tb_logs; "
        "several: their ensemble, which averages probabilities",
    )
    parser.add_argument("--format", required=True, choices=list(FORMATS), help="kind of file")
    parser.add_argument(
        "--out", type=user_path, required=True, metavar="FILE", help="where to write it"
    )
    parser.add_argument(
        "--data_dir", type=user_path, default="data", help="folder of MNIST (%(default)s)"
    )
    parser.add_argument(
        "--opset", type=int, metavar="N", help="version of ONNX's operators, 18 or newer"
    )
    given = parser.parse_args(args)
    checkpoints = [newest(name) for name in given.checkpoint]
    print("Measuring the accuracy, and writing ...", flush=True)
    metadata = export(checkpoints, given.format, given.out, given.data_dir, given.opset)
    print(f"{given.out}: {Path(given.out).stat().st_size / 1e6:.1f} MB, {given.format}")
    for name, text in metadata.items():
        print(f"  {name}: {text}")
    print(f"Checked against the model: the same answers to {CHECKED} test images.")
