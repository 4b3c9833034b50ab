"""Metrics against brute force, hand-counted cases and T5's documented rules."""

import collections
import itertools
import math
import string
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_spot import tasks
from keras_spot.tasks import Example, Task, metrics

steady = settings(deadline=None, derandomize=True, max_examples=60)

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(-1, 1)), min_size=1, max_size=30)
TRIPLES = st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 2)), min_size=1, max_size=30)
NUMBERS = st.lists(st.tuples(st.integers(0, 25), st.integers(-5, 30)), min_size=2, max_size=30)
WORDS = st.lists(st.sampled_from(["the", "A", "cat", "Cat,", "dog", "u.s.", "-"]), max_size=6)


def examples(task, rows):
    return [e for i, row in enumerate(rows) for e in task.examples(row, i)]


# === Brute force ===


@steady
@given(PAIRS)
def test_accuracy(pairs):
    expected, predicted = zip(*pairs, strict=True)
    right = 0
    for a, b in pairs:
        if a == b:
            right += 1
    assert metrics.accuracy(expected, predicted) == pytest.approx(right / len(pairs))


def f1_by_definition(pairs, label):
    hits = sum(a == label and b == label for a, b in pairs)
    answered = sum(b == label for _, b in pairs)
    true = sum(a == label for a, _ in pairs)
    if hits == 0:
        return 0.0
    precision, recall = hits / answered, hits / true
    return 2 * precision * recall / (precision + recall)


@steady
@given(PAIRS)
def test_f1_takes_an_invalid_prediction_as_the_other_label(pairs):
    expected, predicted = zip(*pairs, strict=True)
    flipped = [(a, 1 - a if b == -1 else b) for a, b in pairs]
    assert metrics.f1(expected, predicted) == pytest.approx(f1_by_definition(flipped, 1))


@steady
@given(TRIPLES)
def test_macro_f1(pairs):
    expected, predicted = zip(*pairs, strict=True)
    by_definition = sum(f1_by_definition(pairs, label) for label in range(3)) / 3
    assert metrics.macro_f1(expected, predicted, 3) == pytest.approx(by_definition)


@steady
@given(TRIPLES)
def test_matthews(pairs):
    # Gorodkin 2004, R_K: the correlation of the one-hot matrices; -1 is a class of its own.
    expected, predicted = zip(*pairs, strict=True)
    n, classes = len(pairs), range(-1, 3)

    def covariance(x, y):
        total = 0.0
        for k in classes:
            mean_x, mean_y = sum(a == k for a in x) / n, sum(b == k for b in y) / n
            total += sum(((a == k) - mean_x) * ((b == k) - mean_y) for a, b in zip(x, y))
        return total

    spread = covariance(expected, expected) * covariance(predicted, predicted)
    by_definition = covariance(expected, predicted) / math.sqrt(spread) if spread > 1e-9 else 0.0
    assert metrics.matthews(expected, predicted) == pytest.approx(by_definition, abs=1e-9)


def pearson_by_definition(x, y):
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    top = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y))
    bottom = sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y)
    return top / math.sqrt(bottom)


def ranks(values):
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


@steady
@given(NUMBERS)
def test_correlations(pairs):
    expected, predicted = ([float(v) / 5 for v in side] for side in zip(*pairs, strict=True))
    assume(len(set(expected)) > 1 and len(set(predicted)) > 1)
    by_definition = pearson_by_definition(expected, predicted)
    assert metrics.pearson(expected, predicted) == pytest.approx(by_definition, abs=1e-9)
    by_definition = pearson_by_definition(ranks(expected), ranks(predicted))
    assert metrics.spearman(expected, predicted) == pytest.approx(by_definition, abs=1e-9)


def test_correlation_with_a_constant_is_zero():
    assert metrics.pearson([1.0, 2.0], [3.0, 3.0]) == 0.0
    assert metrics.spearman([1.0, 1.0], [3.0, 4.0]) == 0.0


