"""What a test needs of the machine beyond Python's packages, and what happens where it is missing.

Here alone is decided whether a test is skipped: where something is missing it fails, so that no
run is green that has not tested all. ``MNIST_CNN_ALLOW_SKIPS=1`` lets it be skipped, on a laptop.

    @pytest.mark.needs("npm")               # programs, "root", "network namespaces"
    keras = package("keras")                # packages of the extra `dev`
"""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import import_module
from typing import Any, NoReturn

import pytest

#: With the folders of programs that are for root.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
ALLOW_SKIPS = "MNIST_CNN_ALLOW_SKIPS"
#: Debian's packages of programs that are named otherwise.
PACKAGES = {
    "chromedriver": "chromium-driver",
    "ip": "iproute2",
    "munged": "munge",
    "sbatch": "slurm-wlm",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
}


def require(*needs: str) -> None:
    """End the test that is running unless all `needs` are there."""
    for need in needs:
        if reason := missing(need):
            do_without(reason)


def package(name: str) -> Any:
    """Import a package for the test that is running."""
    try:
        return import_module(name)
    except ImportError as error:
        do_without(f"needs the package {name}: {error}")


def missing(need: str) -> str:
    """Why a need is not met, or nothing."""
    if need == "root":
        is_root = hasattr(os, "geteuid") and os.geteuid() == 0
        return "" if is_root else "needs root"
    if need == "network namespaces":  # which root in a container may not be allowed to make
        probe = f"probe{os.getpid()}"
        if reason := missing("root") or missing("ip"):
            return reason
        add = ["ip", "netns", "add", probe]
        made = subprocess.run(add, capture_output=True, text=True, env=os.environ | {"PATH": PATH})
        if made.returncode:
            return f"needs network namespaces: {made.stderr.strip()}"
        subprocess.run(["ip", "netns", "del", probe], check=True, env=os.environ | {"PATH": PATH})
        return ""
    if shutil.which(need, path=PATH):
        return ""
    return f"needs {need} (Debian's package {PACKAGES.get(need, need)})"


def do_without(reason: str) -> NoReturn:
    """Fail the test that is running, or skip it where that is allowed."""
    if os.environ.get(ALLOW_SKIPS, "0") not in ("", "0"):
        pytest.skip(reason)
    pytest.fail(f"{reason}; {ALLOW_SKIPS}=1 skips such tests", pytrace=False)
