"""A run that was interrupted ends like one that was not, bit for bit."""

from __future__ import annotations

import fcntl
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_cnn.checkpoints.atomic import AtomicCheckpointIO
from mnist_cnn.checkpoints.files import read_checkpoint
from mnist_cnn.file_system.whole import UnwritableError
from tests.conftest import CNN, Result
from tests.support.interruptions import CRASH, LAST, interrupted
from tests.support.loggers import SENT, Service
from tests.support.runs import differences, state

Program = Callable[..., Result]
#: Two epochs of eight steps, saved every three.
RUN = (
    "fit",
    *CNN,
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=8",
    "--trainer.limit_val_batches=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
    "--last_checkpoint.every_n_train_steps=3",
    "--model.net.filters=[4, 8]",
    "--model.net.hidden=16",
)


@pytest.fixture
def undisturbed(cli: Program, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(*flags: str) -> dict[str, Any]:
        result = cli(
            *RUN, *flags, f"--trainer.logger.init_args.save_dir={tmp_path / 'undisturbed'}"
        )
        assert result.code == 0, result.err
        return state(tmp_path / "undisturbed" / "cnn" / "version_0")

    return run


@pytest.mark.parametrize(
    ("number", "status", "step", "in_validation"),
    [
        (signal.SIGTERM, 143, 5, False),
        (signal.SIGINT, 130, 5, False),
        (signal.SIGUSR1, 138, 5, False),
        (signal.SIGTERM, 143, 8, True),
    ],
)
def test_a_signal_saves_and_leaves_with_the_conventional_status(
    cli: Program, logs: Path, number: int, status: int, step: int, in_validation: bool
) -> None:
    stopped = cli(*RUN, *interrupted(step, number, in_validation))
    assert stopped.code == status
    assert f"stopped after step {step}" in stopped.err
    assert "Traceback" not in stopped.err
    last = torch.load(logs / "cnn/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == step


SCHEDULE = ("--model.lr_scheduler=torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.gamma=.5")


#: What Lightning resumes in other ways each.
VARIANTS = {
    "schedule of epochs": (*SCHEDULE, "--model.lr_scheduler.step_size=1"),
    "schedule of steps": (
        *(*SCHEDULE, "--model.lr_scheduler.step_size=3"),
        "--model.lr_scheduler_interval=step",
    ),
    "accumulated": ("--trainer.accumulate_grad_batches=2",),
    "validated within the epoch": ("--trainer.val_check_interval=3",),
    "validated every other epoch": ("--trainer.check_val_every_n_epoch=2",),
    "best by another metric": ("--best_checkpoint.monitor=train/loss",),
    "exact sums": ("--data.chunks=4",),
    "averaged weights": ("--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging",),
    # What begins or ends with an epoch, which Lightning leaves out where one is gone on with.
    "rate by a metric": (
        "--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau",
        "--model.lr_scheduler.monitor=train/loss",
        "--model.lr_scheduler.mode=max",  # gets worse in the first epoch already
        "--model.lr_scheduler.patience=0",
    ),
    "weights averaged by epochs": (
        "--trainer.callbacks+=StochasticWeightAveraging",
        "--trainer.callbacks.swa_lrs=.1",
        "--trainer.callbacks.swa_epoch_start=1",
    ),
    "accumulated from an epoch on": (
        "--trainer.callbacks+=GradientAccumulationScheduler",
        "--trainer.callbacks.scheduling={1: 2}",
    ),
}


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param((), id="as it is"),
        pytest.param(
            ("--trainer.max_epochs=-1", "--trainer.max_steps=15"),
            id="max_steps",
            marks=pytest.mark.slow,
        ),
        *(pytest.param(v, id=name, marks=pytest.mark.slow) for name, v in VARIANTS.items()),
    ],
)
def test_an_interrupted_run_ends_like_an_undisturbed_one(
    cli: Program, logs: Path, undisturbed: Callable[..., dict[str, Any]], flags: tuple[str, ...]
) -> None:
    expected = undisturbed(*flags)
    # In the middle of the first epoch, at its end, in the middle of the second one.
    for batch, number, code in (
        *((5, CRASH, 1), (7, signal.SIGTERM, 143), (8, signal.SIGTERM, 143)),
        *((13, signal.SIGTERM, 143), (15, CRASH, 1)),
    ):
        if batch == 8 and flags == VARIANTS["accumulated"]:
            continue  # asked to stop at 7, it has stopped at 8, where its step ends
        result = cli(*RUN, *flags, LAST, *interrupted(batch, number))
        assert result.code == code, result.err
    result = cli(*RUN, *flags, LAST)
    assert result.code == 0, result.err
    assert differences(expected, state(logs / "cnn" / "version_0")) == []
    assert [folder.name for folder in (logs / "cnn").iterdir()] == ["version_0"]
    # The saved configuration is that of the whole run, not of its last part.
    assert "ckpt_path: null" in (logs / "cnn" / "version_0" / "config.yaml").read_text()
    assert "version: null" in (logs / "cnn" / "version_0" / "config.yaml").read_text()


