"""Kill a run at random moments, resume it each time, and compare its end with the undisturbed run.

    python -m tests.support.soak --kills 50
    python -m tests.support.soak --kills 20 --devices 2

The run is configs/cnn.yaml shortened to a few epochs of a few steps, and saves often. Each kill is
a SIGKILL of one of its processes, at a moment drawn uniformly from the start of the program on; the
others have to end by themselves. A run that reaches its end is compared bit for bit, and another
one is begun, until there were enough kills. One that ends otherwise than the undisturbed one stops
the soak with exit status 1, and is kept.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.support.runs import differences, state

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds that the rest of a run may take to notice a killed process


def command(folder: Path, epochs: int, devices: int, resume: bool) -> list[str]:
    """A run of epochs of 40 steps, each with a validation, that saves every 5 steps."""
    return [
        *(sys.executable, "-m", "mnist_cnn", "fit", "--config", "configs/cnn.yaml"),
        *(f"--trainer.max_epochs={epochs}", "--trainer.limit_train_batches=40"),
        *("--trainer.limit_val_batches=10", "--trainer.log_every_n_steps=1"),
        *("--trainer.enable_model_summary=false", "--last_checkpoint.every_n_train_steps=5"),
        *("--trainer.accelerator=cpu", f"--trainer.devices={devices}"),
        *["--trainer.strategy=ddp"] * (devices > 1),
        *(
            "--trainer.logger.init_args.version=run",
            f"--trainer.logger.init_args.save_dir={folder}",
        ),
        *["--ckpt_path=last"] * resume,
    ]


def kill_at(process: psutil.Popen, moment: float) -> str:
    """Kill one of a run's processes after `moment` seconds, at random which.

    Returns:
        What it was doing; empty if it had ended by itself.

    Raises:
        TimeoutError: If the others are still there when they should have noticed.
    """
    try:
        process.wait(moment)
        return ""
    except psutil.TimeoutExpired:
        pass
    family = [process, *process.children(recursive=True)]
    victim = random.choice(family)
    victim.kill()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    if alive:
        raise TimeoutError(f"{alive} outlive process {victim} for {PATIENCE} s")
    return "rank 0" if victim is process else "another rank"


def main() -> None:
    """Train once undisturbed; then kill, resume and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    args = parser.parse_args()
    random.seed(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    run = lambda name: folder / name / "cnn" / "run"  # noqa: E731

    start = time.perf_counter()
    undisturbed_run = command(folder / "undisturbed", args.epochs, args.devices, False)
    subprocess.run(undisturbed_run, check=True, cwd=ROOT, capture_output=True)
    undisturbed, seconds = state(run("undisturbed")), time.perf_counter() - start

    kills = starting = saving = runs = 0
    while kills < args.kills or (folder / "killed").exists():
        log = (folder / "log").open("w")
        last_kill = kills >= args.kills
        resumed_run = command(folder / "killed", args.epochs, args.devices, True)
        process = psutil.Popen(resumed_run, cwd=ROOT, stdout=log, stderr=log)
        victim = kill_at(process, 10 * seconds if last_kill else random.uniform(0, 0.7 * seconds))
        if victim:
            kills += 1
            half = any(
                file.stat().st_mtime > process.create_time()
                for file in folder.glob("killed/cnn/*/checkpoints/.*.tmp")
            )
            saving += half
            starting += "Train on" not in (folder / "log").read_text()
            print(f"kill {kills}: {victim}{', while saving' if half else ''}", flush=True)
        elif process.returncode:
            sys.exit(f"a resumed run failed: see {folder / 'log'}")
        else:
            runs += 1
            if found := differences(undisturbed, state(run("killed"))):
                sys.exit("\n".join([f"run {runs} ended otherwise: see {folder}", *found]))
            print(f"run {runs} ended bit-identical to the undisturbed run", flush=True)
            shutil.rmtree(folder / "killed")
    shutil.rmtree(folder)
    print(
        f"{kills} of {kills} kills survived on {args.devices} device(s): {starting} while the "
        f"program started, {saving} while a checkpoint was being written, the others in training "
        f"and validation; {runs} run(s) ended bit-identical to the undisturbed one"
    )


if __name__ == "__main__":
    main()
