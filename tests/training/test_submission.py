"""Submission files, byte by byte."""

import json
import re

import pytest

from keras_spot import tasks
from keras_spot.tasks import Example
from keras_spot.training import submission

PAIR = {"sentence1": "a", "sentence2": "b", "premise": "p", "hypothesis": "h", "sentence": "s"}
PAIR |= {"question1": "q", "question2": "r", "question": "q", "passage": "p", "word": "w"}
PAIR |= {"choice1": "c", "choice2": "d", "label": -1}


def unlabelled(name, ids):
    task = tasks.get(name)
    return [e for i, idx in enumerate(ids) for e in task.examples({**PAIR, "idx": idx}, i)]


@pytest.mark.parametrize(
    ("name", "split", "file", "predictions", "written"),
    [
        ("glue/cola", "test", "CoLA.tsv", ["acceptable", "unacceptable"], ["0", "1"]),
        ("glue/sst2", "test", "SST-2.tsv", ["positive", "negative"], ["0", "1"]),
        ("glue/mrpc", "test", "MRPC.tsv", ["equivalent", "not_equivalent"], ["0", "1"]),
        ("glue/qqp", "test", "QQP.tsv", ["duplicate", "not_duplicate"], ["0", "1"]),
        ("glue/stsb", "test", "STS-B.tsv", ["3.8", "7"], ["5.000", "3.800"]),
        (
            "glue/mnli",
            "test_matched",
            "MNLI-m.tsv",
            ["neutral", "entailment"],
            ["entailment", "neutral"],
        ),
        (
            "glue/mnli",
            "test_mismatched",
            "MNLI-mm.tsv",
            ["contradiction", "neutral"],
            ["neutral", "contradiction"],
        ),
        ("glue/mnli_matched", "test", "MNLI-m.tsv", ["neutral", "neutral"], ["neutral"] * 2),
        ("glue/mnli_mismatched", "test", "MNLI-mm.tsv", ["neutral", "neutral"], ["neutral"] * 2),
        (
            "glue/qnli",
            "test",
            "QNLI.tsv",
            ["not_entailment", "entailment"],
            ["entailment", "not_entailment"],
        ),
        (
            "glue/rte",
            "test",
            "RTE.tsv",
            ["not_entailment", "entailment"],
            ["entailment", "not_entailment"],
        ),
        ("glue/wnli", "test", "WNLI.tsv", ["entailment", "not_entailment"], ["0", "1"]),
        ("glue/ax", "test", "AX.tsv", ["contradiction", "neutral"], ["neutral", "contradiction"]),
        ("taskless:glue/sst2", "test", "SST-2.tsv", ["positive", "negative"], ["0", "1"]),
        ("glue/cola", "test", "CoLA.tsv", ["acceptable", "what?"], ["0", "1"]),
        ("glue/stsb", "test", "STS-B.tsv", ["2.0", "what?"], ["0.000", "2.000"]),
    ],
)
def test_glue(tmp_path, name, split, file, predictions, written):
    # The examples come in the order 12, 3; the file has 3 first.
    path = submission.write(name, predictions, unlabelled(name, [12, 3]), tmp_path, split)
    assert path == tmp_path / file
    assert path.read_text() == f"index\tprediction\n3\t{written[0]}\n12\t{written[1]}\n"


@pytest.mark.parametrize(
    ("name", "file", "predictions", "written"),
    [
        ("boolq", "BoolQ.jsonl", ["True", "False"], ['"false"', '"true"']),
        ("cb", "CB.jsonl", ["neutral", "entailment"], ['"entailment"', '"neutral"']),
        ("copa", "COPA.jsonl", ["choice2", "choice1"], ["0", "1"]),
        (
            "rte",
            "RTE.jsonl",
            ["not_entailment", "entailment"],
            ['"entailment"', '"not_entailment"'],
        ),
        ("wic", "WiC.jsonl", ["True", "False"], ['"false"', '"true"']),
        (
            "axb",
            "AX-b.jsonl",
            ["not_entailment", "entailment"],
            ['"entailment"', '"not_entailment"'],
        ),
        (
            "axg",
            "AX-g.jsonl",
            ["not_entailment", "entailment"],
            ['"entailment"', '"not_entailment"'],
        ),
        ("wic", "WiC.jsonl", ["True", "true"], ['"false"', '"true"']),
    ],
)
def test_super_glue(tmp_path, name, file, predictions, written):
    name = f"super_glue/{name}"
    path = submission.write(name, predictions, unlabelled(name, [12, 3]), tmp_path)
    assert path == tmp_path / file
    assert path.read_text() == (
        f'{{"idx": 3, "label": {written[0]}}}\n{{"idx": 12, "label": {written[1]}}}\n'
    )


