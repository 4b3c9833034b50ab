"""What an evaluation shows: scores, each class, and what is taken for what."""

import io
import re

import numpy as np
import pytest
import toy
from rich.console import Console
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from keras_spot import tasks
from keras_spot.base import progress
from keras_spot.model import build
from keras_spot.tasks.classes import by_class, confusion
from keras_spot.training.evaluate import evaluate
from keras_spot.training.evaluation import Evaluation

LABELS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model(tokenizer):
    backbone = toy.shallow(tokenizer.vocabulary_size())
    return build.build(backbone, tokenizer=tokenizer, prompt_length=3)


def test_classes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    right, given = rng.integers(0, 3, 200), rng.integers(-1, 3, 200)
    counts = confusion(right, given, 3)
    np.testing.assert_array_equal(counts[:, :3], confusion_matrix(right, given, labels=[0, 1, 2]))
    assert counts.sum() == 200
    parts = precision_recall_fscore_support(right, given, labels=[0, 1, 2], zero_division=0.0)
    ours = by_class(counts, LABELS)
    for name, expected in zip(("precision", "recall", "f1"), parts):
        np.testing.assert_allclose([getattr(c, name) for c in ours], 100 * expected)
    assert [c.examples for c in ours] == parts[3].tolist()


def test_a_class_that_is_not_there_scores_nothing():
    (never,) = [c for c in by_class(confusion([0, 0], [0, -1], 2), "ab") if c.label == "b"]
    assert (never.precision, never.recall, never.f1, never.examples) == (0.0, 0.0, 0.0, 0)


def of(counts, labels=LABELS):
    counts = np.array(counts)
    scores = {"accuracy": 50.0, "invalid": 1.0}
    return Evaluation("mine", scores, [{}] * int(counts.sum()), labels, counts)


def test_the_report_in_text():
    assert of([[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]).report().splitlines() == [
        "mine: 5 examples",
        "metric    value",
        "accuracy  50.00",
        "invalid       1",
        "",
        "each class",
        "class  precision  recall     f1  examples",
        "red       100.00   66.67  80.00         3",
        "green      50.00   50.00  50.00         2",
        "blue        0.00    0.00   0.00         0",
        "",
        "what is answered with what",
        "right \\ answered  red  green  blue  no label",
        "red                 2      1     0         0",
        "green               0      1     0         1",
        "blue                0      0     0         0",
    ]


def test_many_classes_show_their_mistakes():
    labels = tuple(f"intent {i} <b>" for i in range(40))
    counts = np.diag(np.full(40, 9))
    counts[3, 5], counts[7, 2] = 4, 6
    counts = np.pad(counts, [(0, 0), (0, 1)])
    shown = of(counts, labels)
    assert shown.report().splitlines()[-3:] == [
        "right → answered             times",
        "intent 7 <b> → intent 2 <b>      6",
        "intent 3 <b> → intent 5 <b>      4",
    ]
    assert "<b>" not in shown._repr_html_()
    assert "&lt;b&gt;" in shown._repr_html_()


def test_a_short_repr_and_one_of_html():
    evaluation = of([[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
    assert repr(evaluation) == "Evaluation('mine', 5 examples: accuracy=50.00, invalid=1)"
    html = evaluation._repr_html_()
    assert html.count("<table>") == 3
    assert re.findall(r">([^<]+)</td>", html)[:4] == ["50.00", "1", "100.00", "66.67"]


@pytest.mark.parametrize("method", ["generate", "rank"])
def test_the_counts_are_those_of_the_answers(model, data_dir, method):
    calls = []
    evaluation = evaluate(
        model,
        "synthetic/movies",
        method=method,
        data_dir=data_dir,
        limit=20,
        batch_size=8,
        progress=lambda *call: calls.append(call),
    )
    labels = tasks.get("synthetic/movies").labels
    assert evaluation.labels == labels
    expected = np.zeros((2, 3), int)
    for record in evaluation.predictions:
        answer = record["prediction"]
        given = labels.index(answer) if answer in labels else 2
        expected[labels.index(record["target"]), given] += 1
    np.testing.assert_array_equal(evaluation.confusion, expected)
    assert calls == [(8, 20, {}), (16, 20, {}), (20, 20, {})]
    if method == "rank":
        shares = [list(record["probabilities"].values()) for record in evaluation.predictions]
        np.testing.assert_allclose(np.sum(shares, axis=1), 1.0, rtol=1e-6)
        logs = [list(record["scores"].values()) for record in evaluation.predictions]
        np.testing.assert_allclose(
            np.log(np.array(shares)[:, 0] / np.array(shares)[:, 1]),
            np.subtract(*np.transpose(logs)),
            rtol=1e-3,
            atol=1e-3,
        )


def test_free_text_has_no_classes(model):
    task = tasks.Task(
        "free",
        input="say {s}",
        target="{a}",
        metrics=("exact_match",),
        max_target_length=4,
        rows={"validation": [{"s": "a", "a": "b"}]},
    )
    evaluation = evaluate(model, task)
    assert (evaluation.classes, evaluation.confusion) == ([], None)
    assert "each class" not in evaluation.report()


def test_a_bar_or_lines_while_it_counts(monkeypatch):
    screen = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with progress.counting("auto", "evaluating mine", 40, screen) as answered:
        answered(30)
    assert "30/40" in screen.file.getvalue()
    pipe = Console(file=io.StringIO(), width=80, force_terminal=False)
    times = iter([0.0, 3.0, 11.0, 15.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    with progress.counting("auto", "evaluating mine", 4000, pipe) as answered:
        for _ in range(3):
            answered(1000)
    assert pipe.file.getvalue() == "evaluating mine: 2,000/4,000, 0:11, 0:11 left\n"
