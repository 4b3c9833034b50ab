"""Every message of the page on troubleshooting is one that the package really gives."""

import inspect
import json
import re
import sys
import warnings

import numpy as np
import pytest
import toy
from documents import ROOT, blocks

import keras_spot
from keras_spot import backbones, prompts, tasks
from keras_spot.base import errors, ownership

PAGE = ROOT / "docs" / "troubleshooting.md"
MESSAGES = [block.code.strip() for block in blocks(PAGE, "text")]
_CHANGING = (
    (r"\b(?<!\.)[0-9a-f]{16}\b", "0123456789abcdef"),
    (r"process \d+ on \S+ since [\d-]+ [\d:]+", "process 4711 on host since 2026-11-28 09:00:00"),
)
"""What differs from time to time, and what the page has instead."""


@pytest.fixture(scope="module")
def toy_model(tokenizer):
    return keras_spot.build(
        toy.shallow(tokenizer.vocabulary_size()), tokenizer=tokenizer, prompt_length=3
    )


def reviews(**fields):
    rows = {"train": [{"text": "a gem", "label": "good"}, {"text": "dull", "label": "bad"}]}
    record = dict(name="reviews", input="review: {text}", labels=("bad", "good"), rows=rows)
    return tasks.Task(**{**record, **fields})


def read(task, split="train", **options):
    return list(keras_spot.load_examples(task, split, **options))


# === What gives each message, in the page's order ===


def unknown_task(**_):
    tasks.get("glue/mprc")


def unknown_backbone(**_):
    backbones.load("flan_base_mult")


def data_that_are_not_prepared(tmp_path, **_):
    read("glue/rte", data_dir=tmp_path)


def a_task_without_a_builder(tmp_path, **_):
    read("mr", data_dir=tmp_path)


def no_such_split(**_):
    read(reviews(), "dev")


def a_value_that_is_missing(**_):
    read(reviews(rows={"train": [{"text": "", "label": "good"}]}))


def no_label_of_the_task(**_):
    read(reviews(rows={"train": [{"text": "a gem", "label": "great"}]}))


def labels_of_the_same_tokens(tokenizer, **_):
    task = reviews(labels=("\U0001f600", "\U0001f621"), rows={"train": [{"text": "x"}]})
    keras_spot.load_task(task, "train", tokenizer)


def ranking_free_text(toy_model, **_):
    task = reviews(labels=(), target="{label}!", metrics=("exact_match",))
    keras_spot.evaluate(toy_model, task, "train", method="rank")


def a_data_file_as_a_task(tmp_path, keras_spot, **_):
    (tmp_path / "train.csv").write_text("text,label\na gem,good\ndull,bad\n")
    error = keras_spot("train", "--task", tmp_path / "train.csv", "--run-dir", tmp_path / "r")[2]
    raise ValueError(error.splitlines()[-1].removeprefix("error: "))


def a_prompt_of_another_width(tokenizer, **_):
    backbone = toy.shallow(tokenizer.vocabulary_size())
    keras_spot.build(backbone, np.zeros((3, 768), "float32"), tokenizer=tokenizer)


def a_prompt_of_another_backbone(tokenizer, tmp_path, **_):
    prompts.write(tmp_path / "p.npz", np.zeros((3, 16)), {"backbone": "0123456789abcdef"})
    backbone = toy.shallow(tokenizer.vocabulary_size())
    keras_spot.build(backbone, tmp_path / "p.npz", tokenizer=tokenizer)


def no_prompt_there(tmp_path, **_):
    prompts.read(tmp_path / "prompt.npz")


def a_pickled_prompt(tmp_path, **_):
    (tmp_path / "prompt.bin").write_bytes(b"x")
    prompts.read(tmp_path / "prompt.bin")


def float16(**_):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backbones.load("tiny", dtype="float16")


def span_corruption(**_):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        backbones.warn_of_span_corruption("t5_1.1_base")
    raise ValueError(str(caught[0].message))


def texts_that_are_cut(tokenizer, **_):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keras_spot.load_task(reviews(), "train", tokenizer, input_length=4)
    raise ValueError(str(caught[0].message))


def a_folder_of_somebody_else(tmp_path, **_):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "thesis.txt").write_text("mine")
    from keras_spot.model.export import SAVED_MODEL

    ownership.check(tmp_path / "served", SAVED_MODEL)


def another_run_in_the_folder(tmp_path, tokenizer, **_):
    from keras_spot.training.run_folder import RunFolder

    folder = RunFolder(tmp_path / "runs" / "mnli")
    folder.path.mkdir(parents=True)
    run = keras_spot.Run(task=reviews())
    other = keras_spot.Run(task=reviews(), seed=1)
    record = {**run.record(), "versions": {"keras_spot": keras_spot.__version__}}
    (folder.path / "run.json").write_text(json.dumps(record))
    folder.check(other.record(), partly=True)


def a_loss_that_is_not_finite(toy_model, tmp_path, **_):
    checkpoint = keras_spot.PromptCheckpoint(tmp_path / "run", every=1)
    toy_model.set_weights([np.full_like(w, np.nan) for w in toy_model.get_weights()])
    toy_model.fit(["review: a gem"], ["good"], callbacks=[checkpoint], verbose=0)


def a_folder_in_use(tmp_path, **_):
    from keras_spot.training.run_folder import RunFolder

    with RunFolder(tmp_path / "runs").owner.owned():
        RunFolder(tmp_path / "runs").owner.check_free()


def an_extra_that_is_not_installed(**_):
    raise errors.missing_extra("matplotlib", "plots")


def an_option_that_does_not_exist(keras_spot, **_):
    raise ValueError(keras_spot("train", "--lr", "0.1")[2].removeprefix("error: ").strip())


# === The page ===

CASES = [
    value
    for value in list(vars(sys.modules[__name__]).values())
    if inspect.isfunction(value)
    and value.__module__ == __name__
    and "_" in inspect.signature(value).parameters
]


def message(case, folder, **given):
    """Return what a case says, in one line, with the page's names for what changes."""
    with pytest.raises((ValueError, OSError, ImportError, ArithmeticError)) as caught:
        case(tmp_path=folder, **given)
    text = (
        " ".join(str(caught.value).split()).replace(f"{folder}/", "").replace(str(folder), "data")
    )
    for pattern, stands_for in _CHANGING:
        text = re.sub(pattern, stands_for, text)
    return text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_page_has_what_the_package_says(case, tmp_path, tokenizer, toy_model, keras_spot):
    given = dict(tokenizer=tokenizer, toy_model=toy_model, keras_spot=keras_spot)
    assert message(case, tmp_path, **given) in MESSAGES


def test_every_message_of_the_page_has_its_case():
    assert len(MESSAGES) == len(set(MESSAGES)) == len(CASES) >= 20
