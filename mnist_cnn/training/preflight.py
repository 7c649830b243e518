"""What can be checked before any process, file or step of a run is started."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities import rank_zero_info

from mnist_cnn.errors import UserError, warn
from mnist_cnn.processes import cores
from mnist_cnn.training.global_batches import check_global_batch
from mnist_cnn.training.metrics import NUM_CLASSES
from mnist_cnn.training.obstacles import no_compiler
from mnist_cnn.training.trainer_state import run_folder

#: Processes a core; beyond it they only wait for each other.
MAX_PROCESSES_PER_CORE = 2
#: Where Linux says what the CPU can do.
CPU_INFO = Path("/proc/cpuinfo")


def check(trainer: Trainer, model: LightningModule, data: Any, command: str) -> None:
    """Refuse what this machine cannot do, and warn of what it does slowly.

    Raises:
        UserError: If the settings cannot be used together, or not on this machine.
    """
    check_cores(trainer)
    check_compiler(model)
    check_bf16(trainer, command)
    check_writable(trainer)
    if command != "fit":
        return
    check_launcher(trainer)
    check_intervals(trainer)
    check_classes(model)
    check_global_batch(data.batch_size, trainer.world_size, data.chunks)
    if data.chunks and any("BatchNorm" in type(m).__name__ for m in model.modules()):
        raise UserError(
            "--data.chunks is not for nets with batch normalisation, which needs the batch as a "
            "whole; its statistics are the same on any number of devices without it"
        )
    if data.chunks and trainer.precision in ("16-mixed", "16-true"):
        raise UserError("--data.chunks is not for --trainer.precision 16: take bf16-mixed")


def check_cores(trainer: Trainer) -> None:
    """Refuse more CPU processes than make sense on this machine.

    Raises:
        UserError: If there are more than two for a core.
    """
    most = MAX_PROCESSES_PER_CORE * cores()
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > most:
        raise UserError(
            f"--trainer.devices {trainer.num_devices}: each is a process, and this machine has "
            f"{cores()} core(s); use at most {most}"
        )


def check_compiler(model: LightningModule) -> None:
    """Refuse to compile where ``torch.compile`` does not know this Python.

    Raises:
        UserError: If it is asked for, and not left to what the machine can do.
    """
    if getattr(model, "compile_net", "auto") is True and (reason := no_compiler()):
        raise UserError(f"--model.compile true: {reason}")


def check_launcher(trainer: Trainer) -> None:
    """Refuse to train in processes that are copies of this one.

    Raises:
        UserError: If the strategy starts such.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise UserError(
            "--trainer.strategy ddp_spawn, ddp_fork and ddp_notebook train in copies of this "
            "process, which hand back neither a report nor a signal: use --trainer.strategy ddp, "
            "which trains the same"
        )


def check_intervals(trainer: Trainer) -> None:
    """Refuse to do something every 0 batches or epochs.

    Raises:
        UserError: If an interval is 0.
    """
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"):
        if getattr(trainer, name) == 0:
            raise UserError(f"--trainer.{name} 0: must be more than 0")


def check_classes(model: LightningModule) -> None:
    """Refuse a net that does not give one number for each class.

    Raises:
        UserError: If it gives something else.
    """
    modes = {module: module.training for module in model.modules()}
    with torch.inference_mode():
        given = model.eval()(model.example_input_array)
    for module, mode in modes.items():
        module.training = mode
    shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
    if shape != (1, NUM_CLASSES):
        raise UserError(
            f"--model.net gives {shape} for one image: it must give (1, {NUM_CLASSES}), a logit "
            "for each class"
        )


def check_bf16(trainer: Trainer, command: str) -> None:
    """Say where another precision is faster, as far as Linux says what this CPU can do.

    AMX multiplies matrices in bf16 many times as fast as AVX-512 in float32; AVX-512 in bf16 does
    not; other CPUs imitate bf16 (see docs/speed.md).
    """
    info = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    if not (isinstance(trainer.accelerator, CPUAccelerator) and re.search(r"^flags\b", info, re.M)):
        return
    has = set(re.findall(r"\b(avx512|amx)_bf16\b", info))
    if "bf16" not in str(trainer.precision):
        if command == "fit" and "amx" in has and trainer.precision == "32-true":
            rank_zero_info("This CPU has AMX, and may be faster with --config bf16.yaml.")
    elif not has:
        warn(
            f"--trainer.precision {trainer.precision}: this CPU has no instructions for bf16, and "
            "takes many times as long so: use --trainer.precision 32-true"
        )
    elif "amx" not in has:
        rank_zero_info("This CPU has no AMX, and may be slower in bf16 than in float32.")


def check_writable(trainer: Trainer) -> None:
    """Refuse a folder for logs that cannot be written.

    Raises:
        UserError: If a file cannot be made there.
    """
    for logger in trainer.loggers if trainer.is_global_zero else []:
        folder = Path(logger.root_dir or run_folder(trainer).parent)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise UserError(
                f"--trainer.logger.init_args.save_dir: cannot write logs to {folder}: {error}"
            ) from error
