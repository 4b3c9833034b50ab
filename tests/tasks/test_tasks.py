"""Golden texts of every task, bad rows, variants, records from files, and mixtures."""

import dataclasses
import decimal
import json
import math
import pathlib
import pickle
import re
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_spot import tasks
from keras_spot.tasks import Example, Mixture, Task
from keras_spot.tasks.sentences import WITHOUT_BUILDER

steady = settings(deadline=None, derandomize=True)

GOLDEN = pathlib.Path(__file__).parent / "golden" / "tasks.jsonl"
CASES = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]


def as_tfds(value):
    """What `tfds.as_numpy` gives for a JSON value."""
    import numpy as np

    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return np.array([item.encode() for item in value], dtype=object)
    if isinstance(value, dict):
        return {name: as_tfds(item) for name, item in value.items()}
    if isinstance(value, bool):
        return np.bool_(value)
    return np.int64(value) if isinstance(value, int) else np.float32(value)


def fails(message):
    """Expect a ValueError with this whole message."""
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


def begins(message):
    """Expect a ValueError whose message begins so."""
    return pytest.raises(ValueError, match=f"^{re.escape(message)}")


# === Formats ===


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c['task']}" for i, c in enumerate(CASES)])
def test_golden(case):
    expected = [
        Example(**{**example, "index": 11, "answers": tuple(example.get("answers", ()))})
        for example in case["examples"]
    ]
    assert tasks.get(case["task"]).examples(case["row"], 11) == expected


def test_golden_has_every_task():
    assert {case["task"] for case in CASES} == set(tasks.names())


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c['task']}" for i, c in enumerate(CASES)])
def test_numpy_rows_give_the_same_examples(case):
    task = tasks.get(case["task"])
    row = {name: as_tfds(value) for name, value in case["row"].items()}
    examples = task.examples(row, 0)
    assert examples == task.examples(case["row"], 0)
    assert json.loads(json.dumps([dataclasses.asdict(e) for e in examples]))  # plain values only


def test_wsc_trains_on_true_referents_only():
    row = {"text": "Bo saw it .", "span1_text": "Bo", "span2_text": "it", "span2_index": 2}
    task = tasks.get("super_glue/wsc")
    assert task.examples({**row, "label": 0}, 0, training=True) == []
    assert [e.target for e in task.examples({**row, "label": 1}, 0, training=True)] == ["Bo"]
    assert len(task.examples({**row, "label": 0}, 0)) == 1


def test_stsb_rounds_as_t5_does():
    import numpy as np

    task = tasks.get("glue/stsb")
    for label in np.linspace(0, 5, 1001, dtype=np.float32):
        expected = f"{np.round(label * np.float32(5)) / np.float32(5):.1f}"
        row = {"sentence1": "a", "sentence2": "b", "label": label}
        assert task.examples(row, 0)[0].target == expected


@steady
@given(st.text(min_size=1))
def test_prefix_and_suffix_are_the_page(text):
    (example,) = tasks.get("c4").examples({"text": text}, 0)
    assert (example.input + " " + example.target).split() == text.split()
    assert example.target or not text.split()


def test_prefix_lm_cuts_everywhere_and_the_same_way():
    pages = [f"page {i} " + "word " * 8 for i in range(500)]
    task = tasks.get("c4")
    cuts = [len(task.examples({"text": page}, 0)[0].input.split()) for page in pages]
    assert set(cuts) == set(range(1, 10))
    again = [len(task.examples({"text": page}, 9)[0].input.split()) for page in pages]
    assert cuts == again


# === Bad rows: a defined result or an error that names the row ===


@pytest.mark.parametrize("label", [2, -2, 0.5, "bad", math.inf, 10**30])
def test_label_out_of_range(label):
    row = {"sentence": "x", "label": label}
    with pytest.raises(ValueError, match=r"^`label` must be one of .* in row 7 of glue/sst2$"):
        tasks.get("glue/sst2").examples(row, 7)


