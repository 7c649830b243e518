"""The command line: every configuration, and what a user's mistakes end in."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI

import mnist_cnn
from mnist_cnn.__main__ import LIGHTNINGS
from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.settings import hints
from mnist_cnn.training import preflight
from tests.conftest import CNN, ROOT, SHORT, SMALL, Result

Cli = Callable[..., Result]
CONFIGURATIONS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))
#: What each is laid over: whole ones over nothing.
BASES = dict.fromkeys(CONFIGURATIONS, "cnn.yaml")
BASES |= {whole: whole for whole in ("cnn.yaml", "fast.yaml", "record.yaml", "pictures.yaml")}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, mnist_root: Path) -> Path:
    """The last checkpoint of a short run."""
    logs = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-m", "mnist_cnn", "fit", *SHORT]
    command.append(f"--trainer.logger.init_args.save_dir={logs}")
    # A process of its own: what a run leaves in this one would outlast the test.
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return logs / "cnn" / "version_0" / "checkpoints" / "last.ckpt"


#: Tried in test_devices.py, test_machines.py and test_other_sets.py.
ELSEWHERE = ("ddp.yaml", "machines.yaml", "fashion.yaml")
NO_BEST = ("--best_checkpoint.save_top_k=0",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.slow] if name in ("pictures.yaml", "record.yaml") else []
        )
        for name in CONFIGURATIONS
        if name not in ELSEWHERE
    ],
)
def test_every_configuration_trains(cli: Cli, name: str, tmp_path: Path) -> None:
    base = ("--config", f"configs/{BASES[name]}")
    flags = [*SHORT[2:], *NO_BEST, "--trainer.check_val_every_n_epoch=1"]
    small = SMALL if BASES[name] == "cnn.yaml" else ()  # bf16 is slow where a CPU has none
    if name == "pictures.yaml":  # python -m making.printed makes these
        np.savez(tmp_path / "printed.npz", images=np.zeros((9, 28, 28), np.uint8), labels=range(9))
        flags.append(f"--data.extra={tmp_path / 'printed.npz'}")
    result = cli("fit", *base, "--config", f"configs/{name}", *flags, *small)
    assert result.code == 0, result.err
    assert "Best val_accuracy" in result.out


def test_every_configuration_is_headed_by_its_command() -> None:
    for name in CONFIGURATIONS:
        head = (ROOT / "configs" / name).read_text().split("\n\n")[0]
        assert f"-m mnist_cnn fit --config configs/{BASES[name]}" in head
        assert f"configs/{name}" in head


def test_a_run_without_a_configuration_is_the_published_run(cli: Cli) -> None:
    written, bare = (
        yaml.safe_load(cli(*c, "--print_config").out) for c in (("fit", *CNN), ("fit",))
    )
    assert bare == written
    assert written["model"]["optimizer"]["init_args"]["eps"] == 1e-7
    assert written["data"]["batch_size"] == 128


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version").out.strip() == f"mnist-cnn {mnist_cnn.__version__}"
    text = cli("fit", "--help").out
    for flag in ("--data.batch_size", "--trainer.accelerator", "--best_checkpoint.monitor"):
        assert flag in text
    assert "Images a training step sees on all devices together" in text  # docstrings are the help


@pytest.mark.slow
def test_the_saved_configuration_tests_the_run_in_another_process(
    cli: Cli, checkpoint: Path
) -> None:
    config = checkpoint.parents[1] / "config.yaml"
    few = "--trainer.limit_test_batches=2"
    result = cli("test", "--config", config, "--ckpt_path", checkpoint, few)
    assert result.code == 0, result.err
    assert "test/accuracy" in result.out


@pytest.mark.slow
def test_a_checkpoint_says_which_net_it_holds(cli: Cli, logs: Path) -> None:
    narrow = ("--model.net.init_args.filters=[4,6]", "--model.net.init_args.hidden=8")
    assert cli("fit", *SHORT, *narrow).code == 0
    last = logs / "cnn" / "version_0" / "checkpoints" / "last.ckpt"
    result = cli("validate", "--ckpt_path", last)  # no configuration
    assert result.code == 0, result.err


def test_a_checkpoint_says_for_how_many_epochs_it_was_trained(checkpoint: Path) -> None:
    assert load_classifier(checkpoint)[1]["epochs"] == 1


@pytest.mark.slow
def test_flags_win_over_what_a_checkpoint_stores(cli: Cli, logs: Path, checkpoint: Path) -> None:
    flags = ("--model.net.init_args.conv_dropout=0.125", "--model.optimizer.init_args.lr=0.5")
    result = cli("fit", *SHORT, "--trainer.max_epochs=2", "--ckpt_path", checkpoint, *flags)
    assert result.code == 0, result.err
    saved = yaml.safe_load((logs / "cnn" / "version_0" / "config.yaml").read_text())
    assert saved["model"]["net"]["init_args"]["conv_dropout"] == 0.125
    last = torch.load(logs / "cnn" / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == 0.5
    assert last["hyper_parameters"]["net"]["init_args"]["conv_dropout"] == 0.125


def test_the_last_checkpoint_is_the_last_epoch_s_also_when_it_is_not_the_best(
    cli: Cli, logs: Path
) -> None:
    frozen = "--model.optimizer.init_args.lr=0"  # no epoch beats the first
    assert cli("fit", *SHORT, "--trainer.max_epochs=3", frozen).code == 0
    folder = logs / "cnn" / "version_0" / "checkpoints"
    epochs = {p.name: torch.load(p, weights_only=True)["epoch"] for p in folder.iterdir()}
    assert epochs == {"best.ckpt": 0, "previous.ckpt": 2, "last.ckpt": 3}  # epochs done


def test_callbacks_and_loggers_of_one_s_own_keep_the_built_in_ones(cli: Cli, logs: Path) -> None:
    result = cli("fit", *SHORT, "--trainer.callbacks+=lightning.pytorch.callbacks.ModelSummary")
    assert result.code == 0, result.err
    assert (logs / "cnn" / "version_0" / "checkpoints" / "last.ckpt").exists()
    assert "Best val_accuracy" in result.out


def test_it_runs_without_logs_and_checkpoints(cli: Cli, tmp_path: Path) -> None:
    flags = ("--trainer.logger=false", "--trainer.enable_checkpointing=false")
    result = cli("fit", *SHORT, *flags, f"--trainer.default_root_dir={tmp_path}")
    assert result.code == 0, result.err
    assert "Best val_accuracy" in result.out
    assert not list(tmp_path.iterdir())


def test_a_second_run_gets_a_folder_of_its_own(cli: Cli, logs: Path) -> None:
    for _ in range(2):
        assert cli("fit", *SHORT).code == 0
    assert {path.name for path in (logs / "cnn").iterdir()} == {"version_0", "version_1"}


def mistake(result: Result, *words: str) -> None:
    """Assert that a command failed with an error of one or two plain lines that has the words."""
    assert result.code not in (0, None)
    assert "Traceback" not in result.err + result.out
    lines = result.err.strip().splitlines()
    (error,) = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    assert len(lines[error:]) <= 2
    assert "usage: " not in result.err
    for word in words:
        assert word in lines[error]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fit", "--model.net.init_args.nope=3"), ("nope",)),
        (("fit", "--trainer.max_epoch=3"), ("trainer.max_epoch",)),  # no abbreviations
        (("fit", "--config=nope.yaml"), ("nope.yaml",)),
        (("fit", "--trainer.devices=9999"), ("--trainer.devices 9999", "core")),
        (("fit", "--trainer.devices=3", "--data.batch_size=128"), ("--data.batch_size 128", "129")),
        (("fit", "--data.val_size=60000"), ("--data.val_size 60000",)),
        (("fit", "--ckpt_path=nope.ckpt"), ("nope.ckpt", "no such file")),
        (("test", "--ckpt_path=README.md"), ("README.md", "not a checkpoint")),
        (
            ("fit", "--trainer.logger.init_args.save_dir=README.md"),
            ("cannot write logs", "README.md"),
        ),
        (("fit", "--model.net=torch.nn.NoSuchNet"), ("NoSuchNet", "--model.net.help lists")),
        (("fit", "--model.net=torch.nn.Linea"), ("did you mean torch.nn.Linear?",)),
        (("fit", "--model.net=kerascn"), ("kerascn", "did you mean KerasCNN?")),
        (("fit", "--model.net=mnist_cn.KerasCNN"), ("did you mean KerasCNN?",)),
        (("fit", "--model.optimizer=Adm"), ("did you mean Adam?",)),
        (("fit", "--model.optimizer=torch.optim.Adm"), ("did you mean torch.optim.Adam?",)),
        (("fit", "--trainer.callbacks+=ModelSumary"), ("did you mean ModelSummary?",)),
        (("nosuch",), ("nosuch", "fit", "export-keras")),
        (("exprot",), ("did you mean export?",)),
        (("train",), ("did you mean fit?",)),
        (("fit", "--config=cnn.yml"), ("--config cnn.yml: No such file", "did you mean cnn.yaml?")),
        (("fit", "--config=debg"), ("--config debg: No such file", "did you mean debug.yaml?")),
        (("fit", "fast.yaml"), ("did you mean --config fast.yaml?",)),
        (("fit", "--data.batch_size=-5"), ("--data.batch_size -5: must be at least 1",)),
        ((), ("no command", "fit", "configs")),
        (("export", "--out=x"), ("--format",)),
        (("export", "--format=nope", "--out=x"), ("nope", "onnx")),
        (("export-keras",), ("--out",)),
        (("import-keras", "--out=x"), ("model",)),
        (("import-keras", "x", "--ou=x"), ("--out",)),  # no abbreviations
        (("serve", "--port=x"), ("--port", "port value: 'x'")),
        (("configs", "x"), ("unrecognized", "x")),
        (("predict", "x.png", "--nope"), ("unrecognized", "--nope")),
        (("predict", "--data.predict_path"), ("--data.predict_path",)),
    ],
)
def test_mistakes_end_in_a_line(
    cli: Cli, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    config = CNN if arguments and arguments[0] == "fit" else ()
    mistake(cli(*arguments[:1], *config, *arguments[1:]), *words)


def test_the_commands_are_lightnings_and_ours() -> None:
    assert set(LIGHTNINGS) == set(LightningCLI.subcommands())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(cli: Cli) -> None:
    mistake(cli("fit", *CNN, "--trainer.accelerator=gpu"), "gpu", "--trainer.accelerator gpu")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"data:\n  batchsize: 64\n", ("batchsize", ", line 2")),
        (b"trainer:\n  max_epochs: many\n", ("many", ", line 2")),
        (
            b"model:\n  net:\n    class_path: KerasCNN\n    init_args: {hiden: 3}\n",
            ("hiden", ", line 4"),
        ),
        (b"model:\n  optimizer:\n    class_path: Adm\n", ("mean Adam?", ", line 2")),
        (b"trainer:\n  max_epochs: [1\nmodel: {\n", (", line 3", "expected ','")),
        (b"trainer:\n\tmax_epochs: 3\n", (", line 2", "cannot start any token")),
        (b"", ("is empty",)),
        (b"# nothing yet\n", ("is empty",)),
        (b"- a\n- b\n", ("is not a configuration",)),
        (b"\x89PNG\r\n", ("is not a text file in UTF-8",)),
        (b"a: b\0\n", ("is not a text file in UTF-8",)),
    ],
)
def test_a_mistake_in_a_configuration_names_the_file_and_the_line(
    cli: Cli, tmp_path: Path, content: bytes, words: tuple[str, ...]
) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    mistake(cli("fit", *CNN, "-c", tmp_path / "mine.yaml"), str(tmp_path / "mine.yaml"), *words)


def test_a_mistake_in_a_flag_is_not_put_down_to_a_file(cli: Cli) -> None:
    result = cli("fit", *CNN, "--data.batch_size=many")
    mistake(result, "data.batch_size")
    assert "cnn.yaml" not in result.err


def test_help_names_the_classes_that_there_are(cli: Cli) -> None:
    result = cli("fit", "--model.net.help")
    assert result.code == 0
    for net in ("EnsembleCNN", "FastCNN", "KerasCNN", "RecordCNN", "SequentialCNN"):
        assert net in result.out
    assert ", Adam, AdamW, " in cli("fit", "--model.optimizer.help", "--trainer.devices=1").out
    assert "RandomPen" in cli("fit", "--model.augment.help").out
    assert "MovingAverage" in cli("fit", "--trainer.callbacks.help").out


def test_a_truncated_checkpoint(cli: Cli, checkpoint: Path, tmp_path: Path) -> None:
    content = checkpoint.read_bytes()
    for size in (0, 1, 1000, len(content) // 2, len(content) - 1000):
        (tmp_path / "x.ckpt").write_bytes(content[:size])
        mistake(cli("test", "--ckpt_path", tmp_path / "x.ckpt"), "x.ckpt", "truncated")


class Command:
    """Pickles as a command to run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_a_checkpoint_that_carries_code_is_refused(cli: Cli, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "x": Command()}, tmp_path / "new.ckpt")
    (tmp_path / "old.ckpt").write_bytes(pickle.dumps({"state_dict": {}, "x": Command()}, 2))
    for name in ("new.ckpt", "old.ckpt"):
        mistake(cli("test", "--ckpt_path", tmp_path / name), name, "code")
    assert not Path("pwned").exists()


