"""README and docs: what they tell people to type works, tables are current, links lead on.

Each page is followed from top to bottom in a copy of the project, as a reader does: blocks of
``bash`` and ``python``, and commands in tables. A block whose first line is a comment with a file's
name is written to that file. The two rules for what a test cannot do as it stands come first.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path
from pydoc import locate
from typing import NamedTuple

import pytest
from lightning.pytorch import Trainer
from PIL import Image

from docs.scripts.tables import PAGES, current
from mnist_cnn.__main__ import main
from tests.conftest import ROOT, Result, made_once

#: The one rule that shortens: what is added to a command that begins so, but for the flags that the
#: command gives itself.
SHORTER = {
    "mnist-cnn fit": "--trainer.max_epochs=2 --trainer.limit_train_batches=1 "
    "--trainer.limit_val_batches=1 --trainer.enable_model_summary=false",
    "mnist-cnn validate": "--trainer.limit_val_batches=1",
    "mnist-cnn test": "--trainer.limit_test_batches=1",
    "mnist-cnn predict --ckpt_path": "--trainer.limit_predict_batches=1",  # MNIST's images
    "mnist-cnn serve": "--port 0",
    "python -m making.printed": "--count=100",
}
#: The same for Python: Trainer's defaults.
SHORTER_PYTHON = {f"limit_{part}_batches": 1 for part in ("train", "val", "test")}
#: The one list of what is not run, why, and what is checked instead.
NOT_RUN = {
    r"make ": ("sets up an environment of its own", "its dry run"),
    r"pip install ": ("changes the environment of the tests", "that the extras exist"),
    r"python -m venv ": ("makes an environment of its own", "that bash reads it"),
    r"python -m pytest ": ("tests within a test", "that the files exist"),
    r"python -m making.calibrate": ("replaces the included model", "that there is a Python"),
    r"tensorboard ": ("runs until it is stopped", "that it is installed"),
    r"torchrun ": ("needs two machines (tests/test_machines.py has them)", "the configuration"),
    r"sbatch ": ("needs SLURM (tests/test_machines.py has it)", "that bash reads the script"),
    r"mnist-cnn fit .*--trainer.accelerator gpu": ("needs a GPU", "the configuration"),
    r"mnist-cnn fit .*--trainer.devices auto": ("needs several GPUs", "the configuration"),
}
README_LINES = 150
DEVELOPERS_PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
ALL_PAGES = [*PAGES, *DEVELOPERS_PAGES]
PARTS = re.compile(
    r"^```(?P<language>\w+)\n(?P<block>.*?)^```$|^\|(?P<row>[^\n]*)\|$", re.DOTALL | re.MULTILINE
)


class Step(NamedTuple):
    """Something that a page tells people to do."""

    line: int
    kind: str  # "bash", "python" or "file"
    text: str  # a command, a program, or a file's text


def steps(page: Path) -> Iterator[Step]:
    """What a page tells people to do, in its order."""
    text = page.read_text()
    for part in PARTS.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        language, block = part["language"], part["block"]
        if part["row"]:
            for command in re.findall(r"`(mnist-cnn [^`]+)`", part["row"]):
                yield Step(line, "bash", command)
        elif re.match(r"# [\w.]+\.(py|yaml)\n", block):
            yield Step(line, "file", block)
        elif language == "bash":
            for command in re.sub(r"\\\n\s*", "", block).splitlines():
                if command := re.sub(r"(^|\s+)# .*", "", command):
                    yield Step(line, "bash", command)
        elif language == "python":
            yield Step(line, "python", block)


def why_not(command: str) -> str | None:
    """Why a command is not run, if it is in the list."""
    found = [reason for start, (reason, _) in NOT_RUN.items() if re.match(start, command)]
    return found[0] if found else None


def to_run(page: Path) -> list[Step]:
    """What a page tells people to do, without what a test cannot, or an earlier page has.

    But for files that it makes for what comes next on the page.
    """
    earlier = {step.text for other in PAGES[: PAGES.index(page)] for step in steps(other)}
    earlier = {text for text in earlier if "--out" not in text}
    return [
        step
        for step in steps(page)
        if step.kind != "bash" or not (why_not(step.text) or step.text in earlier)
    ]


def shortened(command: str) -> str:
    """A command with the flags that make it short, and with this environment's Python."""
    for start, flags in SHORTER.items():
        if re.search(rf"(^|=\S* ){start}( |$)", command):
            given = shlex.split(command)
            more = [flag for flag in flags.split(" ") if flag.partition("=")[0] not in given]
            command = " ".join([command, *more])
    python = shlex.quote(sys.executable)
    command = re.sub(r"(^|(?<= ))mnist-cnn (?=\w)", f"{python} -m mnist_cnn ", command)
    return re.sub(r"^python ", f"{python} ", command)


@pytest.fixture(scope="module")
def as_after_training(
    tmp_path_factory: pytest.TempPathFactory, mnist_root: Path
) -> Callable[[Path], None]:
    """Fill a folder with a copy of the project after a short `fit`, and with what readers have."""
    from torchvision.datasets import MNIST

    def make(first: Path) -> None:
        left_out = (".*", "data", "build", "dist", "site", "tb_logs", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT, first, ignore=shutil.ignore_patterns(*left_out))
        # Its own folder: what a page writes beside MNIST is not for the one that tests share.
        (first / "data").mkdir()
        (first / "data" / "MNIST").symlink_to(mnist_root / "MNIST")
        digits = MNIST(str(mnist_root), train=False)
        pictures = ("digit.png", "photos/a.png", "photos/b.png", "scans/x/c.png")
        for index, name in enumerate(pictures):
            path = first / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - digits.data[index].numpy()).resize((112, 112)).save(path)
        shutil.copy(ROOT / "tests/keras_files/trained.keras", first / "model.keras")
        run(first, "mnist-cnn fit")
        assert (first / "tb_logs/cnn/version_0/checkpoints/best.ckpt").exists()

    first = made_once(tmp_path_factory, "docs", make)

    def fill(folder: Path) -> None:
        shutil.copytree(first, folder, symlinks=True)

    return fill


