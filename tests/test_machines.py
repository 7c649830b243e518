"""Training on several machines: torchrun over a real link between network namespaces, and SLURM.

Both need root, and Debian's iproute2, slurm-wlm and munge.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from lightning.pytorch import Callback

from mnist_cnn.checkpoints.files import read_checkpoint
from tests.conftest import CNN, ROOT, Result, made_once
from tests.support.needs import PATH, do_without, require
from tests.support.runs import differences, state

Program = Callable[..., Result]
pytestmark = [pytest.mark.slow, pytest.mark.machines]
RUN = (
    *("fit", *CNN, "--trainer.max_epochs=2", "--trainer.limit_train_batches=25"),
    *("--trainer.limit_val_batches=3", "--trainer.log_every_n_steps=1"),
    *("--trainer.accelerator=cpu", "--trainer.enable_model_summary=false"),
    "--last_checkpoint.every_n_train_steps=5",
)
TIMEOUT = 10  # seconds after which a silent machine counts as lost


class Machines:
    """Two network namespaces with a veth pair between them: machines that share a disk."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.names = [f"mnist{os.getpid()}-{i}" for i in (1, 2)]
        self.links = [f"veth{os.getpid() % 10**6}{i}" for i in (1, 2)]
        self.agents: dict[int, psutil.Popen] = {}
        self.started = 0
        self.outputs: list[IO[str]] = []

    def __enter__(self) -> Machines:
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        (one, two), (here, there) = self.names, self.links
        ip("link", "add", here, "netns", one, "type", "veth", "peer", "name", there, "netns", two)
        for i, (name, link) in enumerate(zip(self.names, self.links, strict=True), 1):
            ip("-n", name, "addr", "add", f"10.77.0.{i}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.agents:
            self.switch_off(machine)
        for name in self.names:
            ip("netns", "del", name)

    def start(self, machine: int) -> None:
        """Start torchrun's agent, and through it the training, on machine 1 or 2."""
        self.started += 1
        self.outputs.append((self.logs.parent / f"agent-{machine}-{self.started}").open("w+"))
        command = [
            *("ip", "netns", "exec", self.names[machine - 1], sys.executable, "-m"),
            *("torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=5"),
            *("--rdzv-backend=c10d", "--rdzv-endpoint=10.77.0.1:29400", "--rdzv-id=mnist"),
            f"--rdzv-conf=is_host={2 - machine}",
            *(f"--local-addr=10.77.0.{machine}", "-m", "mnist_cnn", *RUN),
            *("--config=configs/machines.yaml", "--ckpt_path=last"),
            f"--trainer.strategy.init_args.timeout=0:00:{TIMEOUT}",
            f"--trainer.logger.init_args.save_dir={self.logs}",
            "--trainer.logger.init_args.version=two",
        ]
        environment = os.environ | {
            "PATH": PATH,
            "GLOO_SOCKET_IFNAME": self.links[machine - 1],
            "OMP_NUM_THREADS": "1",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # see configs/machines.yaml
        }
        output = self.outputs[-1]
        self.agents[machine] = psutil.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output
        )

    def switch_off(self, machine: int) -> None:
        """Kill the agent; what it started has to end with it."""
        agent = self.agents[machine]
        if agent.poll() is None:
            family = [agent, *agent.children(recursive=True)]
            agent.kill()
            assert not psutil.wait_procs(family, timeout=30)[1]

    def cut_link(self, seconds: float) -> None:
        ip("-n", self.names[0], "link", "set", self.links[0], "down")
        time.sleep(seconds)
        ip("-n", self.names[0], "link", "set", self.links[0], "up")

    def wait_for_step(self, step: int) -> None:
        """Wait until a checkpoint of this step, or a later one, is there."""
        last = self.logs / "cnn" / "two" / "checkpoints" / "last.ckpt"
        deadline = time.monotonic() + 120
        while not last.exists() or read_checkpoint(last)["global_step"] < step:
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.1)

    def wait_for_end(self, restart: bool = False) -> None:
        """Wait until both agents have ended well; with `restart`, start again those that failed.

        That is what systemd or a scheduler does for an agent.
        """
        deadline = time.monotonic() + 300
        while any(agent.poll() is None or agent.returncode for agent in self.agents.values()):
            for machine, agent in list(self.agents.items()):
                if agent.poll():
                    assert restart, self.report()
                    self.start(machine)
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.5)

    def report(self) -> str:
        for output in self.outputs:
            output.flush()
        return "\n".join(Path(output.name).read_text()[-3000:] for output in self.outputs)

    def state(self) -> dict[str, Any]:
        return state(self.logs / "cnn" / "two")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, env=os.environ | {"PATH": PATH})


