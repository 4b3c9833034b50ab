"""What a run's record says of TFDS data."""

import json
import warnings

import pytest

from keras_spot import tasks
from keras_spot.data import sources
from keras_spot.training.contents import files_record
from keras_spot.training.run_folder import _differences

TASK = tasks.Task(
    "mine", tfds="mine/a:1.0.0", input="{s}", labels=("a", "b"), metrics=("accuracy",)
)


def prepared(folder, version, **rows):
    place = folder / "mine" / "a" / version
    place.mkdir(parents=True)
    splits = [{"name": name, "shardLengths": [str(n), "1"]} for name, n in rows.items()]
    (place / "dataset_info.json").write_text(json.dumps({"splits": splits}))
    return place


def test_version_and_rows_of_the_splits_that_are_read(tmp_path):
    prepared(tmp_path, "1.0.0", train=8, validation=3, test=5)
    splits = ["train[:50%]", "validation"]
    assert files_record(TASK, splits, tmp_path) == {
        "tfds": {"read": "mine/a:1.0.0", "rows": {"train": 9, "validation": 4}}
    }
    assert files_record(TASK, splits, tmp_path / "elsewhere") == {}


@pytest.mark.parametrize("name", ["mine/a", "mine/a:1.*.*"])
def test_a_task_without_an_exact_version_says_which_it_found(tmp_path, monkeypatch, name):
    import dataclasses

    place = prepared(tmp_path, "1.2.0", train=8)
    builder = type("Builder", (), {"data_path": place})
    monkeypatch.setattr(sources, "find_builder", lambda task, data_dir: builder)
    task = dataclasses.replace(TASK, tfds=name)
    assert files_record(task, ["train"], tmp_path)["tfds"]["read"] == "mine/a:1.2.0"


def test_other_data_are_another_run_but_an_older_record_passes():
    new = {"files": {"mine": {"tfds": {"read": "mine/a:1.2.0", "rows": {"train": 9}}}}}
    old = {"files": {"mine": {"tfds": {"read": "mine/a:1.0.0", "rows": {"train": 9}}}}}
    assert list(_differences(old, new)) == [
        ("files.mine.tfds.read", "mine/a:1.0.0", "mine/a:1.2.0")
    ]
    assert list(_differences({"files": {"mine": {}}}, new)) == []


def test_labels_that_decoding_cannot_give_are_refused_before_training(tmp_path, tokenizer):
    import toy

    import keras_spot

    task = tasks.Task(
        "odd",
        input="film: {s}",
        labels=("☃ snow", "rain"),
        metrics=("accuracy",),
        rows={"train": [{"s": "a", "label": "rain"}], "validation": [{"s": "a", "label": "rain"}]},
    )
    backbone = toy.shallow(tokenizer.vocabulary_size())
    options = {"backbone": backbone, "tokenizer": tokenizer, "steps": 4, "progress": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the label gets lost is warned of, too
        with pytest.raises(ValueError, match="`labels` must come back from their tokens"):
            keras_spot.train(task, tmp_path / "run", **options)
    assert not list(tmp_path.rglob("checkpoint_*"))
