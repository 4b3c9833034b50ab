"""The Python of the pages runs as it stands there, but for fewer steps."""

import re
import warnings

import pytest
from documents import PAGES, ROOT, blocks, name

# What would take minutes on the page takes seconds here.
_STEPS = re.compile(r"\b(steps|source_steps|target_steps|epochs|steps_per_epoch)=(\d[\d_]*)")
_LIMIT = re.compile(r"\b(validation_limit|limit)=(\d[\d_]*)")
PAGES_WITH_CODE = [page for page in (ROOT / "README.md", *PAGES) if blocks(page, "python")]


def shortened(code):
    """Return code with at most two steps and eight examples to score.

    >>> shortened("train(task, steps=100, limit=20)")
    'train(task, steps=2, limit=8)'
    """
    code = _STEPS.sub(lambda m: f"{m[1]}={min(2, int(m[2]))}", code)
    return _LIMIT.sub(lambda m: f"{m[1]}={min(8, int(m[2]))}", code)


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=name)
def test_python_runs(page, tmp_path, monkeypatch, data_dir):
    """The blocks of a page share one namespace; blocks with a title are files that they read."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "snippet"}
    for block in blocks(page):
        if block.title:
            (tmp_path / block.title).write_text(block.code, encoding="utf-8")
    for number, block in enumerate(blocks(page, "python")):
        if block.reason:
            continue
        program = compile(shortened(block.code), f"{page.name} block {number}", "exec")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* are longer than .* tokens and cut")
            exec(program, namespace)


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=name)
def test_what_is_not_run_says_why(page):
    for block in blocks(page):
        assert block.reason is None or len(block.reason) > 10


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=name)
def test_records_load(page, tmp_path):
    """Every YAML block with a title is a task or a study."""
    import keras_spot

    for block in blocks(page, "yaml"):
        if block.title:
            file = tmp_path / block.title
            file.write_text(block.code, encoding="utf-8")
            load = keras_spot.study.load if "sources:" in block.code else keras_spot.tasks.load
            load(file)