def test_a_checkpoint_of_another_net(cli: Cli, checkpoint: Path) -> None:
    other = "--model.net.init_args.hidden=64"
    words = ("another net", "net.dense1.weight", "(64, 9216)", "(128, 9216)")
    mistake(cli("test", *CNN, other, "--ckpt_path", checkpoint), *words)


def test_a_checkpoint_that_is_not_lightning_s(cli: Cli, tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "x.ckpt")
    mistake(cli("test", "--ckpt_path", tmp_path / "x.ckpt"), "state_dict")


def test_a_checkpoint_cannot_name_a_class_outside_of_this_project(
    cli: Cli, checkpoint: Path, tmp_path: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"] = {"net": {"class_path": "tests.no_such.Net", "init_args": {}}}
    torch.save(content, tmp_path / "x.ckpt")
    result = cli("validate", "--ckpt_path", tmp_path / "x.ckpt", "--trainer.limit_val_batches=1")
    assert result.code == 0, result.err  # the default net, and the weights fit it


@pytest.mark.parametrize("flag", [True, False])
def test_debug_shows_the_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch, flag: bool) -> None:
    if not flag:
        monkeypatch.setenv("MNIST_CNN_DEBUG", "1")
    with pytest.raises(ValueError, match="val_size"):  # Python prints what is not caught
        cli("fit", *CNN, "--data.val_size=70000", *["--debug"] * flag)