def test_label_out_of_range_whole_message():
    message = (
        "`label` must be one of ['negative', 'positive'] or a number from -1 to 1. "
        "Received: 2 in row 7 of glue/sst2"
    )
    with fails(message):
        tasks.get("glue/sst2").examples({"sentence": "x", "label": 2}, 7)


@pytest.mark.parametrize("label", [5.1, -0.5, math.inf, "high"])
def test_similarity_out_of_range(label):
    row = {"sentence1": "a", "sentence2": "b", "label": label}
    message = (
        "`label` must be a score from 0 to 5, or -1 for none. "
        f"Received: label={label!r} (row 7 of glue/stsb)"
    )
    with fails(message):
        tasks.get("glue/stsb").examples(row, 7)


@pytest.mark.parametrize("label", [-1, None, "", " ", "-1", math.nan, b" "])
def test_no_label(label):
    task = tasks.get("glue/sst2")
    row = {"sentence": "x", "label": label}
    assert task.examples(row, 3) == [Example("sst2 sentence: x", "<unk>", 3)]
    message = "`row` must have a label or an answer to train on. Received: row 3 of glue/sst2"
    with fails(message):
        task.examples(row, 3, training=True)


@pytest.mark.parametrize("label", [1, 1.0, True, "1", "positive", b"positive", " 1 "])
def test_forms_of_a_label(label):
    assert tasks.get("glue/sst2").examples({"sentence": "x", "label": label}, 0)[0].label == 1


STARS = ("1", "2", "3", "4", "5")
TRUTH = ("False", "True")


@pytest.mark.parametrize(
    ("labels", "values", "label"),
    [
        (STARS, [1, 1.0, "1", "1.0", " 1 ", b"1"], "1"),
        (STARS, [5, 5.0, "5"], "5"),
        (TRUTH, [True, "True", "true", "TRUE", b"True"], "True"),
        (TRUTH, [False, "False", "false"], "False"),
        (("yes", "no"), ["no", " no\n", b"no"], "no"),
        (("-1", "0", "1"), [-1, -1.0, "-1"], "-1"),
        (("1.0", "2.0"), [1, 1.0, "1", "1.0"], "1.0"),
        (("1", "1.0"), [1, "1"], "1"),
        (("1", "1.0"), [1.0, "1.0"], "1.0"),
    ],
)
def test_a_value_means_the_same_to_every_reader(labels, values, label):
    import numpy as np

    task = Task("mine", input="{text}", labels=labels)
    as_numpy = [np.asarray(value)[()] for value in values]
    for value in (*values, *as_numpy):
        assert task.examples({"text": "x", "label": value}, 0)[0].target == label, value


@pytest.mark.parametrize(
    ("labels", "value", "rule"),
    [
        (
            STARS,
            0,
            "one of ['1', '2', '3', '4', '5'] (a place among them only with `label_indices`)",
        ),
        (STARS, "6", "one of ['1', '2', '3', '4', '5'] (a place among"),
        (STARS, True, "one of ['1', '2', '3', '4', '5']"),
        (("bad", "good"), 1, "one of ['bad', 'good'] (a place among"),
        (("bad", "good"), -1, "one of ['bad', 'good'] (a place among"),
        (("bad", "good"), "Good", "one of ['bad', 'good']. "),
        (("true", "True"), "TRUE", "one label of ['true', 'True'], not several"),
        (("01", "1.0"), 1, "one label of ['01', '1.0'], not several"),
    ],
)
def test_other_values_are_refused_with_their_row(labels, value, rule):
    task = Task("mine", input="{text}", labels=labels)
    message = re.escape(f"`label` must be {rule}") + ".*in row 7 of mine$"
    with pytest.raises(ValueError, match=f"^{message}"):
        task.examples({"text": "x", "label": value}, 7)