def test_wsc(tmp_path):
    row = {"text": "Bo saw it .", "span1_text": "the dog", "span1_index": 0}
    row |= {"span2_text": "it", "span2_index": 2, "label": -1}
    for name, predictions in (
        ("super_glue/wsc", ["The dog", "Bo"]),
        ("super_glue/wsc.fixed", ["True", "False"]),
    ):
        task = tasks.get(name)
        made = [task.examples({**row, "idx": idx}, idx)[0] for idx in (0, 1)]
        path = submission.write(task, predictions, made, tmp_path)
        assert path.name == "WSC.jsonl"
        assert path.read_text() == '{"idx": 0, "label": "True"}\n{"idx": 1, "label": "False"}\n'


def test_multirc(tmp_path):
    task = tasks.get("super_glue/multirc")
    ids = [(0, 0, 0), (0, 0, 1), (0, 1, 2), (4, 2, 3)]
    names = ("paragraph", "question", "answer")
    made = [
        Example("x", "<unk>", i, idx=dict(zip(names, idx, strict=True)))
        for i, idx in enumerate(ids)
    ]
    path = submission.write(task, ["True", "False", "maybe", "True"], made, tmp_path)
    assert path.name == "MultiRC.jsonl"
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {
            "idx": 0,
            "passage": {
                "questions": [
                    {"idx": 0, "answers": [{"idx": 0, "label": 1}, {"idx": 1, "label": 0}]},
                    {"idx": 1, "answers": [{"idx": 2, "label": 0}]},
                ]
            },
        },
        {"idx": 4, "passage": {"questions": [{"idx": 2, "answers": [{"idx": 3, "label": 1}]}]}},
    ]


def test_record_has_one_answer_for_each_query(tmp_path):
    task = tasks.get("super_glue/record")
    row = {"passage": "p", "query": "q", "entities": ["e"]}
    made = task.examples({**row, "answers": ["A", "B"], "idx": {"passage": 0, "query": 9}}, 0)
    made += task.examples({**row, "answers": [], "idx": {"passage": 0, "query": 2}}, 1)
    path = submission.write(task, ["Ann ", "Bo", "Ünal"], made, tmp_path)
    assert path.name == "ReCoRD.jsonl"
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"idx": 2, "label": "Ünal"},
        {"idx": 9, "label": "Ann"},
    ]


def test_every_task_of_the_benchmarks_has_a_file():
    known = {name for name in tasks.names() if name.startswith(("glue/", "super_glue/"))}
    assert known - set(submission.FILES) == {"glue/mnli"}


@pytest.mark.parametrize(
    ("name", "predictions", "ids", "message"),
    [
        ("mr", ["positive"], [0], "`task` must be of GLUE or SuperGLUE, whose submissions"),
        ("glue/sst2", [], [0], "`predictions` must be one for each of the 1 examples"),
        ("glue/sst2", [], [], "`predictions` must be one for each of the 0 examples"),
        (
            "glue/sst2",
            ["positive"],
            [None],
            "`examples` must each have an `idx` of its own. Received: idx=None in row 0 of",
        ),
        (
            "glue/sst2",
            ["positive"] * 2,
            [5, 5],
            "`examples` must each have an `idx` of its own. Received: idx=5 in row 1 of",
        ),
    ],
)
def test_refused_and_nothing_written(tmp_path, name, predictions, ids, message):
    (tmp_path / "SST-2.tsv").write_text("older")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        submission.write(name, predictions, unlabelled(name, ids), tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]
