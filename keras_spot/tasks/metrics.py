"""Scores of decoded predictions, all of them times 100.

They agree with the T5 codebase (t5/evaluation/metrics.py) and the benchmarks' own scripts. A
prediction that names no label is wrong, never left out.
"""

import collections
import dataclasses
import functools
import math
import re
import statistics
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_spot.base.errors import invalid, unknown
from keras_spot.tasks import UNLABELLED, Example, Task
from keras_spot.tasks.benchmarks import BENCHMARKS

__all__ = [
    "BENCHMARKS",
    "INVALID",
    "METRICS",
    "Outcome",
    "accuracy",
    "benchmark",
    "f1",
    "group_exact_match",
    "macro_f1",
    "matthews",
    "mean",
    "normalise_answer",
    "number",
    "pearson",
    "predicted_labels",
    "rouge",
    "same_referent",
    "score",
    "spearman",
    "squad_em",
    "squad_f1",
]

INVALID = -1
"""The number of a prediction that names no label."""

_DETERMINERS = re.compile(
    r"a|an|the|this|that|these|those|which|whose|some|few|many|much|each|every"
    r"|my|your|his|her|our|their"
)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score(task: Task, predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
    """Score the decoded predictions of a split.

    Args:
        task: the task, whose `metrics` are computed.
        predictions: one text for each example.
        examples: the split's examples, in the same order.

    Returns:
        One value for each metric (x100), `score` (their mean) and, where there are labels or
        numbers to predict, `invalid` (how many predictions are none).

    Raises:
        InvalidArgument: a task without metrics, no example, another number of predictions than of
            examples, or an example without a label or an answer to compare with.

    >>> from keras_spot import tasks
    >>> task = tasks.get("glue/sst2")
    >>> rows = [{"sentence": "good", "label": 1}, {"sentence": "bad", "label": 0}]
    >>> examples = [task.examples(row, i)[0] for i, row in enumerate(rows)]
    >>> score(task, ["positive", "awful"], examples)
    {'accuracy': 50.0, 'score': 50.0, 'invalid': 1.0}
    """
    if not task.metrics:
        raise invalid("task", "must have metrics to be scored", task.name)
    if not examples or len(predictions) != len(examples):
        rule = f"must be one for each of the {len(examples)} examples, at least one"
        raise invalid("predictions", rule, f"{len(predictions)} predictions")
    for example in examples:
        if example.target == UNLABELLED:
            rule = "must have labels or answers to score against"
            raise invalid("examples", rule, f"row {example.index} of {task.name}, without")
    outcome = _outcome(task, predictions, examples)
    scores = {name: 100.0 * METRICS[name](outcome) for name in task.metrics}
    scores["score"] = statistics.fmean(scores.values())
    if outcome.invalid is not None:
        scores["invalid"] = float(outcome.invalid)
    return scores


def mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of several splits' scores; `invalid` is their sum.

    MNLI's score is the mean of its matched and mismatched splits.

    >>> mean([{"accuracy": 80.0, "invalid": 1.0}, {"accuracy": 82.0, "invalid": 0.0}])
    {'accuracy': 81.0, 'invalid': 1.0}
    """
    columns = {name: [split[name] for split in scores] for name in scores[0]}
    return {
        name: math.fsum(values) if name == "invalid" else statistics.fmean(values)
        for name, values in columns.items()
    }


def benchmark(name: str, scores: Mapping[str, float]) -> float:
    """Return a benchmark's average: the mean of the scores of its tasks.

    A task's own score is the mean of its metrics (`score` of `keras_spot.metrics.score`), so
    metrics are averaged before tasks, as GLUE and SuperGLUE do it.

    Args:
        name: "glue" or "super_glue".
        scores: task name to score (x100); tasks outside the benchmark are not counted.

    Raises:
        InvalidArgument: an unknown benchmark, or a task of it without a score.
    """
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    missing = [task for task in BENCHMARKS[name] if task not in scores]
    if missing:
        raise invalid("scores", f"must have every task of {name}", f"none for {missing}")
    return statistics.fmean(scores[task] for task in BENCHMARKS[name])


def predicted_labels(
    task: Task, predictions: Sequence[str], examples: Sequence[Example]
) -> list[int]:
    """Return the number of the label each prediction names, `INVALID` (-1) for none.

    Where the task asks for a referent (WSC), the label is 1 if the predicted referent is the
    example's candidate, else 0; only an empty prediction is invalid.
    """
    if "referent_accuracy" in task.metrics:
        return [
            int(same_referent(prediction, example.answers[0])) if prediction.strip() else INVALID
            for prediction, example in zip(predictions, examples, strict=True)
        ]
    numbers = {label: number for number, label in enumerate(task.labels)}
    return [numbers.get(prediction.strip(), INVALID) for prediction in predictions]


def number(prediction: str) -> float:
    """Return the number a prediction is, `INVALID` (-1) for none, as in T5.

    >>> number("3.8"), number("high")
    (3.8, -1)
    """
    try:
        value = float(prediction)
    except ValueError:
        return INVALID
    return value if math.isfinite(value) else INVALID


def same_referent(prediction: str, candidate: str) -> bool:
    """Say whether two texts name the same thing, by T5's rule for WSC.

    Case and determiners do not count; the words of one must all be among those of the other, and
    an apostrophe in only one of them ("Bob", "Bob's hat") makes them different.

    >>> same_referent("the Fuzzy Bunny", "bunny"), same_referent("Bob", "Bob's hat")
    (True, False)
    """
    words, others = (
        {word for word in text.lower().split() if not _DETERMINERS.fullmatch(word)}
        for text in (prediction, candidate)
    )
    if not words or not others or ("'" in prediction) != ("'" in candidate):
        return False
    return words <= others or others <= words


def normalise_answer(text: str) -> str:
    """Return an answer in lower case, without punctuation, articles and extra white space.

    The normalisation of the official SQuAD 1.1 script.

    >>> normalise_answer("The  U.S. Senate!")
    'us senate'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


# === Metrics: what is right first, then what was predicted ===


def accuracy(expected: Sequence[object], predicted: Sequence[object]) -> float:
    """Return the share of equal pairs."""
    pairs = zip(expected, predicted, strict=True)
    return statistics.fmean(right == given for right, given in pairs)


def f1(expected: Sequence[float], predicted: Sequence[float]) -> float:
    """Return the F1 of label 1 of two; an invalid prediction is the other label."""
    from sklearn.metrics import f1_score

    pairs = zip(expected, predicted, strict=True)
    given = [1 - right if label == INVALID else label for right, label in pairs]
    return float(f1_score(expected, given, zero_division=0.0))


def macro_f1(expected: Sequence[float], predicted: Sequence[float], classes: int) -> float:
    """Return the mean of the F1 of every label, as CB is scored."""
    from sklearn.metrics import f1_score

    labels = range(classes)
    return float(f1_score(expected, predicted, labels=labels, average="macro", zero_division=0.0))


def matthews(expected: Sequence[float], predicted: Sequence[float]) -> float:
    """Return Matthews' correlation, 0 where one side is constant.

    Invalid predictions are a class of their own, as in T5.
    """
    if min(expected) == max(expected) or min(predicted) == max(predicted):
        return 0.0
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(expected, predicted))