def test_an_index_only_where_the_task_says_so():
    row = {"text": "x", "label": 1}
    named = Task("stars", input="{text}", labels=STARS)
    placed = dataclasses.replace(named, label_indices=True)
    assert named.examples(row, 0)[0].target == "1"
    assert placed.examples(row, 0)[0].target == "2"
    assert placed.examples({**row, "label": "1"}, 0)[0].target == "2"
    assert placed.examples({**row, "label": -1}, 0)[0].target == "<unk>"
    # TFDS stores labels by number, but not all its integers are labels.
    of_tfds = Task("stars", "stars:1.0.0", "{text}", labels=STARS)
    with begins("`label` must be one label of ['1', '2', '3', '4', '5'], not several (`label_i"):
        of_tfds.examples(row, 0)
    texts = dataclasses.replace(of_tfds, label_indices=False)
    assert texts.examples(row, 0)[0].target == "1"


MISSING = [None, math.nan, decimal.Decimal("NaN"), "", "  \n", b""]


@pytest.mark.parametrize("value", MISSING)
def test_missing_values(value):
    task = Task("mine", input="film: {s}", labels=("bad", "good"))
    good = {"s": "x", "label": "good"}
    with begins("`row` must have a value for 's' (or the task `missing: skip`). Received: row 3"):
        task.examples({**good, "s": value}, 3)
    with begins("`row` must have a label or an answer to train on. Received: row 3 of mine"):
        task.examples({**good, "label": value}, 3, training=True)
    assert task.examples({**good, "label": value}, 3)[0].target == "<unk>"
    skips = dataclasses.replace(task, missing="skip")
    assert skips.examples({**good, "s": value}, 3) == []
    assert skips.examples({**good, "label": value}, 3, training=True) == []
    keeps = dataclasses.replace(task, missing="keep")
    assert keeps.examples({**good, "s": value}, 3)[0].input == "film: "
    free = Task("mine", input="{s}", target="{t}", missing="keep")
    assert free.examples({"s": "x", "t": value}, 0)[0].target == "<unk>"


def test_published_blanks_are_kept_but_no_null():
    task = tasks.get("glue/qqp")
    row = {"question1": "", "question2": "b", "label": 0}
    assert task.examples(row, 0)[0].input == "qqp question1:  question2: b"
    for value in (None, math.nan):
        with begins("`row` must have a value for 'question1'"):
            task.examples({**row, "question1": value}, 0)


@pytest.mark.parametrize("value", [["a", "b"], {"a": 1}])
def test_only_texts_and_numbers_stand_in_texts(value):
    with begins("`s` must be a text or a number. Received: "):
        Task("mine", input="{s}", labels=("a",)).examples({"s": value, "label": "a"}, 0)


def test_half_a_character_is_named():
    message = (
        "`row` must be text in UTF-8. Received: 's' in row 2 of mine in x.jsonl: "
        "half a character (a lone surrogate) at position 1"
    )
    with fails(message):
        Task("mine", input="{s}", labels=("a",)).examples(
            {"s": "a\ud800", "label": "a"}, 2, source="x.jsonl"
        )


def test_label_weights():
    task = Task("mine", input="{s}", labels=("bad", "good"), label_weights={"good": 3})
    weights = [task.examples({"s": "x", "label": label}, 0)[0].weight for label in task.labels]
    assert weights == [1.0, 3.0]


def test_empty_text_is_kept():
    (example,) = tasks.get("glue/qqp").examples({"question1": "", "question2": "b", "label": 0}, 0)
    assert example.input == "qqp question1:  question2: b"


def test_braces_in_a_text_are_text():
    (example,) = tasks.get("glue/cola").examples({"sentence": "{label} {0}", "label": 0}, 0)
    assert example.input == "cola sentence: {label} {0}"


def test_other_encoding():
    message = (
        "`row` must be text in UTF-8. Received: 'sentence' in row 4 of glue/sst2: "
        "'utf-8' codec can't decode byte 0xef in position 2: invalid continuation byte"
    )
    with fails(message):
        tasks.get("glue/sst2").examples({"sentence": "naïf".encode("latin-1"), "label": 0}, 4)


def test_missing_feature():
    message = (
        "`row` must have the feature 'sentence'. "
        "Received: row 4 of glue/sst2, with ['label', 'text']"
    )
    with fails(message):
        tasks.get("glue/sst2").examples({"text": "x", "label": 0}, 4)


