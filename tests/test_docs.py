"""What the documents say exists: links, code, commands."""

import pathlib
import re
import shlex

import pytest
from public_names import private_names

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(ROOT.glob("*.md"))
DOCUMENTS += sorted(ROOT.glob("keras_spot/backbones/presets/*/*.md"))
DOCUMENTS += sorted(ROOT.glob("docs/**/*.md"))


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_python_blocks_use_public_names(document):
    text = document.read_text(encoding="utf-8")
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        assert private_names("import keras_spot\n" + code) == []


@pytest.mark.parametrize("file", sorted((ROOT / "examples").rglob("*.py")), ids=lambda p: p.name)
def test_examples_use_public_names(file):
    assert private_names(file.read_text(encoding="utf-8")) == []


def test_private_names_are_found():
    imports = "import keras_spot as k; from keras_spot import tasks\n"
    imports += "from keras_spot.base import atomic"
    private = private_names(f"{imports}\nk.build()\ntasks.get(k.model.x)\ntasks.rows")
    assert sorted(private) == ["k.model.x", "keras_spot.base.atomic", "tasks.rows"]


def test_commands_and_options_exist():
    import typer

    from keras_spot.cli import app

    commands = typer.main.get_command(app).commands
    lines = [line for code in blocks("bash") for line in code.splitlines()]
    used = [shlex.split(line, comments=True) for line in lines if line.startswith("keras-spot")]
    assert len(used) > 5
    for _, name, *words in used:
        command = commands[name]
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        options = {option for p in command.params for option in p.opts}
        assert {word for word in words if word.startswith("--")} <= options
    verbs = {"train", "evaluate", "predict", "submit", "export", "convert", "demo", "tasks"}
    verbs |= {"inspect", "push", "pull", "library", "study", "train-bank"}
    assert set(commands) == verbs


def test_the_two_commands_stand_in_readme():
    setup = r"^python3 -m venv \.venv && \.venv/bin/pip install .* && \.venv/bin/"
    assert re.search(setup + r"keras-spot demo$", README, re.MULTILINE)
    assert re.search(setup + r"python -m pytest -n 2$", README, re.MULTILINE)


def test_every_dependency_has_its_reason():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    required = re.search(r"install_requires=\[(.*?)\]", setup, re.DOTALL)[1]
    table = README.split("## Dependencies, and why")[1].split("## ")[0]
    for name in re.findall(r'"([A-Za-z_-]+)', required):
        assert name in table, name