@pytest.mark.slow
def test_pruning_that_a_checkpoint_does_not_keep_is_named(cli: Program, logs: Path) -> None:
    prune = ("--trainer.callbacks+=ModelPruning", "--trainer.callbacks.pruning_fn=l1_unstructured")
    assert cli(*RUN, *prune, *interrupted(5, signal.SIGTERM)).code == 143
    resumed = cli(*RUN, *prune, LAST, *interrupted(8, signal.SIGTERM))
    assert "ModelPruning keeps no masks in a checkpoint" in resumed.err


@pytest.mark.slow
def test_last_begins_where_there_is_nothing_to_resume(cli: Program, logs: Path) -> None:
    result = cli(*RUN, LAST)
    assert result.code == 0
    assert "starting from the beginning" in result.err
    again = cli(*RUN, LAST)
    assert again.code == 0
    assert "Nothing was trained" in again.out
    elsewhere = f"--trainer.logger.save_dir={logs / 'elsewhere'}"
    assert "--ckpt_path last: no run" in cli("test", LAST, elsewhere).err


@pytest.mark.slow
def test_a_damaged_newest_file_gives_way_to_the_one_before(
    cli: Program, logs: Path, undisturbed: Callable[..., dict[str, Any]]
) -> None:
    expected = undisturbed()
    assert cli(*RUN, *interrupted(7, signal.SIGTERM)).code == 143
    last = logs / "cnn" / "version_0" / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1  # one bit: torch.load itself does not notice
    last.write_bytes(content)
    resumed = cli(*RUN, LAST, *interrupted(8, signal.SIGTERM))
    assert resumed.code == 143, resumed.err
    assert "last.ckpt is truncated, damaged or not a checkpoint; going on from" in resumed.err
    assert read_checkpoint(last.with_name("previous.ckpt"))["global_step"] == 6  # not the damaged
    assert cli(*RUN, LAST).code == 0
    assert differences(expected, state(logs / "cnn" / "version_0")) == []

    for name in ("last.ckpt", "previous.ckpt"):
        last.with_name(name).write_bytes(b"no checkpoint")
    both = cli(*RUN, LAST)
    assert both.code == 2
    assert "previous.ckpt is truncated, damaged" in both.err


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UnwritableError, match=r"last.ckpt: cannot be written: File too large"):
            AtomicCheckpointIO().save_checkpoint({"state_dict": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_checkpoint(path) == {"state_dict": {}}
    assert list(tmp_path.iterdir()) == [path]


def test_ranks_share_out_the_counts_of_other_ranks(cli: Program, logs: Path) -> None:
    """An epoch's metrics survive a resume on another number of devices."""
    from mnist_cnn import KerasCNN, MNISTClassifier

    counts = []
    for rank in range(3):
        model = MNISTClassifier(KerasCNN((4, 8), 16))
        logits, labels = torch.randn(5 + rank, 10), torch.randint(10, (5 + rank,))
        model.train_metrics.update(value=logits[:, 0], preds=logits, target=labels)
        counts.append({name: m.metric_state for name, m in model.train_metrics.items()})
    resumed = []
    for rank in range(2):
        model = MNISTClassifier(KerasCNN((4, 8), 16))
        model._trainer = type("OneOfTwo", (), {"global_rank": rank, "world_size": 2})()
        model.on_load_checkpoint({"train_metrics": counts})
        seen: Any = model.train_metrics["accuracy"].metric_state
        resumed.append(int(seen["tp"] + seen["fn"]))
    assert resumed == [5 + 7, 6]


@pytest.mark.slow
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on(program: Program, logs: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mnist_cnn",
        *RUN[:-2],
        "--last_checkpoint.every_n_train_steps=1",
    ]
    process = subprocess.Popen([*command, f"--trainer.logger.init_args.save_dir={logs}"])
    temporary = logs / "cnn" / "version_0" / "checkpoints" / ".last.ckpt.tmp"
    previous = temporary.with_name("previous.ckpt")
    while not (previous.exists() and temporary.exists()):
        assert process.poll() is None
        time.sleep(0.0005)
    process.kill()
    process.wait()
    read_checkpoint(temporary.with_name("last.ckpt"))  # or it raises: the old one is whole
    read_checkpoint(previous)
    assert program(*RUN[:-2], LAST).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--kills=2"], ["--kills=1", "--devices=2"]])
def test_soak(arguments: list[str]) -> None:
    """A few kills; fifty are for a soak by hand (docs/resuming.md)."""
    # Of this seed the moments lie beyond the start, and the victim of two is not rank 0.
    soak = [sys.executable, "-m", "tests.support.soak", "--epochs=2", "--seed=23", *arguments]
    done = subprocess.run(soak, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ended bit-identical to the undisturbed one" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_devices(
    cli: Program,
    program: Program,
    logs: Path,
    undisturbed: Callable[..., dict[str, Any]],
    before: int,
    after: int,
) -> None:
    expected = undisturbed()
    start = {1: cli, 2: program}
    devices = lambda n: [f"--trainer.devices={n}", *["--trainer.strategy=ddp"] * (n > 1)]  # noqa: E731
    stopped = start[before](*RUN, *devices(before), *interrupted(5, signal.SIGTERM))
    assert stopped.code == 143, stopped.err
    resumed = start[after](*RUN, *devices(after), LAST)
    assert resumed.code == 0, resumed.err
    found = state(logs / "cnn" / "version_0")
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=0, atol=1e-3)
    assert found["step"] == expected["step"]
    for tag, points in expected["scalars"].items():
        assert [step for step, _ in found["scalars"][tag]] == [step for step, _ in points], tag
        torch.testing.assert_close(
            torch.tensor([value for _, value in found["scalars"][tag]]),
            torch.tensor([value for _, value in points]),
            rtol=0,
            atol=1e-3,
        )


@pytest.mark.slow
def test_a_crash_before_the_first_save_is_gone_on_with(
    cli: Program, logs: Path, undisturbed: Callable[..., dict[str, Any]]
) -> None:
    expected = undisturbed()
    assert cli(*RUN, *interrupted(1, CRASH)).code == 1
    assert cli(*RUN, LAST).code == 0
    assert differences(expected, state(logs / "cnn" / "version_0")) == []


def test_a_run_goes_on_only_as_it_was_started(cli: Program) -> None:
    assert cli(*RUN, *interrupted(5, signal.SIGTERM)).code == 143
    for flag, then in (
        ("--data.batch_size=256", "--data.batch_size 128"),
        ("--seed_everything=7", "--seed_everything 1"),
    ):
        result = cli(*RUN, LAST, flag)
        assert result.code == 2
        assert f"was started with {then}" in result.err


@pytest.mark.slow
def test_a_folder_belongs_to_one_run(cli: Program, logs: Path) -> None:
    named = "--trainer.logger.init_args.version=mine"
    assert cli(*RUN, named, *interrupted(5, signal.SIGTERM)).code == 143
    again = cli(*RUN, named)
    assert again.code == 2
    assert "holds a run already" in again.err
    with (logs / "cnn" / "mine" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        busy = cli(*RUN, named, LAST)
    assert busy.code == 2
    assert "another process trains" in busy.err
    assert cli(*RUN, named, LAST).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_signal_to_any_process_stops_all(logs: Path, which: int) -> None:
    flags = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=200"]
    folder = [f"--trainer.logger.init_args.save_dir={logs}"]
    command = [sys.executable, "-m", "mnist_cnn", *RUN, *flags, *folder]
    process = psutil.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (logs / "cnn" / "version_0" / "checkpoints" / "previous.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.1)
    family = [process, *process.children()]
    family[which].send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 138
    assert "SIGUSR1: stopped after step" in err
    assert not psutil.wait_procs(family, timeout=30)[1]


def logging_to(logs: Path, *loggers: tuple[str, dict[str, Any]]) -> str:
    """The flag that has a run log with these classes, to `logs` where they write files."""
    configured = [
        {
            "class_path": path,
            "init_args": args if path == SERVICE else {"save_dir": str(logs), **args},
        }
        for path, args in loggers
    ]
    return f"--trainer.logger={json.dumps(configured)}"


CSV_LOGGER = "lightning.pytorch.loggers.CSVLogger"
TENSORBOARD = "lightning.pytorch.loggers.TensorBoardLogger"
SERVICE = f"{Service.__module__}.{Service.__name__}"


@pytest.mark.slow
def test_all_loggers_share_a_run_s_folder_and_survive_a_crash(cli: Program, tmp_path: Path) -> None:
    loggers: tuple[tuple[str, dict[str, Any]], ...] = (
        (SERVICE, {}),
        (TENSORBOARD, {"name": "cnn", "sub_dir": "events"}),
        (CSV_LOGGER, {}),  # its default name is another
    )
    whole = cli(*RUN, logging_to(tmp_path / "whole", *loggers))
    assert whole.code == 0, whole.err
    SENT.clear()
    flag = logging_to(tmp_path / "parts", *loggers)
    assert cli(*RUN, flag, *interrupted(13, CRASH)).code == 1
    last = cli(*RUN, flag, LAST)
    assert last.code == 0, last.err

    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["cnn"]
    (folder,) = (tmp_path / "parts" / "cnn").iterdir()
    tables = [
        (tmp_path / part / "cnn" / "version_0" / "metrics.csv").read_text()
        for part in ("whole", "parts")
    ]
    assert tables[1] == tables[0]
    assert tables[0].count("\n") > 2
    scalars = EventAccumulator(str(folder / "events"), purge_orphaned_data=False).Reload()
    assert [e.step for e in scalars.Scalars("over_images/train/loss_of_step")] == [
        128 * step for step in range(1, 17)
    ]
    assert {path.name for path in folder.iterdir()} >= {"config.yaml", "checkpoints", "events"}
    (run,) = SENT
    assert f"Service goes on with run {run}" in last.err
    assert [e for e in SENT[run] if e[1] == "val/loss"] == [(7, "val/loss"), (15, "val/loss")]
    assert f"Look at it:  {folder / 'metrics.csv'}" in last.out
    assert f"--logdir {tmp_path / 'parts'}\n" in last.out


@pytest.mark.slow
@pytest.mark.parametrize("logger", [SERVICE, "false"])
def test_a_run_has_a_folder_also_where_nothing_is_logged_to_files(
    cli: Program, tmp_path: Path, logger: str
) -> None:
    flags = (f"--trainer.default_root_dir={tmp_path}", f"--trainer.logger={logger}")
    group = tmp_path / ("digits" if logger == SERVICE else "lightning_logs")  # its own name
    for number in (0, 1):  # the second is another run
        assert cli(*RUN, *flags, *interrupted(5, signal.SIGTERM)).code == 143
        folder = group / f"version_{number}"
        assert {path.name for path in folder.iterdir()} == {"config.yaml", "checkpoints", ".lock"}
    last = cli(*RUN, *flags, LAST)
    assert last.code == 0, last.err
    assert sorted(path.name for path in group.iterdir()) == ["version_0", "version_1"]
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 16
    assert (folder / "checkpoints" / "best.ckpt").exists()
    assert f"Logs:        {folder}" in last.out
    assert "tensorboard" not in last.out