def test_missing_feature_of_a_preprocessed_row():
    with pytest.raises(ValueError, match=r"'query'.*row 4 of super_glue/record, with \['answers'"):
        tasks.get("super_glue/record").examples(
            {"answers": [], "entities": [], "passage": "", "idx": {"passage": 0, "query": 0}}, 4
        )


@pytest.mark.parametrize("name", ["super_glue/record", "mrqa/squad"])
def test_no_answers_cannot_be_trained_on(name):
    row = {"passage": "p", "query": "q", "entities": ["e"], "question": "q", "context": "c"}
    row |= {"answers": [], "idx": {"passage": 0, "query": 0}}
    task = tasks.get(name)
    assert [e.target for e in task.examples(row, 2)] == ["<unk>"]
    with pytest.raises(ValueError, match=f"Received: row 2 of {name}$"):
        task.examples(row, 2, training=True)


def test_pronoun_not_in_the_text():
    row = {"text": "Bo left .", "span1_text": "Bo", "span2_text": "it", "span2_index": 2}
    message = (
        "`span2_text` must be in the text from word 2 on. "
        "Received: span2_text='it' (row 6 of super_glue/wsc)"
    )
    with fails(message):
        tasks.get("super_glue/wsc").examples({**row, "label": 1}, 6)


@pytest.mark.parametrize("name", tasks.names())
def test_long_passage_is_quick(name):
    case = next(case for case in CASES if case["task"] == name)
    long = 'ab. "(c)"\n@highlight\n <b> ' * 4000
    assert len(long) > 100_000
    row = {k: v + long if isinstance(v, str) else v for k, v in case["row"].items()}
    if "wsc" in name:
        row = {**row, **{k: case["row"][k] for k in ("span1_text", "span2_text")}}
    start = time.process_time()
    examples = tasks.get(name).examples(row, 0)
    assert time.process_time() - start < 1.0
    assert examples


@steady
@given(
    st.dictionaries(st.sampled_from(["sentence", "label", "idx"]), st.text() | st.integers()),
    st.integers(0, 10**6),
)
def test_any_row_gives_one_example_or_names_itself(row, index):
    task, label = tasks.get("glue/sst2"), str(row.get("label", "")).strip()
    if "sentence" in row and re.fullmatch("|negative|positive|-?0+|-?0*1", label, re.ASCII):
        assert len(task.examples(row, index)) == 1
    else:
        with pytest.raises(ValueError, match=f"row {index} of glue/sst2"):
            task.examples(row, index)


# === Names and variants ===


@pytest.mark.parametrize(
    ("name", "text", "sentinel"),
    [
        ("taskless:glue/sst2", "sentence: x", None),
        ("task_index:glue/sst2", "sentence: x", 6),
    ],
)
def test_variants(name, text, sentinel):
    task = tasks.get(name)
    (example,) = task.examples({"sentence": "x", "label": 1}, 0)
    assert (task.name, example.input, example.target) == (name, text, "positive")
    assert task.sentinel == sentinel


def test_taskless_wsc_and_record():
    assert tasks.get("taskless:super_glue/wsc").input == "{text}"
    assert tasks.get("taskless:super_glue/record").input.startswith("query: {query}")


def test_task_index_is_the_place_in_the_sorted_benchmark():
    aliases = {"ax": "mnli", "mnli_matched": "mnli", "mnli_mismatched": "mnli"}
    aliases |= {"axb": "rte", "axg": "rte", "wsc.fixed": "wsc"}
    for benchmark in ("glue", "super_glue"):
        members = [n.split("/")[1] for n in tasks.names() if n.startswith(benchmark + "/")]
        order = sorted(set(members) - set(aliases))
        for member in members:
            task = tasks.get(f"task_index:{benchmark}/{member}")
            assert task.sentinel == order.index(aliases.get(member, member))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("glue/sst", "`task` must be a known name. Received: task='glue/sst' (did you mean 'glue/"),
        ("tasklos:glue/sst2", "`task` must be a known name. Received: task='tasklos:glue/sst2'"),
        ("taskless:glue/sst", "`task` must be a known name. Received: task='taskless:glue/sst'"),
        ("taskless:c4", "`task` must have a name in front to remove. Received: task='taskless:c4'"),
        ("task_index:mr", "`task` must be a known name. Received: task='task_index:mr'"),
    ],
)
def test_unknown_names(name, message):
    with begins(message):
        tasks.get(name)


