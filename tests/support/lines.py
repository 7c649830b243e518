"""Lines of code of the training path, what a newcomer reads first: `make lines`.

Blank lines, comments and docstrings are not counted: they are what makes the others short to read.
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "mnist_cnn"
TRAINING_PATH = ("cli.py", "data.py", "model.py", "nets/keras_cnn.py", "training/step.py")
MOST = 500
NO_CODE = (
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
)


def lines_of_code(source: str) -> int:
    """How many lines hold code.

    >>> lines_of_code('"A docstring."\\nx = 1  # a comment\\n\\n# another\\ny = [\\n    x\\n]\\n')
    4
    """
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        with_docstring = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, with_docstring) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            code.difference_update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return len(code)


def training_path() -> dict[str, int]:
    """Lines of code of each of its files."""
    return {
        name: lines_of_code((PACKAGE / name).read_text(encoding="utf-8")) for name in TRAINING_PATH
    }


if __name__ == "__main__":
    counts = training_path()
    for file, count in {**counts, f"together (at most {MOST})": sum(counts.values())}.items():
        print(f"{count:4} {file}")
