"""What all tests share: real MNIST, the real command line, and a world left as it was found.

What takes seconds to import is imported where it is needed: the process that hands out the tests
needs none of it, and the others wait for it.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from filelock import FileLock

from tests.support.needs import require

if TYPE_CHECKING:
    from mnist_cnn.data import MNISTDataModule
    from mnist_cnn.model import MNISTClassifier

os.environ["KERAS_BACKEND"] = "torch"  # before anything imports Keras

collect_ignore = ["keras_files"]  # a script, for an environment of its own

ROOT = Path(__file__).parent.parent
CNN = ("--config", "configs/cnn.yaml")
#: The real configuration, shrunk: three training steps, two validation batches.
SHORT = (
    *CNN,
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
)
#: A net that sees ten thousand images in no time.
SMALL = ("--model.net.init_args.filters=[4,8]", "--model.net.init_args.hidden=16")


class Result(NamedTuple):
    """What a command left: exit status, standard output, standard error."""

    code: int
    out: str
    err: str


class GPUFilesOnly:
    """``-m gpu`` opens no other files, so that a machine for it needs no browser and no Keras."""

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        other = collection_path.is_file() and not collection_path.name.startswith("test_gpu")
        return True if other else None


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr == "gpu":
        config.pluginmanager.register(GPUFilesOnly())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="there is no GPU here"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for what a test needs before its fixtures are made."""
    require(*(need for mark in item.iter_markers("needs") for need in mark.args))


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """A data folder with the real files, fetched by the project's own code."""
    from mnist_cnn.data_sets.files import prepare_mnist

    prepare_mnist(ROOT / "data")
    return ROOT / "data"


@pytest.fixture  # for each test its own: a trainer that it is given to stays attached
def mnist(mnist_root: Path) -> MNISTDataModule:
    from mnist_cnn.data import MNISTDataModule

    data = MNISTDataModule(str(mnist_root))
    data.setup()
    return data


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]
) -> Path:
    """A folder that is filled by the first of all workers that needs it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, ready = shared / name, shared / f"{name}.ready"
    with FileLock(shared / f"{name}.lock"):
        if not ready.exists():
            make(folder)
            ready.touch()
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, mnist_root: Path) -> Path:
    """A checkpoint with a test accuracy of about 0.99, in some ten seconds: ``fast.yaml``'s."""

    def make(logs: Path) -> None:
        command = [sys.executable, "-m", "mnist_cnn", "fit", "--config", "configs/fast.yaml"]
        command += ["--trainer.accelerator=cpu", f"--trainer.logger.init_args.save_dir={logs}"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    logs = made_once(tmp_path_factory, "trained", make)
    return logs / "fast" / "version_0" / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="session")
def small_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small net that knows nothing, made in no time."""
    import torch

    from mnist_cnn.model import MNISTClassifier
    from mnist_cnn.nets import KerasCNN

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("small") / "small.ckpt"
    return save(MNISTClassifier(KerasCNN(filters=(4, 8), hidden=16)), path)


def save(model: MNISTClassifier, path: Path) -> Path:
    """Write a checkpoint of a model as it stands."""
    from lightning.pytorch import Trainer

    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(autouse=True)
def leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in the project's folder; undo changes of the environment; forbid files left there."""
    import torch

    from mnist_cnn.__main__ import LAUNCHER
    from mnist_cnn.importing import SIGNALS

    monkeypatch.chdir(ROOT)
    assert LAUNCHER not in os.environ, "a fixture of several tests ran `main` in this process"
    environment, threads = dict(os.environ), torch.get_num_threads()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    files = set(ROOT.iterdir()) | {ROOT / "data", ROOT / ".pytest_cache", ROOT / ".hypothesis"}
    yield
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    gc.unfreeze()  # what `main` takes for modules' objects, which stay
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    assert set(ROOT.iterdir()) <= files


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "tb_logs"


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    logs: Path,
    mnist_root: Path,
) -> Callable[..., Result]:
    """Run a command in this process, with its logs in a folder of the test's own."""
    from mnist_cnn.__main__ import main

    def run(*arguments: str | Path) -> Result:
        code = 0
        try:
            command = ["mnist-cnn", *map(str, arguments), *to(logs, arguments)]
            monkeypatch.setattr(sys, "argv", command)
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def program(logs: Path, mnist_root: Path) -> Callable[..., Result]:
    """Run a command as a user does: in a process of its own, which may start others."""

    def run(*arguments: str | Path, timeout: float = 170) -> Result:
        command = [sys.executable, "-m", "mnist_cnn", *map(str, arguments), *to(logs, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


def to(logs: Path, arguments: tuple[str | Path, ...]) -> list[str]:
    """The flag that sends a command's logs to `logs`, where the command takes it."""
    from mnist_cnn.use.predict import takes

    has_logs = any(a in ("fit", "validate", "test", "predict") for a in arguments)
    given = any("save_dir" in str(a) or "logger=" in str(a) for a in arguments)
    if "predict" in arguments and takes([str(a) for a in arguments[1:]]):
        return []
    return [f"--trainer.logger.init_args.save_dir={logs}"] if has_logs and not given else []