def run(folder: Path, command: str) -> None:
    """Run a command in a folder, shortened, as a shell does."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", shortened(command)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def run_here(folder: Path, command: str) -> None:
    """Run a command of this project's in this process, which spares it the seconds of starting."""
    arguments = shlex.split(shortened(command).partition(" -m mnist_cnn ")[2])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["mnist-cnn", *arguments])
        status: object = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
    assert status in (None, 0), command


def run_python(folder: Path, program: str) -> None:
    """Run a program in a folder, shortened; in this process, too."""
    (folder / "block.py").write_text(program)
    shorter = partialmethod(Trainer.__init__, **SHORTER_PYTHON)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(Trainer, "__init__", shorter)
        runpy.run_path("block.py", run_name="__main__")


def environment(folder: Path) -> dict[str, str]:
    """A reader's: the project is the copy, the device is the CPU."""
    return os.environ | {"PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": ""}


class Server:
    """What `mnist-cnn serve` started, until the page ends or starts another."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self, folder: Path, command: str) -> None:
        self.stop()
        words = shlex.split(shortened(command))
        self.process = subprocess.Popen(
            words, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        found = re.search(r"http://[\d.]+:\d+", self.process.stdout.readline())
        assert found, command
        self.url = found[0]

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.communicate(timeout=180)  # on a busy machine
            self.process = None


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if to_run(p)], ids=lambda page: page.stem)
def test_what_a_page_says_works(
    page: Path, as_after_training: Callable[[Path], None], tmp_path: Path
) -> None:
    folder, server = tmp_path / "project", Server()
    as_after_training(folder)
    try:
        for step in to_run(page):
            print(f"{page.name}, line {step.line}: {step.text.splitlines()[0]}")
            if step.kind == "file":
                name = step.text.split()[1]
                (folder / name).write_text(step.text)
            elif step.kind == "python":
                run_python(folder, step.text)
            elif re.match(r"mnist-cnn serve\b", step.text):
                server.start(folder, step.text)
            elif step.text.startswith("mnist-cnn ") and "ddp" not in step.text:
                run_here(folder, step.text)
            else:
                run(folder, step.text.replace("http://127.0.0.1:8000", server.url))
    finally:
        server.stop()


@pytest.mark.parametrize(
    "command",
    sorted({s.text for p in ALL_PAGES for s in steps(p) if s.kind == "bash" and why_not(s.text)}),
)
def test_what_is_not_run_is_sound(command: str, cli: Callable[..., Result]) -> None:
    subprocess.run(["bash", "-n", "-c", command], check=True)
    words = shlex.split(command)
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], check=True, capture_output=True)
    elif words[0] == "pip":
        provided = importlib.metadata.metadata("mnist-cnn").get_all("Provides-Extra") or []
        assert set(re.findall(r"\w+(?=[\],])", words[-1])) <= set(provided)
    elif words[0] in ("tensorboard", "python"):
        assert (Path(sys.executable).parent / words[0]).exists()
        assert all((ROOT / word).exists() for word in words if word.endswith(".py"))
    elif words[0] == "sbatch":
        (script,) = [word for word in words if word.endswith(".sbatch")]
        subprocess.run(["bash", "-n", script], check=True)
    else:
        first = words.index("fit")
        flags = [word for word in words[first + 1 :] if word not in ("--ckpt_path", "last")]
        for place, word in enumerate(flags):  # parsing asks whether the device is there
            if word in ("--trainer.accelerator", "--trainer.devices"):
                flags[place + 1] = "cpu" if word.endswith("accelerator") else "2"
        done = cli("fit", *flags, "--print_config")
        assert done.code == 0, done.err


def test_the_list_of_what_is_not_run_is_needed() -> None:
    commands = [step.text for page in ALL_PAGES for step in steps(page) if step.kind == "bash"]
    for start in NOT_RUN:
        assert any(re.match(start, command) for command in commands), start
    for start in SHORTER:
        assert any(re.search(start, command) for command in commands), start


def test_the_readme_is_for_people_in_a_hurry() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_are_current(page: Path) -> None:
    assert page.read_text() == current(page.read_text()), "make figures"


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
            assert anchor in anchors, target


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_what_the_text_names_exists(page: Path) -> None:
    text = page.read_text()
    written = {step.text.split()[1] for step in steps(page) if step.kind == "file"}
    for name in re.findall(r"`((?:mnist_cnn|configs|benchmarks|docs|tests)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(\w+\.yaml)`", text):
        assert name in written | {"config.yaml"} or (ROOT / "configs" / name).exists(), name
    for name in re.findall(r"`make ([\w-]+)", text):
        subprocess.run(["make", "-n", name], check=True, capture_output=True, cwd=ROOT)
    for name in re.findall(r"`python -m ([\w.]+)", text):
        assert importlib.util.find_spec(name), name
    for name in re.findall(r"`(mnist_cnn(?:\.\w+)+)`", text):
        assert locate(name) is not None, name