@steady
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-1, 1), st.sampled_from("abc"))))
def test_group_exact_match(rows):
    assume(rows)
    whole = 0
    groups = {group for _, _, group in rows}
    for group in groups:
        whole += all(a == b for a, b, g in rows if g == group)
    value = metrics.group_exact_match(*zip(*rows, strict=True))
    assert value == pytest.approx(whole / len(groups))


def squad_words(text):
    """SQuAD 1.1's normalisation, a character and a word at a time."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return [word for word in kept.split() if word not in ("a", "an", "the")]


@steady
@given(st.lists(WORDS, min_size=1, max_size=3), WORDS)
def test_squad(answers, prediction):
    answers, prediction = [" ".join(words) for words in answers], " ".join(prediction)
    best = 0.0
    for answer in answers:
        right, given_words = squad_words(answer), squad_words(prediction)
        left, common = collections.Counter(right), 0
        for word in given_words:
            if left[word] > 0:
                left[word] -= 1
                common += 1
        if common:
            precision, recall = common / len(given_words), common / len(right)
            best = max(best, 2 * precision * recall / (precision + recall))
    assert metrics.squad_f1(answers, prediction) == pytest.approx(best)
    same = any(squad_words(answer) == squad_words(prediction) for answer in answers)
    assert metrics.squad_em(answers, prediction) == same


@steady
@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing_more(text):
    once = metrics.normalise_answer(text)
    assert once == " ".join(once.split())
    assert not set(once) & set(string.punctuation)


def lcs(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(range(len(a)), range(len(b))):
        same = a[i] == b[j]
        table[i + 1][j + 1] = table[i][j] + 1 if same else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@steady
@given(*[st.lists(st.sampled_from("abcd"), max_size=8)] * 2)
def test_rouge_of_one_sentence(target, prediction):
    def measure(common, given, right):
        return 2 * common / (given + right) if common else 0.0

    def grams(words, n):
        return collections.Counter(zip(*[words[i:] for i in range(n)]))

    texts = " ".join(target), " ".join(prediction)
    for n, kind in ((1, "rouge1"), (2, "rouge2")):
        a, b = grams(target, n), grams(prediction, n)
        by_definition = measure((a & b).total(), a.total(), b.total())
        assert metrics.rouge(*texts, kind) == pytest.approx(by_definition)
    by_definition = measure(lcs(target, prediction), len(target), len(prediction))
    assert metrics.rouge(*texts, "rougeLsum") == pytest.approx(by_definition)


def test_rouge_lsum_takes_sentences_in_any_order():
    one, other = "the cat sat . a dog ran", "a dog ran . the cat sat"
    assert metrics.rouge(one, other, "rougeLsum") == pytest.approx(1.0)
    assert metrics.rouge(one.replace(" . ", "\n"), other, "rougeLsum") == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("prediction", "candidate", "same"),
    [
        ("Mark", "Mark", True),
        ("mark", "MARK", True),
        ("the man", "man", True),
        ("fuzzy bunny", "the bunny", True),
        ("bunny", "a fuzzy bunny", True),
        ("Bob", "Bob's hat", False),
        ("Bob's hat", "Bob's", True),
        ("hat man", "hat shop", False),
        ("", "man", False),
        ("the", "the man", False),
        ("their", "their mothers", False),
    ],
)
def test_same_referent(prediction, candidate, same):
    assert metrics.same_referent(prediction, candidate) is same


# === Scores of tasks ===


def test_every_metric_has_a_function():
    assert set(metrics.METRICS) == set(tasks.METRICS)


def test_invalid_is_wrong_and_counted():
    task = tasks.get("glue/mrpc")
    rows = [{"sentence1": "a", "sentence2": "b", "label": label} for label in (1, 1, 0, 0)]
    predictions = ["equivalent", "equivalents", " not_equivalent\n", ""]
    # Label 1: one hit of two, and the empty prediction of a 0 counts as a 1.
    assert metrics.score(task, predictions, examples(task, rows)) == {
        "f1": pytest.approx(50.0),
        "accuracy": 50.0,
        "score": pytest.approx(50.0),
        "invalid": 2.0,
    }


def test_stsb():
    task = tasks.get("glue/stsb")
    rows = [{"sentence1": "a", "sentence2": "b", "label": label} for label in (1.0, 3.0, 5.0)]
    perfect = metrics.score(task, ["1.0", "3.0", " 5.0"], examples(task, rows))
    assert perfect["score"] == pytest.approx(100.0)
    assert perfect["invalid"] == 0.0
    # No number is -1, and neither are "nan" and "inf".
    for text in ("five", "nan", "inf", ""):
        scores = metrics.score(task, ["1.0", "3.0", text], examples(task, rows))
        by_definition = 100 * pearson_by_definition([1.0, 3.0, 5.0], [1.0, 3.0, -1.0])
        assert scores["pearson"] == pytest.approx(by_definition)
        assert scores["invalid"] == 1.0


def test_cb():
    task = tasks.get("super_glue/cb")
    rows = [{"premise": "a", "hypothesis": "b", "label": label} for label in (0, 1, 1, 2)]
    predictions = ["entailment", "contradiction", "entailment", "none"]
    scores = metrics.score(task, predictions, examples(task, rows))
    # F1 by label: 2/3, 2/3, 0.
    assert scores["macro_f1"] == pytest.approx(100 * 4 / 9)
    assert scores["accuracy"] == 50.0


def multirc(labels, questions):
    return [
        {
            "paragraph": "p",
            "question": "q",
            "answer": "a",
            "label": label,
            "idx": {"paragraph": 0, "question": question, "answer": i},
        }
        for i, (label, question) in enumerate(zip(labels, questions, strict=True))
    ]


def test_multirc():
    task = tasks.get("super_glue/multirc")
    rows = multirc([1, 0, 1, 0], [0, 0, 1, 2])
    scores = metrics.score(task, ["True", "False", "False", "False"], examples(task, rows))
    assert scores == {
        "f1": pytest.approx(200 / 3),
        "group_exact_match": pytest.approx(200 / 3),
        "score": pytest.approx(200 / 3),
        "invalid": 0.0,
    }


def test_multirc_questions_of_two_paragraphs_are_two_groups():
    task = tasks.get("super_glue/multirc")
    rows = multirc([1, 1], [0, 0])
    rows[1]["idx"] = {"paragraph": 1, "question": 0, "answer": 0}
    scores = metrics.score(task, ["True", "False"], examples(task, rows))
    assert scores["group_exact_match"] == 50.0


def test_record_scores_each_query_once():
    task = tasks.get("super_glue/record")
    row = {"passage": "p", "query": "q", "entities": ["Ann Lee", "Bo"]}
    rows = [
        {**row, "answers": ["Ann Lee", "Ann", "Lee"], "idx": {"passage": 0, "query": 0}},
        {**row, "answers": ["Bo"], "idx": {"passage": 0, "query": 1}},
    ]
    made = examples(task, rows)
    assert len(made) == 4
    # The first prediction of a query is the one that counts.
    scores = metrics.score(task, ["the Ann Lee!", "Bo", "Bo", "Ann"], made)
    assert scores == {"squad_f1": 50.0, "squad_em": 50.0, "score": 50.0}


def test_wsc_referents():
    task = tasks.get("super_glue/wsc")
    row = {"text": "Bo saw it .", "span1_text": "The dog", "span2_text": "it", "span2_index": 2}
    rows = [{**row, "label": label} for label in (1, 0, 1, 0, 0)]
    predictions = ["dog", "dog", "Bo", "Bo", ""]
    made = examples(task, rows)
    assert metrics.predicted_labels(task, predictions, made) == [1, 1, 0, 0, -1]
    scores = metrics.score(task, predictions, made)
    assert scores == {
        "referent_accuracy": pytest.approx(40.0),
        "score": pytest.approx(40.0),
        "invalid": 1.0,
    }


def test_question_answering():
    task = tasks.get("mrqa/squad")
    rows = [{"question": "q?", "context": "c", "answers": ["the U.S.", "America"]}]
    scores = metrics.score(task, ["U . S ."], examples(task, rows))
    assert scores == {"squad_f1": 100.0, "squad_em": 100.0, "score": 100.0}


def test_summaries():
    task = tasks.get("samsum")
    rows = [{"dialogue": "d", "summary": "a b c"}, {"dialogue": "d", "summary": "a b"}]
    scores = metrics.score(task, ["a b c", "c d"], examples(task, rows))
    assert scores == pytest.approx({"rouge1": 50, "rouge2": 50, "rougeLsum": 50, "score": 50})


def test_free_text():
    task = Task("mine", None, "{text}", target="{text}", metrics=("exact_match",))
    scores = metrics.score(task, [" a ", "b"], examples(task, [{"text": "a"}, {"text": "c"}]))
    assert scores == {"exact_match": 50.0, "score": 50.0}


def test_reading_the_targets_back_is_perfect():
    for name in tasks.names():
        task = tasks.get(name)
        if not task.labels or name == "super_glue/wsc":
            continue
        made = [Example("x", label, i, (), str(i), i) for i, label in enumerate(task.labels)]
        scores = metrics.score(task, list(task.labels), made)
        assert scores == pytest.approx({**dict.fromkeys(scores, 100.0), "invalid": 0.0})


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        (
            [],
            [],
            "`predictions` must be one for each of the 0 examples, at least one. "
            "Received: 0 predictions",
        ),
        (
            ["positive"],
            [1, 0],
            "`predictions` must be one for each of the 2 examples, at least "
            "one. Received: 1 predictions",
        ),
        (
            ["positive"] * 2,
            [1, -1],
            "`examples` must have labels or answers to score against. "
            "Received: row 1 of glue/sst2, without",
        ),
    ],
)
def test_refused(predictions, labels, message):
    task = tasks.get("glue/sst2")
    made = examples(task, [{"sentence": "x", "label": label} for label in labels])
    with pytest.raises(ValueError, match=f"^{message}$"):
        metrics.score(task, predictions, made)


def test_nothing_to_score_with():
    task = tasks.get("c4")
    with pytest.raises(ValueError, match=r"^`task` must have metrics .* c4$"):
        metrics.score(task, ["a"], task.examples({"text": "a"}, 0))


# === Averages ===


def test_glue_average_leaves_wnli_out():
    scores = dict(zip(metrics.BENCHMARKS["glue"], (50, 90, 85, 88, 87, 80, 90, 70), strict=True))
    assert metrics.benchmark("glue", {**scores, "glue/wnli": 0.0}) == pytest.approx(80.0)


def test_super_glue_average():
    names = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")
    scores = {f"super_glue/{name}": float(i) for i, name in enumerate(names)}
    assert metrics.benchmark("super_glue", scores) == 3.5


def test_benchmarks_are_the_mixtures():
    for name, members in metrics.BENCHMARKS.items():
        assert tasks.mixture(name).tasks == members


def test_missing_task():
    with pytest.raises(ValueError, match=r"^`scores` must have every task of glue. Received: none"):
        metrics.benchmark("glue", {"glue/cola": 1.0})
    with pytest.raises(ValueError, match=r"Received: benchmark='glu' \(did you mean 'glue'\?\)$"):
        metrics.benchmark("glu", {})


def test_mnli_is_the_mean_of_its_two_splits():
    matched = {"accuracy": 80.0, "score": 80.0, "invalid": 2.0}
    mismatched = {"accuracy": 82.0, "score": 82.0, "invalid": 3.0}
    assert metrics.mean([matched, mismatched]) == {"accuracy": 81.0, "score": 81.0, "invalid": 5.0}


def test_import_is_light():
    code = (
        "import sys, keras_spot.tasks.metrics; "
        "assert not {'tensorflow', 'numpy', 'sklearn', 'scipy', 'rouge_score'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
