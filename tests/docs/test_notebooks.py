"""The notebooks are those of their sources, run, and show no warnings."""

import os
import pathlib
import resource
import sys

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel, extra [dev]")
pytest.importorskip("nbclient", reason="needs nbclient and ipykernel, extra [dev]")
pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel, extra [dev]")
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))

import notebooks

PICTURES = {"quickstart": 2, "own_data": 1}


@pytest.mark.parametrize("source", notebooks.SOURCES, ids=lambda p: p.stem)
def test_it_is_of_its_source(source):
    kept = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    made = notebooks.notebook(source)
    assert [(c.cell_type, c.source) for c in kept.cells] == [
        (c.cell_type, c.source) for c in made.cells
    ], "python tools/notebooks.py"


@pytest.mark.parametrize("source", notebooks.SOURCES, ids=lambda p: p.stem)
def test_it_runs(source, monkeypatch, data_dir):
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)  # as a user has it
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(notebooks.EXAMPLES.parent)]))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    book = notebooks.run(source)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # whatever else the machine does
    assert after.ru_utime - before.ru_utime < 180
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == PICTURES[source.stem]