@pytest.fixture
def machines(logs: Path, mnist_root: Path) -> Iterator[Machines]:
    require("network namespaces")
    with Machines(logs) as both:
        yield both


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one machine with two processes makes of the run, undisturbed."""

    def make(folder: Path) -> None:
        flags = ["--trainer.devices=2", "--trainer.strategy=ddp"]
        flags.append(f"--trainer.logger.init_args.save_dir={folder}")
        subprocess.run([sys.executable, "-m", "mnist_cnn", *RUN, *flags], check=True, cwd=ROOT)

    return state(made_once(tmp_path_factory, "one_machine", make) / "cnn" / "version_0")


def test_an_agent_that_is_killed_rejoins(machines: Machines, one_machine: dict[str, Any]) -> None:
    machines.start(1)
    machines.start(2)
    machines.wait_for_step(20)
    machines.switch_off(2)
    time.sleep(5)
    assert machines.agents[1].poll() is None, machines.report()  # waits for the other
    machines.start(2)
    machines.wait_for_end()
    assert differences(one_machine, machines.state()) == []


def test_two_machines_train_the_model_of_one_and_wait_for_a_short_cut_of_the_link(
    machines: Machines, one_machine: dict[str, Any]
) -> None:
    machines.start(1)
    machines.start(2)
    machines.wait_for_step(20)
    machines.cut_link(3)
    machines.wait_for_end()
    assert machines.started == 2
    assert differences(one_machine, machines.state()) == []


def test_a_long_cut_of_the_link_ends_in_no_hang_and_no_damage(
    machines: Machines, one_machine: dict[str, Any]
) -> None:
    machines.start(1)
    machines.start(2)
    machines.wait_for_step(20)
    machines.cut_link(2.5 * TIMEOUT)
    read_checkpoint(machines.logs / "cnn" / "two" / "checkpoints" / "last.ckpt")
    machines.wait_for_end(restart=True)
    assert differences(one_machine, machines.state()) == []


class Slurm:
    """A cluster of one node: munge, the controller and the node's daemon, all in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PATH": PATH,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PYTHON": sys.executable,
        }
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Slurm:
        host = os.uname().nodename.partition(".")[0]
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        (self.folder / "slurm.conf").write_text(
            SLURM_CONF.format(folder=self.folder, host=host, cores=os.cpu_count())
        )
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        munge = [f"--{n}-file={self.folder}/munge.{n}" for n in ("key", "pid", "log", "seed")]
        socket = f"--socket={self.folder}/munge.socket"
        for command in (
            ["munged", "--force", "--foreground", *munge, socket],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            output = (self.folder / f"{command[0]}.out").open("w")
            self.daemons.append(
                subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)
            )
            time.sleep(1)
        deadline = time.monotonic() + 60
        while "idle" not in self.ask("sinfo", "--noheader", "--format=%t"):
            if time.monotonic() > deadline:
                self.__exit__()
                do_without(f"SLURM does not start here: {self.report()}")
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        if any(daemon.poll() is None for daemon in self.daemons):
            self.ask("scancel", "--user=root")
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(30)

    def ask(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    def report(self) -> str:
        return "\n".join(file.read_text()[-2000:] for file in self.folder.glob("*.out"))


SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
LONG_RUN = (
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=30"),
    *("--trainer.limit_val_batches=3", "--trainer.log_every_n_steps=1", "--trainer.devices=2"),
    "--trainer.accelerator=cpu",
)


class Rest(Callback):
    """Waits before each step of the first job: 120 s, longer than SLURM takes to signal it."""

    def on_train_batch_start(self, *_: Any) -> None:
        if "SLURM_RESTART_COUNT" not in os.environ:
            time.sleep(2)


@pytest.fixture
def slurm(tmp_path: Path, mnist_root: Path) -> Iterator[Slurm]:
    require("root", "slurmctld", "slurmd", "munged", "sbatch")
    folder = tmp_path / "slurm"
    folder.mkdir()
    with Slurm(folder) as cluster:
        yield cluster


def test_slurm_requeues_at_the_time_limit_and_finishes(
    slurm: Slurm, program: Program, logs: Path, tmp_path: Path
) -> None:
    output = tmp_path / "job"
    limits = ["--time=60", "--signal=USR1@150", "--nodes=1", "--ntasks=2", "--ntasks-per-node=2"]
    flags = [*LONG_RUN, "--trainer.num_nodes=1", f"--trainer.logger.init_args.save_dir={logs}"]
    flags.append("--trainer.callbacks+=tests.test_machines.Rest")
    submit = ["sbatch", "--parsable", *limits, f"--output={output}", "configs/slurm.sbatch", *flags]
    job, submitted = slurm.ask(*submit).strip(), time.monotonic()
    assert job.isdecimal(), job
    deadline = submitted + 900
    while not (output.exists() and "Train on" in output.read_text()):
        assert time.monotonic() < deadline, slurm.report()
        time.sleep(0.5)
    # It trains. Now its limit comes near: SLURM looks every 30 s, and signals 150 s before.
    minutes = int((time.monotonic() - submitted) / 60) + 3
    slurm.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")

    whole = tmp_path / "whole"
    undisturbed = program(  # meanwhile
        *("fit", *CNN, *LONG_RUN, "--trainer.strategy=ddp"),
        f"--trainer.logger.init_args.save_dir={whole}",
        timeout=900,
    )
    assert undisturbed.code == 0, undisturbed.err

    while (status := slurm.ask("squeue", "--noheader", "--format=%T %r", "--states=all")).strip():
        assert time.monotonic() < deadline, status + slurm.report()
        if "COMPLETED" in status:
            break
        assert "FAILED" not in status, output.read_text()
        assert "TIMEOUT" not in status, output.read_text()
        if "BeginTime" in status:  # SLURM lets a requeued job wait for two minutes
            slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=60")
        time.sleep(1)
    text = output.read_text()
    assert "SIGUSR1: stopped after step" in text
    assert f"requeueing job {job}" in text
    assert "Best val_accuracy" in text
    found = state(logs / "cnn" / f"slurm-{job}")
    assert differences(state(whole / "cnn" / "version_0"), found) == []
