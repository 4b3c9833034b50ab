"""`keras-spot study` with a trainer that needs no model."""

import io
import sys

import pytest
import test_study
from rich import console

from keras_spot import cli
from keras_spot.base.meeting import ADDRESSES, COUNT, NUMBER
from keras_spot.cli import studying
from keras_spot.study import launch
from keras_spot.study.table import Status


@pytest.fixture
def keras_spot(monkeypatch, capsys):
    """Run the command in this process; return exit code, stdout and stderr."""
    monkeypatch.setattr(launch, "_cell_trainer", test_study.FakeTrainer)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["keras-spot", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out = capsys.readouterr()
        return caught.value.code, out.out, out.err

    return run


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_which_runs_are_being_made(monkeypatch, width):
    screen = console.Console(file=io.StringIO(), width=width, force_terminal=True)
    monkeypatch.setattr(console, "Console", lambda: screen)
    name = "transfer--synthetic.movies--synthetic.entailment--16--2"
    with studying._bars() as show:
        show(Status("", {"transfer": 3}, {"transfer": 18}, [{"id": name}], []))
    shown = screen.file.getvalue()
    assert f"running: {name}" in shown
    assert " 3/18" in shown


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: small\nsources: [synthetic/movies]\ntargets: [synthetic/topic]\nseeds: [0, 1]\n"
        "source_steps: 8\ntarget_steps: 4\n"
    )
    return path


def test_run_status_report(keras_spot, file, data_dir, tmp_path):
    folder = tmp_path / "out"
    code, out, err = keras_spot("study", "run", file, "--output", folder, "--data-dir", data_dir)
    assert (code, err) == (0, "")
    assert f"report: {folder}/report.html" in out.replace("\n", "")
    assert "replaced" not in out
    assert (folder / "report.html").is_file()
    code, out, _ = keras_spot("study", "status", folder)
    assert code == 0
    assert [line.split() for line in out.splitlines() if "transfer" in line] == [
        ["transfer", "2", "2", "0", "0"]
    ]
    (folder / "report.html").unlink()
    code, out, _ = keras_spot("study", "report", folder)
    assert code == 0
    assert out.endswith(" (replaced)\n")
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["study", "status", "nowhere"],
            "error: `folder` must be the folder of a study. Received: nowhere\n",
        ),
        (
            ["study", "report", "nowhere"],
            "error: `folder` must be the folder of a study. Received: nowhere\n",
        ),
        (
            ["study", "run", "no.yaml", "--output", "out"],
            "error: `study` must be a file that exists. Received: no.yaml\n",
        ),
        (
            ["study", "run", "study.yaml", "--output", "out", "--workers", "none"],
            "error: `workers` must be a positive integer or 'ray'. Received: workers='none'\n",
        ),
    ],
)
def test_mistakes_are_one_line(keras_spot, file, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = keras_spot(*words)
    assert (code, out.strip(), err) == (2, "", message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.yaml"]


def test_processes_that_train_together_make_no_study(file, tmp_path, monkeypatch):
    for name, value in zip((ADDRESSES, COUNT, NUMBER), ("here:1", "2", "1"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"^`processes` must be one for each call of a study; "):
        launch.run(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_methods_wrong_setting_is_refused_before_anything_runs(keras_spot, file, tmp_path):
    with open(file, "a") as more:
        more.write("methods: {plain: {}, mine: {reparameterization: {low-rank: {ranks: 3}}}}\n")
    code, out, err = keras_spot("study", "run", file, "--output", tmp_path / "out")
    message = "`reparameterization` must be a known name. Received: reparameterization='ranks'"
    assert (code, out, err) == (2, "", f"error: {message} (did you mean 'rank'?)\n")
    assert not (tmp_path / "out").exists()


def test_a_study_that_could_not_finish(keras_spot, file, data_dir, tmp_path, monkeypatch):
    class Failing(test_study.FakeTrainer):
        def __call__(self, cell, start, partial):
            raise ValueError("`row` must have a label. Received: row 3")

    monkeypatch.setattr(launch, "_cell_trainer", Failing)
    folder = tmp_path / "out"
    words = ["study", "run", file, "--output", folder, "--data-dir", data_dir]
    code, _, err = keras_spot(*words)
    assert code == 2
    assert err == (
        "error: `study` has 5 runs that did not finish; the same call tries them again. "
        "ValueError: `row` must have a label. Received: row 3\n"
    )
    assert (
        "failed: source--synthetic.movies--all--0: ValueError"
        in keras_spot("study", "status", folder)[1]
    )
