"""Labels as a tokenizer sees them: which tokens each is, and whether its text comes back."""

import warnings
from typing import Any

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.tasks import Task

__all__ = ["DataWarning", "check_labels", "decoded", "is_label_task", "longest_label"]


class DataWarning(UserWarning):
    """Data that work otherwise than they look: texts cut, rows left out, labels that get lost."""


def is_label_task(task: Task) -> bool:
    """Say whether a task's targets are its label names, nothing more."""
    return bool(task.labels) and task.target == "{label}"


def longest_label(task: Task, tokenizer: Any) -> int:
    """Return the tokens of a task's longest label, end of sequence included."""
    return max(len(ids) for ids in _label_ids(task, tokenizer)) + 1


def check_labels(task: Task, tokenizer: Any, method: str = "rank") -> None:
    """Check that a tokenizer tells the labels of a task apart.

    Args:
        task: the task; one whose targets are no labels is fine.
        tokenizer: a KerasHub `T5Tokenizer`.
        method: how the task is answered, see `keras_spot.evaluate`. Default "rank", which needs
            no decoding.

    Raises:
        InvalidArgument: two labels of the same tokens; or, where answers are decoded, a label whose
            text does not come back from its tokens, so that no answer could ever be right.

    Warns:
        DataWarning: a label whose text does not come back, where that does no harm.
    """
    if not is_label_task(task):
        return
    seen: dict[tuple[int, ...], str] = {}
    lost = {}
    for label, ids in zip(task.labels, _label_ids(task, tokenizer)):
        other = seen.setdefault(tuple(ids), label)
        if other != label:
            received = f"{other!r} and {label!r} of {task.name}, both {ids}"
            raise invalid("labels", "must be of different tokens", received)
        text = decoded(tokenizer, ids)
        if text.strip() != label:
            lost[label] = text
    for label, text in lost.items():
        received = f"{label!r} of {task.name}, which comes back as {text!r}"
        if method != "rank":
            rule = "must come back from their tokens (or be ranked: method='rank')"
            raise invalid("labels", rule, received)
        warnings.warn(
            f"a label does not come back from its tokens: {received}. Only method='rank' can "
            "answer with it.",
            DataWarning,
            stacklevel=2,
        )


def decoded(tokenizer: Any, ids: list[int]) -> str:
    """Return the text of token ids, as decoding gives it."""
    return str(tokenizer.detokenize([ids])[0]) if ids else ""


def _label_ids(task: Task, tokenizer: Any) -> list[list[int]]:
    return [[int(i) for i in np.asarray(tokenizer(label))] for label in task.labels]
