"""What the documents say exists: links, code, commands, keys, dependencies."""

import ast
import re
import shlex
import sys
import tomllib

import pytest
from documents import DOCUMENTS, PAGES, ROOT, blocks, name
from public_names import private_names

sys.path.insert(0, str(ROOT / "tools"))

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [document for document in DOCUMENTS if blocks(document, "bash")]


def anchors(page):
    """Return the names that a link into a page may end with."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"\{ #([\w.-]+) \}", text)) | set(re.findall(r"^::: (\S+)", text, re.M))
    for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", title.split("{")[0].strip().lower())
        named.add(re.sub(r"[\s]+", "-", plain.strip()))
    return named


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document):
    text = re.sub(r"^ *```.*?^ *```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        place = document.parent / path if path else document
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_python_blocks_use_public_names(document):
    for block in blocks(document, "python"):
        assert private_names("import keras_spot\n" + block.code) == []


@pytest.mark.parametrize("file", sorted((ROOT / "examples").rglob("*.py")), ids=lambda p: p.name)
def test_examples_use_public_names(file):
    assert private_names(file.read_text(encoding="utf-8")) == []


def test_private_names_are_found():
    imports = "import keras_spot as k; from keras_spot import tasks\n"
    imports += "from keras_spot.base import atomic"
    private = private_names(f"{imports}\nk.build()\ntasks.get(k.model.x)\ntasks.rows")
    assert sorted(private) == ["k.model.x", "keras_spot.base.atomic", "tasks.rows"]


def commands():
    import typer

    from keras_spot.cli import app

    return typer.main.get_command(app).commands


@pytest.mark.parametrize("document", COMMANDS, ids=name)
def test_commands_and_options_exist(document):
    code = "".join(block.code for block in blocks(document, "bash")).replace("\\\n", " ")
    lines = code.splitlines()
    for line in lines:
        program, *words = shlex.split(line.split("&&")[-1], comments=True) or [""]
        if program.rsplit("/", 1)[-1] == "keras-spot":
            command = commands()[words.pop(0)]
            while hasattr(command, "commands"):
                command = command.commands[words.pop(0)]
            options = {option for p in command.params for option in p.opts} | {"--help"}
            used = {word.split("=")[0] for word in words if word.startswith("--")}
            assert used <= options, line
        elif program.rsplit("/", 1)[-1].startswith("python") and words[0] != "-m":
            assert (ROOT / words[0]).is_file(), line


def test_a_run_is_trained_in_one_way():
    """Who follows pages one after the other, in one folder, meets no run of another page."""
    runs = {}
    for page in (ROOT / "README.md", *PAGES):
        for block in blocks(page, "bash"):
            for line in block.code.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "--run-dir" in words:
                    run = words[words.index("--run-dir") + 1]
                    assert runs.setdefault(run, sorted(words)) == sorted(words), page
        for block in blocks(page, "python"):
            for run in re.findall(r'^    "(runs/[\w-]+)",$|", "(runs/[\w-]+)", ', block.code, re.M):
                assert runs.setdefault("".join(run), page) == page


def test_every_command_is_in_a_document():
    text = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert [verb for verb in commands() if f"keras-spot {verb}" not in text] == []


def test_the_two_commands_stand_in_readme():
    setup = r"^python3 -m venv \.venv && \.venv/bin/pip install .* && \.venv/bin/"
    assert re.search(setup + r"keras-spot demo$", README, re.MULTILINE)
    assert re.search(setup + r"python -m pytest -n 2$", README, re.MULTILINE)


def test_readme_is_read_in_two_minutes():
    assert len(README.splitlines()) <= 130


def test_every_dependency_has_its_reason():
    """Those of the package, and those of every extra."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    needs = [re.match(r"([A-Za-z][\w-]*)(\[\w+\])?[<>=!]+\d", str(text)) for text in texts]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert [need[1] for need in needs if need and need[1] not in page] == [], "docs/dependencies.md"


def test_every_page_is_in_the_menu():
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))

    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        values = entry.values() if isinstance(entry, dict) else entry
        return [page for value in values for page in pages(value)]

    listed = pages(config["project"]["nav"])
    assert sorted(listed) == sorted(str(p.relative_to(ROOT / "docs")) for p in PAGES)


def test_what_is_made_from_the_code_is_up_to_date():
    import docs_made

    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if page.parent == docs_made.API:
            assert text == docs_made.api_pages()[page.name], "python tools/docs_made.py"
        else:
            assert text == docs_made.with_tables(text), f"python tools/docs_made.py ({page.name})"


def test_every_public_name_has_a_place_in_the_api():
    import docs_made

    import keras_spot

    text = "".join(docs_made.api_pages().values())
    places = docs_made.anchors()
    for public in keras_spot.__all__:
        assert public == "__version__" or f"keras_spot.{public}" in places
    for place in places:
        assert f"::: {place}\n" in text or f"{{ #{place} }}" in text


def test_the_citation_is_of_this_version():
    import yaml

    import keras_spot

    record = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert record["version"] == keras_spot.__version__
    assert record["license"] in (ROOT / "setup.py").read_text(encoding="utf-8")


def test_issue_forms_are_read():
    import yaml

    for file in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")):
        record = yaml.safe_load(file.read_text(encoding="utf-8"))
        if file.name != "config.yml":
            ids = [field["id"] for field in record["body"]]
            assert record["name"]
            assert record["description"]
            assert len(ids) == len(set(ids))