def test_task_comes_back():
    task = tasks.get("glue/sst2")
    assert tasks.get(task) is task
    assert pickle.loads(pickle.dumps(task)) == task
    assert hash(task) == hash(tasks.get("glue/sst2"))


def test_mnli_has_two_validation_splits():
    assert tasks.get("glue/mnli").validation == ("validation_matched", "validation_mismatched")
    assert tasks.get("glue/sst2").validation == ("validation",)
    assert tasks.get("super_glue/axb").validation == ()


def test_names_are_in_tfds():
    import tensorflow_datasets as tfds

    from keras_spot.tasks.synthetic_data import builder

    for name in tasks.names():
        task = tasks.get(name)
        dataset, _, version = task.tfds.partition(":")
        if name in WITHOUT_BUILDER:
            assert dataset not in tfds.list_builders()
            continue
        dataset, _, config = dataset.partition("/")
        cls = builder.Synthetic if dataset == "synthetic" else tfds.builder_cls(dataset)
        if config:
            assert config in cls.builder_configs, name
            of_config = cls.builder_configs[config].version
        else:
            assert not cls.BUILDER_CONFIGS, name
            of_config = None
        assert version == str(of_config or cls.VERSION), name


def test_labels_and_features_are_those_of_tfds(tmp_path):
    import tensorflow_datasets as tfds

    from keras_spot.tasks.synthetic_data import builder

    renamed = ("anli/r1", "anli/r2", "anli/r3", "yelp_polarity_reviews")  # e, n, c and 1, 2
    assert builder
    for name in tasks.names():
        if name in WITHOUT_BUILDER or name == "sentiment140":
            continue
        task = tasks.get(name)
        features = tfds.builder(task.tfds, data_dir=tmp_path).info.features
        case = next(case for case in CASES if case["task"] == name)
        if name != "goemotions":
            assert set(case["row"]) <= set(features), name
        if task.labels:
            known = tuple(features[task.label_feature].names)
            assert (task.labels == known) != (name in renamed), name
            assert len(task.labels) == len(known), name


