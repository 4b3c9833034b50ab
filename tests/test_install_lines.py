"""The install lines for TPUs: nothing in them pulls stock TensorFlow over tensorflow-tpu."""

import importlib.metadata
import pathlib
import re
import shlex

from packaging.requirements import Requirement

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "scale.md"
OWN = "keras-spot"
STOCK = "tensorflow"


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def lines():
    """Return `(requirements, whether without dependencies)` of each line of the TPU block."""
    block = PAGE.read_text(encoding="utf-8").split("pip install 'tensorflow-tpu")[1]
    block = ("pip install 'tensorflow-tpu" + block.split("```")[0]).replace("\\\n", " ")
    for line in block.splitlines():
        words = shlex.split(line)[2:]
        alone = "--no-deps" in words
        yield [Requirement(word) for word in words if not word.startswith("--")], alone


def needed(requirement):
    """Return what a package asks for on Linux, by the metadata of what is installed here."""
    for text in importlib.metadata.requires(requirement.name) or []:
        asked = Requirement(text)
        extras = requirement.extras or {""}
        if asked.marker is None or any(asked.marker.evaluate({"extra": e}) for e in extras):
            yield asked


def closure(requirements):
    """Return the names of all that the requirements bring with them."""
    names, waiting = set(), list(requirements)
    while waiting:
        requirement = waiting.pop()
        if normal(requirement.name) in names:
            continue
        names.add(normal(requirement.name))
        if normal(requirement.name) not in ("tensorflow-tpu", "libtpu"):  # not installed here
            waiting += needed(requirement)
    return names


def test_the_lines_bring_everything_but_stock_tensorflow():
    brought, alone = set(), []
    for requirements, without_dependencies in lines():
        if without_dependencies:
            alone += requirements
        else:
            brought |= closure(requirements)
    assert "tensorflow-tpu" in brought
    assert STOCK not in brought
    by_themselves = {normal(requirement.name) for requirement in alone}
    assert OWN in by_themselves
    for requirement in alone:
        asked = {normal(each.name) for each in needed(requirement)}
        assert asked - brought - by_themselves - {STOCK} == set(), requirement.name