IMITATED, SLOWER = "takes many times as long", "may be slower in bf16"
FASTER = "may be faster with --config bf16.yaml"


@pytest.mark.parametrize(
    ("flags", "precision", "says"),
    [
        ("sse4_2 avx2", "bf16-mixed", IMITATED),
        ("avx512_bf16 avx2", "bf16-mixed", SLOWER),
        ("amx_bf16 amx_tile", "bf16-mixed", None),
        (None, "bf16-mixed", None),  # not Linux on x86: nothing is known
        ("sse4_2 avx2", "32-true", None),
        ("avx512_bf16 avx2", "32-true", None),
        ("avx512_bf16 amx_bf16 amx_tile", "32-true", FASTER),
    ],
)
def test_a_precision_that_is_slow_on_this_cpu_is_said(
    flags: str | None,
    precision: str,
    says: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        f"model name\t: a CPU\nflags\t\t: fpu {flags}\n" if flags else "Features: asimd"
    )
    monkeypatch.setattr(preflight, "CPU_INFO", info)
    trainer = Trainer(accelerator="cpu", precision=precision, logger=False)  # type: ignore[arg-type]
    for command in ("fit", "test"):
        caplog.clear()
        preflight.check_bf16(trainer, command)
        said = capsys.readouterr().err + caplog.text
        for line in (
            IMITATED,
            SLOWER,
            FASTER,
        ):
            there = line == says and (command == "fit" or line != FASTER)
            assert (line in said) == there, (command, line)