def pearson(expected: Sequence[float], predicted: Sequence[float]) -> float:
    """Return Pearson's correlation, 0 where one side is constant."""
    if min(expected) == max(expected) or min(predicted) == max(predicted):
        return 0.0
    from scipy.stats import pearsonr

    return float(pearsonr(expected, predicted).statistic)


def spearman(expected: Sequence[float], predicted: Sequence[float]) -> float:
    """Return Spearman's rank correlation, 0 where one side is constant."""
    if min(expected) == max(expected) or min(predicted) == max(predicted):
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(expected, predicted).statistic)


def group_exact_match(
    expected: Sequence[float], predicted: Sequence[float], groups: Sequence[str | None]
) -> float:
    """Return the share of groups (MultiRC's questions) with every label right."""
    right: dict[str | None, bool] = {}
    for label, given, group in zip(expected, predicted, groups, strict=True):
        right[group] = right.get(group, True) and label == given
    return statistics.fmean(right.values())


def squad_em(answers: Sequence[str], prediction: str) -> float:
    """Return 1.0 where the prediction is one of the answers, by `normalise_answer`."""
    return float(normalise_answer(prediction) in map(normalise_answer, answers))


def squad_f1(answers: Sequence[str], prediction: str) -> float:
    """Return the best F1 over words of the prediction with one of the answers."""
    given = normalise_answer(prediction).split()
    return max(_overlap(normalise_answer(answer).split(), given) for answer in answers)


