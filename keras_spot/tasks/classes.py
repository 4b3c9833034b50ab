"""Scores of each class, from the counts of what is right against what was answered."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_spot.tasks.metrics import INVALID

__all__ = ["ClassScores", "by_class", "confusion"]


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """How well one class is told, times 100.

    Attributes:
        label: its name.
        precision: of the answers that name it, how many are right; 0 where none does.
        recall: of its examples, how many are answered with it; 0 where it has none.
        f1: their harmonic mean.
        examples: how many there are of it.
        answers: how many answers name it.
    """

    label: str
    precision: float
    recall: float
    f1: float
    examples: int
    answers: int


def confusion(expected: Sequence[float], predicted: Sequence[float], classes: int) -> np.ndarray:
    """Return how often each class was answered with each, int64 `[K, K + 1]`.

    Rows are the right classes, columns the answers, the last of them those that name no class.

    Args:
        expected: the right class of each example.
        predicted: the class of each answer, `INVALID` (-1) for none.
        classes: K.

    >>> confusion([0, 0, 1], [0, 1, INVALID], 2).tolist()
    [[1, 1, 0], [0, 0, 1]]
    """
    counts = np.zeros((classes, classes + 1), np.int64)
    for right, answer in zip(expected, predicted, strict=True):
        counts[int(right), classes if answer == INVALID else int(answer)] += 1
    return counts


def by_class(counts: np.ndarray, labels: Sequence[str]) -> list[ClassScores]:
    """Return the scores of each class of a `confusion`.

    >>> by_class(np.array([[1, 1, 0], [0, 2, 0]]), ["bad", "good"])[1].recall
    100.0
    """
    scores = []
    for number, label in enumerate(labels):
        right = int(counts[number, number])
        examples, answers = int(counts[number].sum()), int(counts[:, number].sum())
        precision = 100.0 * right / answers if answers else 0.0
        recall = 100.0 * right / examples if examples else 0.0
        f1 = 200.0 * right / (examples + answers) if right else 0.0
        scores.append(ClassScores(label, precision, recall, f1, examples, answers))
    return scores