@pytest.mark.slow
def test_a_schedule_that_is_shorter_than_the_run_is_refused_before_it_starts(cli: Cli) -> None:
    done = cli("fit", "--config", "configs/fast.yaml", "--trainer.max_epochs=2")
    assert done.code == 2
    assert "--model.lr_scheduler.init_args.total_steps 220: must be the steps of the run, 440" in (
        done.err
    )
    done = cli("fit", "--config", "configs/fast.yaml", *SHORT[2:])
    assert done.code == 0, done.err
    assert "the run ends before the schedule does, after 3 steps" in done.err


def test_a_bug_is_not_taken_for_a_mistake(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "MAX_PROCESSES_PER_CORE", None)
    result = cli("fit", *SHORT)
    assert result.code == 70
    assert "Traceback" in result.err
    assert "TypeError" in result.err
    assert "This is a bug of mnist-cnn" in result.err
    assert "error: " not in result.err.lower().replace("typeerror: ", "")


def test_an_error_in_a_class_of_the_user_s_is_not_called_a_bug_of_the_program(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_the_user.py").write_text(
        """from lightning.pytorch import Callback
from torch import nn

class Broken(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(100, 10))

    def forward(self, x):
        return super().forward(x)

class Raises(Callback):
    def on_train_batch_end(self, *_): raise ValueError("of the user")
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    for flag, line in (
        ("--model.net=of_the_user.Broken", 9),
        ("--trainer.callbacks+=of_the_user.Raises", 12),
    ):
        result = cli("fit", *SHORT, flag)
        assert result.code == 1
        assert "Traceback" in result.err
        assert f"not of mnist-cnn: {tmp_path / 'of_the_user.py'}, line {line}\n" in result.err
        assert "bug of mnist-cnn" not in result.err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing ends them with the first")
@pytest.mark.parametrize(("rank", "status"), [({}, 130), ({"LOCAL_RANK": "1"}, 0)])
def test_ctrl_c_is_for_the_process_that_started_the_others(
    rank: dict[str, str], status: int
) -> None:
    code = (
        "import os, signal, sys; from mnist_cnn.importing import leave_on_signals;"
        "leave_on_signals(sys.exit); os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | rank)
    assert done.returncode == status


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 2.5, 4])
def test_a_signal_while_modules_are_imported_ends_in_its_status(logs: Path, seconds: float) -> None:
    command = [sys.executable, "-m", "mnist_cnn", "fit", f"--trainer.logger.save_dir={logs}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)  # torch takes some to be imported, and Lightning
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 138
    assert "terminate called" not in err


@pytest.mark.parametrize(
    ("arguments", "expected", "said"),
    [
        (["--model.optimizer=Adam"], {"lr": 0.001, "eps": 1e-8}, ""),
        (
            ["--config=cnn.yaml", "--model.optimizer=torch.optim.RMSprop"],
            {"lr": 0.01, "eps": 1e-8},
            "RMSprop takes the place of Adadelta",
        ),
        (["--model.optimizer.lr=0.5", "--model.optimizer=SGD"], {"lr": 0.001}, ""),
        (["--model.optimizer=SGD", "--model.optimizer.lr=0.5"], {"lr": 0.5}, ""),
        (["--model.optimizer=mnist_cnn.Adadelta"], {"lr": 1.0, "eps": 1e-7}, ""),
        (["--model.optimizer=Adadelta"], {"lr": 1.0, "eps": 1e-7}, ""),
        (["--config=fast.yaml"], {"lr": 0.012, "eps": 1e-7}, ""),
        (["--config=record.yaml", "--config=cnn.yaml"], {"lr": 1.0, "eps": 1e-7}, "AdamW"),
    ],
)
def test_another_class_starts_from_its_own_defaults(
    cli: Cli, arguments: list[str], expected: dict[str, float], said: str
) -> None:
    done = cli("fit", *arguments, "--print_config")
    assert done.code == 0, done.err
    settings = yaml.safe_load(done.out)["model"]["optimizer"]["init_args"]
    assert {name: settings[name] for name in expected} == expected
    assert said in done.err
    assert bool(done.err) == bool(said)


def test_another_net_and_logger_start_from_their_own_defaults(cli: Cli) -> None:
    flags = ["--model.net.init_args.hidden=16", "--model.net=FastCNN", "--trainer.logger=CSVLogger"]
    done = cli("fit", "--config=cnn.yaml", *flags, "--print_config")
    config = yaml.safe_load(done.out)
    assert config["model"]["net"]["init_args"]["hidden"] == 256
    logger = config["trainer"]["logger"]["init_args"]
    assert (logger["save_dir"], logger["name"]) == ("tb_logs", "lightning_logs")
    assert "dropped name" in done.err


def test_a_schedule_by_a_metric_goes_by_its_short_name(cli: Cli) -> None:
    flags = ("--model.lr_scheduler=ReduceLROnPlateau", "--model.lr_scheduler.monitor=val/loss")
    done = cli("fit", *flags, "--print_config")
    assert "lightning.pytorch.cli.ReduceLROnPlateau" in done.out, done.err


@pytest.mark.slow
def test_a_callback_with_a_default_that_no_file_can_hold_is_saved(cli: Cli, logs: Path) -> None:
    timer = ("--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:01:00:00")
    done = cli("fit", *SHORT, *SMALL, *timer)
    assert done.code == 0, done.err
    assert "interval: step" in (logs / "cnn/version_0/config.yaml").read_text()
    assert cli("fit", "--config", logs / "cnn/version_0/config.yaml", "--print_config").code == 0


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--lr=0.1", "--model.optimizer.lr?"),
        ("--batch_size=64", "--data.batch_size?"),
        ("--epochs=3", "--trainer.max_epochs?"),
        ("--epoch=3", "--trainer.max_epochs?"),
        ("--trainer.max_epoch=3", "--trainer.max_epochs?"),
    ],
)
def test_a_flag_that_is_not_there_is_guessed(cli: Cli, flag: str, meant: str) -> None:
    mistake(cli("fit", flag), f"nrecognized arguments: {flag}; did you mean {meant}")


def test_a_net_is_named_beside_one_that_derives_from_it() -> None:
    class Mine(mnist_cnn.FastCNN):
        pass

    assert {"FastCNN", Mine.__name__} <= set(hints.names("model.net"))


@pytest.mark.parametrize("config", [["--config", "configs/fast.yaml"], ["-c=configs/fast.yaml"]])
def test_a_flag_wins_over_a_configuration_after_it(cli: Cli, config: list[str]) -> None:
    result = cli("fit", "--trainer.max_epochs", "99", "--ckpt_path=last", *config, "--print_config")
    printed = yaml.safe_load(result.out)
    assert (printed["trainer"]["max_epochs"], printed["ckpt_path"]) == (99, "last")
    assert printed["model"]["net"]["class_path"] == "mnist_cnn.FastCNN"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--data.batch_size=1.5", "--data.batch_size 1.5: expected a whole number"),
        ("--trainer.max_epochs=", "--trainer.max_epochs '': expected a whole number or null"),
        ("--model.compile=yes!", "--model.compile 'yes!': expected auto, true or false"),
        ("--model.optimizer.lr=x", "--model.optimizer.lr x: expected a number"),
        (
            "--trainer.gradient_clip_val=x",
            "--trainer.gradient_clip_val x: expected a number or null",
        ),
        (
            "--model.net.filtres=[1,2]",
            "--model.net: mnist_cnn.KerasCNN has no setting filtres; did you mean filters?",
        ),
        (
            "--model.optimizer=Adam --model.optimizer.momentum=0.9",
            "--model.optimizer: torch.optim.Adam has no setting momentum",
        ),
        (
            "--model.lr_scheduler=StepLR",
            "--model.lr_scheduler: torch.optim.lr_scheduler.StepLR needs "
            "--model.lr_scheduler.step_size",
        ),
        (
            "--model.lr_scheduler=StepLR --model.lr_scheduler.step_size=x",
            "--model.lr_scheduler.step_size x: expected a whole number",
        ),
        (
            "--trainer.callbacks+=EarlyStoping",
            "--trainer.callbacks EarlyStoping: there is no such class; did you mean EarlyStopping?",
        ),
        (
            "--trainer.callbacks+=EarlyStopping --trainer.callbacks.patience=x",
            "--trainer.callbacks.patience x: expected a whole number",
        ),
        (
            "--model.augment=RandomAffine --model.augment.degrees=x",
            "--model.augment.degrees x: expected a number",
        ),
        (
            "--model.lr_scheduler=torch.optim.lr_scheduler.StepLr",
            "--model.lr_scheduler torch.optim.lr_scheduler.StepLr: module "
            "'torch.optim.lr_scheduler' has no attribute 'StepLr'; did you mean "
            "torch.optim.lr_scheduler.StepLR?",
        ),
        (
            "--trainer.logger=mnist_cnn.KerasCNN",
            "--trainer.logger mnist_cnn.KerasCNN: expected a subclass of Logger, a list, true, "
            "false or null",
        ),
    ],
)
def test_what_is_wrong_with_a_setting_is_said_in_plain_words(
    cli: Cli, flags: str, line: str
) -> None:
    result = cli("fit", *flags.split())
    mistake(result, line)
    assert f"error: {line}\n" in result.err


@pytest.mark.slow
def test_the_class_within_another_is_the_one_that_is_wrong(cli: Cli, tmp_path: Path) -> None:
    ours = Path("configs/pictures.yaml").read_text()
    mine = tmp_path / "mine.yaml"
    mine.write_text(ours.replace("degrees: 12", "degres: 12"))
    mistake(cli("fit", "--config", mine), "RandomAffine has no setting degres", "mean degrees?")
    mine.write_text(ours.replace("decay: 0.998", "decay: x"))
    mistake(cli("fit", "--config", mine), "callbacks.decay x: expected a number", f"({mine}, line")


def test_an_optimizer_that_refuses_its_settings_is_the_user_s(cli: Cli) -> None:
    flags = ("--model.optimizer=torch.optim.SGD", "--model.optimizer.init_args.lr=-1")
    result = cli("fit", *SHORT, *SMALL, *flags)
    mistake(result, "--model.optimizer", "Invalid learning rate: -1")
    assert result.code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/los"], "val/los"),
        (["--trainer.callbacks+=BackboneFinetuning"], "has no attribute 'backbone'"),
        (["--trainer.val_check_interval=9"], "val_check_interval"),
        (["--trainer.val_check_interval=0"], "--trainer.val_check_interval 0"),
        (["--trainer.accumulate_grad_batches=0"], "--trainer.accumulate_grad_batches 0"),
        (["--trainer.check_val_every_n_epoch=0"], "--trainer.check_val_every_n_epoch 0"),
        (["--trainer.devices=foo"], "--trainer.devices foo"),
        (["--seed_everything=-1"], "-1 is not in bounds"),
        (["--model.net.init_args.num_classes=11"], "(1, 11) for one image"),
        (["--model.net.init_args.filters=[0, 4]"], "filters, units and classes must be at least 1"),
        (["--model.net.init_args.hidden=-1"], "filters, units and classes must be at least 1"),
        (["--model.optimizer=SparseAdam"], "does not support dense gradients"),
        (["--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau"], "knows no metric"),
        (["--ckpt_path=hpc"], "no HPC checkpoint was found"),
        (["--ckpt_path=http://127.0.0.1:9/last.ckpt"], "Checkpoint file not found"),
        (
            [
                *("--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor=val/loss"),
                "--trainer.callbacks.filename=best",
            ],
            "filename best: a run has that file",
        ),
        (["--best_checkpoint.filename=last"], "--best_checkpoint.filename last"),
        (["--ckpt_path="], "--ckpt_path is empty"),
        (
            [
                *("--model.lr_scheduler=OneCycleLR", "--model.lr_scheduler.max_lr=1"),
                *("--model.lr_scheduler.total_steps=1", "--trainer.max_epochs=2"),
                "--model.lr_scheduler.cycle_momentum=false",
            ],
            "total_steps 1: must be the steps of the run, 2",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_settings_that_lightning_fails_at_are_refused(
    cli: Cli, flags: list[str], words: str
) -> None:
    mistake(cli("fit", *SHORT, *SMALL, *flags), words)


@pytest.mark.slow
def test_another_optimizer_cannot_go_on(cli: Cli) -> None:
    assert cli("fit", *SHORT, *SMALL).code == 0
    more = ("--ckpt_path=last", "--trainer.max_epochs=2")
    mistake(
        cli("fit", *SHORT, *SMALL, *more, "--model.optimizer=Adam"), "Adadelta, with which Adam"
    )
    finder = ("--trainer.callbacks+=LearningRateFinder",)
    mistake(cli("fit", *SHORT, *SMALL, *more, *finder), "LearningRateFinder would begin")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": {}}, "was not saved by Lightning"),
        (
            {"state_dict": [], "pytorch-lightning_version": "2.6.6"},
            "holds weights, but not the run",
        ),
    ],
)
def test_a_file_that_is_no_run_s_checkpoint(
    cli: Cli, tmp_path: Path, content: dict[str, object], words: str
) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    mistake(cli("fit", *SHORT, *SMALL, "--ckpt_path", tmp_path / "other.ckpt"), words)