def rouge(target: str, prediction: str, kind: str) -> float:
    """Return the F-measure of "rouge1", "rouge2" or "rougeLsum", without stemming.

    Sentences are told apart by " . " and line breaks, as in T5. (T5 reports the median of a
    bootstrap over the examples where `score` takes their mean.)
    """
    target, prediction = (text.replace(" . ", " .\n") for text in (target, prediction))
    return float(_rouge_scorer(kind).score(target, prediction)[kind].fmeasure)


# === From a task's metric names to the functions ===


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A split's predictions beside what is right.

    Attributes:
        expected, predicted: label numbers or scores, empty for a task of free text.
        groups: the group of each example.
        texts: (target, accepted answers, prediction) of the first example of each group.
        classes: how many labels the task has.
        invalid: how many predictions are no label or number; None for free text.
    """

    expected: Sequence[float]
    predicted: Sequence[float]
    groups: Sequence[str | None]
    texts: Sequence[tuple[str, tuple[str, ...], str]]
    classes: int
    invalid: int | None


METRICS: dict[str, Callable[[Outcome], float]] = {
    "accuracy": lambda o: accuracy(o.expected, o.predicted),
    "f1": lambda o: f1(o.expected, o.predicted),
    "macro_f1": lambda o: macro_f1(o.expected, o.predicted, o.classes),
    "matthews": lambda o: matthews(o.expected, o.predicted),
    "pearson": lambda o: pearson(o.expected, o.predicted),
    "spearman": lambda o: spearman(o.expected, o.predicted),
    "group_exact_match": lambda o: group_exact_match(o.expected, o.predicted, o.groups),
    "referent_accuracy": lambda o: accuracy(o.expected, o.predicted),
    "squad_em": lambda o: statistics.fmean(squad_em(a, p) for _, a, p in o.texts),
    "squad_f1": lambda o: statistics.fmean(squad_f1(a, p) for _, a, p in o.texts),
    "exact_match": lambda o: statistics.fmean(p.strip() == t for t, _, p in o.texts),
    "rouge1": lambda o: statistics.fmean(rouge(t, p, "rouge1") for t, _, p in o.texts),
    "rouge2": lambda o: statistics.fmean(rouge(t, p, "rouge2") for t, _, p in o.texts),
    "rougeLsum": lambda o: statistics.fmean(rouge(t, p, "rougeLsum") for t, _, p in o.texts),
}


def _outcome(task: Task, predictions: Sequence[str], examples: Sequence[Example]) -> Outcome:
    expected: list[float] = []
    predicted: list[float] = []
    numbers = not task.labels and bool({"pearson", "spearman"} & set(task.metrics))
    if task.labels:
        expected = [INVALID if example.label is None else example.label for example in examples]
        predicted = list(predicted_labels(task, predictions, examples))
    elif numbers:
        expected = [float(example.target) for example in examples]
        predicted = [number(prediction) for prediction in predictions]
    firsts: dict[object, tuple[str, tuple[str, ...], str]] = {}
    for place, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
        group = place if example.group is None else example.group
        answers = example.answers or (example.target,)
        firsts.setdefault(group, (example.target, answers, prediction))
    return Outcome(
        expected,
        predicted,
        [example.group for example in examples],
        list(firsts.values()),
        len(task.labels),
        predicted.count(INVALID) if task.labels or numbers else None,
    )


def _overlap(right: list[str], given: list[str]) -> float:
    common = sum((collections.Counter(right) & collections.Counter(given)).values())
    return 2 * common / (len(right) + len(given)) if common else 0.0


@functools.cache
def _rouge_scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind])
