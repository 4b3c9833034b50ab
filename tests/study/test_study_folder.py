"""Nothing of anybody else's in a study's folder is lost."""

import shutil
import sys

import numpy as np
import pytest
import test_study

from keras_spot import PromptLibrary, cli, study
from keras_spot.base import ownership
from keras_spot.study import plots, report

THESIS = "years of work"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    test_study.run(folder, test_study.describe(sources=["mr"], targets=["glue/rte"]))
    report.write_report(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "study")


@pytest.mark.parametrize(
    "name",
    [
        "table.csv",
        "table.jsonl",
        "summary.md",
        "report.html",
        "pictures/a.svg",
        "library/a",
        "cells/a",
    ],
)
def test_a_study_does_not_begin_over_files_of_its_names(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(THESIS)
    with pytest.raises(ValueError) as error:
        test_study.run(tmp_path)
    assert str(error.value) == (
        "`folder` must be new or hold a study, without files of the names that it writes. "
        f"Received: {tmp_path} (holds {name.partition('/')[0]})"
    )
    assert ownership.listing(tmp_path) == [name]


@pytest.mark.parametrize("text", ['{"my": "notes"}', "my notes", "[]"])
def test_a_description_of_another_stays(tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(ValueError):
        test_study.run(tmp_path)
    assert (tmp_path / "study.json").read_text() == text
    assert ownership.listing(tmp_path) == ["study.json"]


def test_an_address_is_no_folder_of_a_study():
    with pytest.raises(ValueError, match="`folder` must be a folder of this machine"):
        study.StudyFolder("gs://bucket/study").open(test_study.describe())


def test_what_lies_beside_stays(tmp_path):
    (tmp_path / "thesis.txt").write_text(THESIS)
    (tmp_path / "failures").mkdir()
    plan = test_study.describe(sources=["mr"], targets=["glue/rte"], seeds=[0])
    test_study.run(tmp_path, plan)
    (tmp_path / "failures" / "notes.json").write_text('{"id": "notes", "error": "mine"}')
    study.StudyFolder(tmp_path).forget_failures(plan)
    assert (tmp_path / "failures" / "notes.json").is_file()
    assert (tmp_path / "thesis.txt").read_text() == THESIS


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def append(text):
    def change(file):
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(text)

    return change


def replace(old, new):
    def change(file):
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("summary.md", append("A remark of mine.\n")),
        ("summary.md", replace("#", "# My")),
        ("report.html", replace("<h1", "<p>mine</p><h1")),
        ("table.csv", replace("score", "my score")),
        ("table.csv", append("mine,1,2\n")),
        ("table.csv", replace("transfer", "transfer, mine")),
        ("table.jsonl", append('{"id": "mine"}\n')),
        ("table.jsonl", replace('"score": ', '"score": 1')),
        ("pictures/heatmap-all.svg", None),
    ],
)
def test_a_changed_report_stays_until_told_otherwise(folder, name, change):
    file = folder / name
    if change is None:
        file = next((folder / "pictures").glob("*.svg"))
        change = append("<!-- mine -->")
    change(file)
    before = contents(folder)
    with pytest.raises(ValueError, match=f"`path` must be .*{file.name}"):
        report.write_report(folder)
    assert contents(folder) == before
    report.write_report(folder, overwrite=True)
    assert file.read_bytes() != before[str(file.relative_to(folder))]
    report.write_report(folder)


def test_another_picture_is_never_removed(folder):
    (folder / "pictures" / "mine.svg").write_text(THESIS)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"holds mine\.svg"):
            report.write_report(folder, overwrite=overwrite)
    assert (folder / "pictures" / "mine.svg").read_text() == THESIS


def test_the_commands(folder, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["keras-spot", "study", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out = capsys.readouterr()
        return caught.value.code, "".join(out.out.split("\n")), out.err

    assert run("report", folder) == (0, f"report: {folder}/report.html (replaced)", "")
    append("A remark of mine.\n")(folder / "summary.md")
    plan = folder.parent / "plan.yaml"
    plan.write_text(
        "sources: [mr]\ntargets: [glue/rte]\nseeds: [0]\nsource_steps: 8\ntarget_steps: 4"
    )
    for words in (["report", folder], ["run", plan, "--output", folder]):
        code, _, err = run(*words)
        assert code == 2
        assert err.startswith("error: `path` must be new, or `overwrite` be set to replace what is")
        assert "summary.md" in err
        assert err.count("\n") == 1
    assert run("report", folder, "--overwrite")[0] == 0


def test_an_entry_of_another_in_the_library_stays(tmp_path):
    """An entry that the cell itself has left is replaced, see `test_killed_at_any_moment`."""
    plan = test_study.describe(sources=["mr"], targets=["glue/rte"], seeds=[0])
    place = study.StudyFolder(tmp_path)
    place.open(plan)
    library = PromptLibrary(place.library)
    library.add("mr", np.ones((3, 4)), seed=7)
    with pytest.raises(RuntimeError, match="must be new to the library"):
        test_study.run(tmp_path, plan)
    assert library.entry("mr").provenance == {"seed": 7}


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_pictures_replace_pictures_of_ours_only(tmp_path, name):
    curves = {"one": [[(1, 50.0), (2, 60.0)]]}
    path = tmp_path / name
    for content in (THESIS.encode(), b"\x89PNG\r\n\x1a\n" + bytes(80), b"<svg>keras_spot</svg>"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not recognised as picture of keras_spot"):
            plots.learning_curves(curves, path)
        assert path.read_bytes() == content
    path.unlink()
    plots.learning_curves(curves, path)
    before = path.read_bytes()
    plots.learning_curves(curves, path, title="another")
    assert path.read_bytes() != before
