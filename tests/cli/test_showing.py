"""`keras-spot tasks`: a list to read or to pipe, one task in detail, what a data file needs."""

import json

import pytest

from keras_spot import data, tasks


def test_the_list_has_whole_names_when_piped(keras_spot, tmp_path):
    code, out, err = keras_spot("tasks", "--data-dir", tmp_path)
    rows = [line.split("\t") for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [row[0] for row in rows] == tasks.names()
    assert {row[2] for row in rows} == {"no", "on use"}
    assert all(tasks.get(row[0]).input == row[-1] for row in rows)


def test_a_part_of_a_name_filters(keras_spot, tmp_path):
    code, out, _ = keras_spot("tasks", "SUPER", "--json", "--data-dir", tmp_path)
    rows = json.loads(out)
    assert code == 0
    assert [row["task"] for row in rows] == [n for n in tasks.names() if "super" in n]
    folder = tmp_path / "super_glue" / "cb" / "1.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    _, out, _ = keras_spot("tasks", "super", "--json", "--data-dir", tmp_path)
    assert [row["task"] for row in json.loads(out) if row["prepared"] == "yes"] == ["super_glue/cb"]
    code, _, err = keras_spot("tasks", "glue/mprc")
    assert code == 2
    assert "did you mean 'glue/mrpc'" in err


def test_a_terminal_gets_a_table_with_whole_names(keras_spot, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = keras_spot("tasks")
    assert all(name in out for name in tasks.names())


def test_one_task_in_detail(keras_spot, data_dir, tmp_path):
    code, out, _ = keras_spot("tasks", "synthetic/movies", "--json", "--data-dir", data_dir)
    shown = json.loads(out)
    assert code == 0
    assert shown["labels"] == ["negative", "positive"]
    assert shown["splits"]["validation"] == "validation"
    assert shown["example"]["input"].startswith("movies sentence: ")
    assert shown["example"]["target"] in shown["labels"]
    _, out, _ = keras_spot("tasks", "glue/qqp", "--data-dir", tmp_path)
    assert f"keras-spot tasks --prepare glue/qqp --data-dir {tmp_path}" in out
    assert "\nmax_target_length: " in out
    assert "example" not in out
    record = tmp_path / "mine.yaml"
    record.write_text(
        'name: mine\ninput: "{s}"\nlabels: [a, b]\nrows: {train: [{s: hello, label: a}]}\n'
    )
    _, out, _ = keras_spot("tasks", record)
    assert '"input": "hello"' in out


def test_a_task_that_tfds_cannot_prepare_says_so(tmp_path):
    for name in ("mr", "ling_nli"):
        line = data.sources.how_to_get(tasks.get(name), tmp_path)
        assert line.startswith("TFDS has no builder for them: put a prepared directory at ")
        assert str(tmp_path / name / "1.0.0") in line


TABLES = {
    "labels": "id,text,label\n" + "1,a film,good\n2,another,bad\n" * 3,
    "pairs": "first,second,class\n" + "a,b,1\nc,d,0\n" * 3,
    "free": "question,answer\n" + "".join(f"q{i},answer {i}\n" for i in range(9)),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_data_file_is_no_task_but_makes_one(name, keras_spot, tmp_path):
    path = tmp_path / f"{name}.csv"
    path.write_text(TABLES[name])
    code, out, err = keras_spot("tasks", path)
    *lines, error = err.splitlines()
    assert (code, out) == (2, "")
    assert error.startswith("error: `task` must be a task's name or record, not a data file")
    assert f"{name}.yaml" in error
    (tmp_path / f"{name}.yaml").write_text("\n".join(lines))
    task = tasks.load(tmp_path / f"{name}.yaml")
    examples = list(data.load_examples(task, "train", labelled=True))
    expected = {
        "labels": ("labels a film", "good"),
        "pairs": ("pairs first: a second: b", "1"),
        "free": ("free q0", "answer 0"),
    }
    assert (examples[0].input, examples[0].target) == expected[name]


def test_inspect_counts_what_is_cut(keras_spot, tmp_path):
    record = tmp_path / "mine.yaml"
    rows = ["{s: good film, t: fine}", "{s: " + "good " * 50 + ", t: bad}"]
    record.write_text(
        f'name: mine\ninput: "{{s}}"\ntarget: "{{t}}"\nvalidation: []\n'
        f"rows: {{train: [{', '.join(rows)}]}}\n"
    )
    code, out, err = keras_spot("inspect", "--task", record, "--input-length", 20, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["rows"], report["inputs_cut"], report["targets_cut"]) == (2, 1, 0)
    _, out, _ = keras_spot("inspect", "--task", record, "--input-length", 20)
    assert "1 of 2 inputs (50.0%) are longer than 20 tokens and cut (up to 51)" in out


def test_a_demo_that_is_stopped_says_where_as_a_run_does(keras_spot, monkeypatch):
    from keras_spot.cli import demo
    from keras_spot.training.interrupts import Interrupted

    def stopped(output):
        raise Interrupted(15, 3)

    monkeypatch.setattr(demo, "run_demo", stopped)
    code, _, err = keras_spot("demo")
    assert (code, err) == (143, "stopped at step 3, saved at 3; the same command continues\n")