def test_import_is_light():
    code = (
        "import sys, keras_spot.tasks; "
        "assert not {'tensorflow', 'numpy', 'yaml', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# === Real data ===


@pytest.mark.parametrize("name", tasks.names())
def test_real_rows(shared, name):
    import tensorflow_datasets as tfds

    task = tasks.get(name)
    folder = shared / "data" / "tfds" / task.tfds.replace(":", "/")
    if not folder.is_dir():
        pytest.skip(f"{task.tfds} is not in ../shared")
    builder = tfds.builder_from_directory(folder)
    splits = {"train", "validation", "test"} & set(task.splits) & set(builder.info.splits)
    assert splits or name == "glue/mnli"
    for split in splits:
        rows = list(tfds.as_numpy(builder.as_dataset(split=task.splits[split]).take(300)))
        made = [e for i, row in enumerate(rows) for e in task.examples(row, i)]
        assert len(made) >= len(rows)
        assert all(e.target != "<unk>" and e.input.startswith(task.input[:4]) for e in made)
        if task.labels and len(rows) == 300:
            assert {e.label for e in made} == set(range(len(task.labels)))
        if "wsc" in name:
            assert all(e.input.count("*") == 2 for e in made)


def test_no_form_of_wsc_ends_in_a_space(shared):
    from keras_spot import data

    for split in ("train", "validation"):
        rows = data.load_examples("super_glue/wsc", split, data_dir=shared / "data" / "tfds")
        assert not [example.index for example in rows if example.input != example.input.strip()]


def test_labels_fit_the_target_length(shared):
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(str(shared / "data" / "t5_32k.spm"))
    for name in tasks.names():
        task = tasks.get(name)
        for label in task.labels:
            assert len(pieces.encode(label)) + 1 <= task.max_target_length, (name, label)


# === Tasks of one's own ===


def test_user_task():
    task = Task(
        "mine", None, "{a} / {b}", target="{c}", metrics=["exact_match"], files={"train": "x.csv"}
    )
    assert task.examples({"a": 1, "b": 2.5, "c": "out"}, 0) == [Example("1 / 2.5", "out", 0)]


@pytest.mark.parametrize("row", [{"a": "x"}, {"a": "x", "b": None}])
def test_no_free_text_target(row):
    task = Task("mine", input="{a}", target="{b}")
    assert task.examples(row, 0)[0].target == "<unk>"
    with begins("`row` must have a label or an answer to train on."):
        task.examples(row, 0, training=True)
    with begins("`row` must have a value for 'a'"):
        task.examples({"a": None, "b": "x"}, 0)


def test_user_function():
    task = Task(
        "mine",
        None,
        "{word}",
        target="{word}",
        preprocess=lambda row: [
            {"word": word, "group": row["text"]} for word in row["text"].split()
        ],
    )
    assert [(e.input, e.group) for e in task.examples({"text": "a b"}, 0)] == [
        ("a", "a b"),
        ("b", "a b"),
    ]


def test_question_answering_from_a_file():
    task = Task("qa", None, "{question}", target="{answer}", preprocess="answers")
    (example,) = task.examples({"question": "Where?", "answers": ["Rome", "in Rome"]}, 0)
    assert (example.target, example.answers) == ("Rome", ("Rome", "in Rome"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": "no feature"}, "`input` must name features as {feature}, at least one."),
        ({"input": "{text!r}"}, "`input` must name features as {feature}, at least one."),
        ({"input": "{text.__class__}"}, "`input` must name features as {feature}, at least one."),
        ({"input": "{text[0]}"}, "`input` must name features as {feature}, at least one."),
        ({"input": "{}"}, "`input` must name features as {feature}, at least one."),
        ({"input": "{text"}, "`input` must be a format string."),
        ({"target": "{text:>9}"}, "`target` must name features as {feature}, at least one."),
        ({"metrics": ("acuracy",)}, "`metrics` must be a known name."),
        ({"preprocess": "wcs"}, "`preprocess` must be a known name."),
        ({"metrics": ("accuracy",), "labels": ()}, "`metrics` must fit the labels."),
        ({"metrics": ("f1",), "labels": ("a", "b", "c")}, "`metrics` must fit the labels."),
        ({"metrics": ("pearson",)}, "`metrics` must fit the labels."),
        ({"labels": ("a", "a")}, "`labels` must be different names."),
        ({"labels": "ab"}, "`labels` must be a list of names, not a text. Received: labels='ab'"),
        ({"labels": ("a", " ")}, "`labels` must be texts without white space around them"),
        ({"labels": ("a", "b ")}, "`labels` must be texts without white space around them"),
        ({"labels": ("a", "<unk>")}, "`labels` must be texts without white space around them"),
        ({"label_weights": {"c": 1}}, "`label_weights` must be a known name."),
        ({"label_weights": {"a": -1}}, "`label_weights` must be numbers of at least 0."),
        ({"label_weights": {"a": 0, "b": 0}}, "`label_weights` must not all be 0."),
        ({"missing": "ignore"}, "`missing` must be a known name."),
        ({"encoding": "utf-9"}, "`encoding` must be an encoding that Python knows."),
        ({"files": {"train": "x.txt"}}, "`files` must be of a type out of"),
        ({"files": "x.csv"}, "`files` must map each split to its data"),
        ({"rows": [{"a": 1}]}, "`rows` must map each split to its data"),
        ({"rows": {"a": []}, "tfds": "b"}, "`task` must have one source of rows."),
        ({"max_input_length": 0}, "`max_input_length` must be at least 1."),
    ],
)
def test_bad_records(fields, message):
    with begins(message):
        Task(**{"name": "mine", "tfds": None, "input": "{text}", "labels": ("a", "b"), **fields})


YAML = """
name: reviews
input: "review: {text}"
labels: [bad, good]
metrics: [accuracy]
files: {train: train.csv, validation: sub/dev.jsonl}
max_target_length: 4
"""


def test_load_yaml(tmp_path):
    (tmp_path / "task.yaml").write_text(YAML)
    task = tasks.load(tmp_path / "task.yaml")
    assert task == Task(
        name="reviews",
        tfds=None,
        input="review: {text}",
        labels=("bad", "good"),
        metrics=("accuracy",),
        splits={"train": "train", "validation": "validation"},
        files={
            "train": str(tmp_path / "train.csv"),
            "validation": str(tmp_path / "sub" / "dev.jsonl"),
        },
        max_target_length=4,
    )
    assert task.splits == {"train": "train", "validation": "validation"}


def test_load_json(tmp_path):
    record = {"name": "mine", "tfds": "glue/sst2:2.0.0", "input": "say: {sentence}"}
    record |= {"labels": ["no", "yes"], "metrics": ["accuracy"]}
    (tmp_path / "task.json").write_text(json.dumps(record))
    task = tasks.load(tmp_path / "task.json")
    assert task.examples({"sentence": "x", "label": 1}, 0)[0].target == "yes"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "t.yaml",
            "name: a\ninput: '{a}'",
            "`task` must have the field 'tfds', 'files' or 'rows'.",
        ),
        ("t.yaml", "name: a\ntfds: b", "`task` must have the field 'input'."),
        ("t.yaml", "name: a\ninputs: b", "`task` must be a known name. Received: task='inputs'"),
        ("t.yaml", "- name", "`task` must be one record of fields."),
        ("t.yaml", "", "`task` must be one record of fields."),
        ("t.yaml", "a: [", "`task` must be a YAML file."),
        ("t.yaml", "a: !!python/object:os.system x", "`task` must be a YAML file."),
        ("t.json", "{", "`task` must be a JSON file."),
        ("t.txt", "", "`task` must be a .yaml, .yml or .json file."),
        ("t.yaml", YAML.replace("bad, good", "no, yes"), "`labels` must be a list of texts"),
        ("t.yaml", YAML.replace("[accuracy]", "accuracy"), "`metrics` must be a list of texts"),
        ("t.yaml", YAML.replace(": 4", ": four"), "`max_target_length` must be a whole number."),
        ("t.yaml", YAML.replace("train.csv", "t.xls"), "`files` must be of a type out of"),
        ("t.yaml", YAML.replace("{train: train.csv", "{1: a.csv"), "`files` must map split names"),
        ("t.yaml", YAML.replace("reviews", "[a]"), "`name` must be a text."),
        ("t.yaml", b"name: \xff", "`task` must be a YAML file."),
        ("t.yaml", YAML + "name: again", "`task` must be a YAML file."),
        ("t.json", '{"name": "a", "name": "b"}', "`task` must be a JSON file."),
        ("t.json", "[" * 10**5, "`task` must be a JSON file."),
        ("t.yaml", "a: " + "[" * 10**4, "`task` must be a YAML file."),
        ("t.yaml", YAML + "missing: never", "`missing` must be a known name."),
        ("t.yaml", YAML + "label_indices: 1", "`label_indices` must be true or false."),
        ("t.yaml", YAML + "label_weights: {good: many}", "`label_weights` must map label names"),
    ],
)
def test_bad_files(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with begins(message):
        tasks.load(tmp_path / name)


def test_nested_anchors_do_not_grow_in_a_message(tmp_path):
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    for name, extra in (("name", "name: *a8\ninput: '{s}'"), ("labels", "labels: *a8")):
        text = "\n".join([*lines[:9], extra]).replace("a: &", "tfds: &").replace("b", "z")
        record = tmp_path / f"{name}.yaml"
        record.write_text(text)
        with pytest.raises(ValueError) as caught:
            tasks.load(record)
        assert len(str(caught.value)) < 1000


def test_every_field_can_stand_in_a_record(tmp_path):
    (tmp_path / "task.yaml").write_text(
        "name: mine\ninput: '{s}'\nlabels: ['1', '2']\nlabel_indices: true\nmissing: skip\n"
        "label_weights: {'1': 2.5}\nencoding: latin-1\nrows: {train: [{s: a, label: 0}]}\n"
    )
    task = tasks.load(tmp_path / "task.yaml")
    assert task.examples(task.rows["train"][0], 0)[0].weight == 2.5
    assert (task.encoding, task.missing, task.splits) == ("latin-1", "skip", {"train": "train"})


# === Mixtures ===

# Training examples as the T5 codebase counts them (WSC's true referents, ReCoRD's answers).
SUPER_GLUE_SIZES = {
    "super_glue/boolq": 9_427,
    "super_glue/cb": 250,
    "super_glue/copa": 400,
    "super_glue/multirc": 27_243,
    "super_glue/record": 138_854,
    "super_glue/rte": 2_490,
    "super_glue/wic": 5_428,
    "super_glue/wsc": 259,
}


def test_super_glue_rates_are_t5s():
    rates = tasks.mixture("super_glue").rates(SUPER_GLUE_SIZES)
    total = sum(SUPER_GLUE_SIZES.values())
    assert rates == pytest.approx({task: n / total for task, n in SUPER_GLUE_SIZES.items()})


def test_members_are_tasks():
    for mixture in tasks.MIXTURES:
        assert tasks.mixture(mixture.name) is mixture
        assert set(mixture.tasks) <= set(tasks.names())
        assert mixture.limit == 2**19
    assert len({mixture.name for mixture in tasks.MIXTURES}) == len(tasks.MIXTURES)


def test_limit_and_temperature():
    sizes = {"a": 2**20, "b": 2**18, "c": 2**18}
    names = tuple(sizes)
    assert Mixture("m", names).rates(sizes) == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert Mixture("m", names, limit=None).rates(sizes)["a"] == pytest.approx(2 / 3)
    assert Mixture("m", names, temperature=2.0).rates({"a": 400, "b": 100, "c": 100}) == {
        "a": 0.5,
        "b": 0.25,
        "c": 0.25,
    }


def test_given_weights_need_no_sizes():
    assert Mixture("m", ("a", "b"), weights={"a": 3, "b": 1}).rates() == {"a": 0.75, "b": 0.25}


@steady
@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=8),
    st.integers(1, 10**7),
    st.floats(0.5, 20),
)
def test_rates_against_a_loop(counts, limit, temperature):
    sizes = {str(i): count for i, count in enumerate(counts)}
    shares = []
    for count in counts:
        shares.append((count if count < limit else limit) ** (1 / temperature))
    rates = Mixture("m", tuple(sizes), limit, temperature).rates(sizes)
    assert list(rates.values()) == pytest.approx([share / sum(shares) for share in shares])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixture("m", ()), "`tasks` must be different names, at least one."),
        (lambda: Mixture("m", ("a", "a")), "`tasks` must be different names, at least one."),
        (lambda: Mixture("m", ("a",), limit=0), "`limit` must be at least 1 or None."),
        (lambda: Mixture("m", ("a",), temperature=0), "`temperature` must be a positive number."),
        (lambda: Mixture("m", ("a",), weights={}), "`weights` must give a positive number for"),
        (lambda: Mixture("m", ("a",)).rates(), "`sizes` must give a positive number for"),
        (lambda: Mixture("m", ("a",)).rates({"a": 0}), "`sizes` must give a positive number for"),
        (lambda: tasks.mixture("gleu"), "`mixture` must be a known name. Received: mixture='gleu'"),
    ],
)
def test_bad_mixtures(make, message):
    with begins(message):
        make()
