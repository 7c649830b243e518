"""The oldest versions that pyproject.toml allows, as pip's constraints: `make test-oldest`.

python tests/support/oldest.py > constraints.txt
"""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
#: A requirement of pyproject.toml, like "torch>=2.6" or "jsonargparse[signatures]>=4.47,<5".
REQUIREMENT = re.compile(r'"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)[^"]*"')


def constraints(project: str) -> list[str]:
    """Lines that pin each requirement to its lower bound.

    Python 3.10 cannot read TOML by itself, so this looks for strings that are requirements.
    """
    return [f"{name}=={version}" for name, version in REQUIREMENT.findall(project)]


if __name__ == "__main__":
    print("\n".join(constraints(PROJECT.read_text(encoding="utf-8"))))
