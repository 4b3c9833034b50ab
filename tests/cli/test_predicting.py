"""`keras-spot predict` applies what the prompt was trained on."""

import json
import warnings

import pytest
import toy

TASK = """
name: reviews
input: "review: {text} stars: {stars}"
labels: [bad, good]
metrics: [accuracy]
rows:
  train:
    - {text: a fine film, stars: 5, label: good}
    - {text: a dull film, stars: 1, label: bad}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer):
    """A run of one step on a task of our own, whose record is gone."""
    import keras_spot
    from keras_spot import Recipe, tasks

    folder = tmp_path_factory.mktemp("reviews")
    preset = folder / "preset"
    toy.shallow(tokenizer.vocabulary_size()).save_to_preset(preset)
    tokenizer.save_to_preset(preset)
    (folder / "reviews.yaml").write_text(TASK)
    keras_spot.train(
        tasks.load(folder / "reviews.yaml"),
        folder / "run",
        backbone=preset,
        recipe=Recipe(prompt_length=3, batch_size=2),
        steps=1,
        validation_split="",
        progress=None,
    )
    (folder / "reviews.yaml").unlink()
    return folder / "run"


@pytest.fixture
def predict(keras_spot, trained):
    def run(*words):
        code, out, err = keras_spot("predict", "--prompt", trained, *words)
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


WHOLE = "review: a fine film stars: 5"


def test_fields_are_put_into_the_template(predict):
    code, records, err = predict("--field", "text=a fine film", "--field", "stars=5")
    assert (code, err) == (0, "")
    (record,) = records
    assert record["input"] == WHOLE
    assert set(record) == {"index", "input", "prediction"}


def test_of_several_processes_the_first_alone_tells_and_writes(
    keras_spot, trained, data_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_spot.base.hosts.is_chief", lambda: False)
    prompt, out = ("--prompt", trained), tmp_path / "out.jsonl"
    fields = ("--field", "text=a fine film", "--field", "stars=5")
    movies = ("--task", "synthetic/movies", "--data-dir", data_dir, "--limit", "2")
    scored = ("evaluate", *prompt, *movies, "--predictions", out)
    for words in (("predict", *prompt, *fields), ("predict", *prompt, *fields, "--output", out)):
        assert keras_spot(*words) == (0, "", "")
    assert keras_spot(*scored) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert keras_spot(*scored)[0] == 0
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", "text,stars\na fine film,5\na dull film,1\n"),
        ("rows.tsv", "text\tstars\na fine film\t5\na dull film\t1\n"),
        ("rows.jsonl", '{"text": "a fine film", "stars": 5}\n{"text": "a dull film", "stars": 1}'),
        ("rows.json", '[{"text": "a fine film", "stars": 5}, {"text": "a dull film", "stars": 1}]'),
        ("rows.txt", f"{WHOLE}\nreview: a dull film stars: 1\n"),
    ],
)
def test_files_of_rows_and_of_texts(predict, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    code, records, err = predict("--input-file", tmp_path / name, "--method", "rank")
    assert (code, err) == (0, "")
    assert [record["input"] for record in records] == [WHOLE, "review: a dull film stars: 1"]
    for record in records:
        shares = record["probabilities"]
        assert set(shares) == {"bad", "good"}
        assert sum(shares.values()) == pytest.approx(1)
        assert record["prediction"] == max(shares, key=shares.get)


def test_labels_of_a_file_are_told_beside_the_answers(predict, tmp_path):
    (tmp_path / "rows.csv").write_text("text,stars,label\na fine film,5,good\n")
    _, (record,), _ = predict("--input-file", tmp_path / "rows.csv")
    assert record["target"] == "good"


def test_texts_unlike_the_template_are_warned_of(predict, monkeypatch):
    code, records, err = predict(WHOLE, "a fine film", "review: and nothing else")
    assert code == 0
    assert len(records) == 3
    assert err.splitlines() == [
        "warning: 2 of 3 texts do not read as the prompt was trained, 'review: {text} stars: "
        "{stars}' (first: 'a fine film'); --field text=… --field stars=… fills that in"
    ]
    assert predict(WHOLE)[2] == ""


def test_the_runs_labels_say_how_long_an_answer_is(predict):
    _, records, _ = predict(WHOLE, "--method", "generate")
    assert len(records[0]["prediction"]) < 40


def test_long_texts_are_counted(keras_spot, trained):
    words = ["--prompt", trained, "review: " + "good " * 600 + "stars: 5"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = keras_spot("predict", *words)
    assert code == 0
    assert err.startswith("warning: reviews given: 1 of 1 inputs (100.0%) are longer than 512")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--field", "txt=a"], "`field` must be a known name. Received: field='txt' (did you mean"),
        (["--field", "text"], "`field` must be NAME=VALUE. Received: text"),
        (["--field", "text=a", "--field", "text=b"], "`field` must be given once for each"),
        (["--field", "text=a"], "`row` must have the feature 'stars'. Received: row 0 of reviews"),
        (["--field", "text=", "--field", "stars=1"], "`row` must have a value for 'text'"),
        (["--field", "text=a", WHOLE], "`texts` must be given, or one of `field`"),
        ([], "`texts` must be given, or one of `field`, `input_file` and `task` instead"),
        (["--input-file", "none.csv"], "`input_file` must be a file. Received: none.csv"),
        (["rows.csv"], "`texts` must be texts, not a file's name; --input-file reads a file"),
        (["--input-file", "rows.csv"], "`row` must have the feature 'stars'"),
        (
            ["--input-file", "rows.csv", "--output", "./rows.csv", "--overwrite"],
            "`output` must be ano",
        ),
        (["--input-file", "latin.txt"], "`input_file` must be UTF-8. Received: invalid"),
    ],
)
def test_mistakes(predict, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text\na fine film\n")
    (tmp_path / "latin.txt").write_bytes("n\xe4chste\n".encode("latin-1"))
    code, _, err = predict(*words)
    assert code == 2
    assert err.startswith(f"error: {message}"), err
    assert len(err.splitlines()) == 1


def test_a_prompt_that_knows_no_task(keras_spot, tmp_path):
    import numpy as np

    from keras_spot import prompts

    file = prompts.write(tmp_path / "p.npy", np.zeros((2, 64), "float32"))
    for words in (["--field", "text=a"], ["--input-file", __file__.replace(".py", ".csv")]):
        code, _, err = keras_spot("predict", "--prompt", file, *words)
        assert code == 2
        assert len(err.splitlines()) == 1
