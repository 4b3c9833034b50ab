"""Answers where nothing is scored: of a task's split, of rows that its template reads, of texts."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_spot import tasks
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.types import PathLike, Record
from keras_spot.data import load_examples
from keras_spot.training.evaluate import answer, check_method, record_of, warn_of_cut

if TYPE_CHECKING:
    from keras_spot.model.prompted_t5 import PromptedT5

__all__ = ["GIVEN", "features", "of_rows", "predict", "predict_texts", "unlike"]

GIVEN = "given"
"""The split of rows and texts that belong to no data set."""
_BLOCK = 1024  # examples sorted by length together
_ANY = tasks.Task("texts", input="{text}", target="{text}")


def predict(
    model: PromptedT5,
    task: str | tasks.Task,
    split: str = "test",
    *,
    method: str = "generate",
    data_dir: PathLike | None = None,
    batch_size: int = 32,
    limit: int | None = None,
    prompt: str | int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a record (see `Evaluation.predictions`) for every example, labelled or not.

    Arguments and errors are those of `evaluate`, except that labels are not needed.
    """
    task = tasks.get(task)
    check_method(task, method)
    examples = load_examples(task, split, data_dir=data_dir, limit=limit)
    options = {"method": method, "batch_size": batch_size, "prompt": prompt}
    return _answered(model, task, split, examples, **options)


def predict_texts(
    model: PromptedT5,
    texts: Sequence[str],
    task: tasks.Task | None = None,
    *,
    method: str = "generate",
    batch_size: int = 32,
    prompt: str | int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield `input` and `prediction` of whole texts, as the model reads them.

    Args:
        task: whose labels and lengths hold. Default: none, then `method="rank"` is refused.

    The other arguments and the errors are those of `evaluate`.
    """
    if task is None and method == "rank":
        rule = "must be 'generate' without a task, whose labels are ranked"
        raise invalid("method", rule, f"{method=}")
    examples = [tasks.Example(text, tasks.UNLABELLED, place) for place, text in enumerate(texts)]
    options = {"method": method, "batch_size": batch_size, "prompt": prompt}
    for record in _answered(model, task or _ANY, GIVEN, examples, **options):
        yield {key: record[key] for key in record if key not in ("split", "index", "target")}


def of_rows(
    task: tasks.Task, rows: Sequence[Mapping[str, Any]] | None = None, file: PathLike | None = None
) -> tasks.Task:
    """Return a task that reads other rows by the same template, as its split `GIVEN`.

    Args:
        task: the task.
        rows: features to values.
        file: a data file, instead of rows.

    Raises:
        InvalidArgument: a feature that the template does not have.
    """
    if rows is not None and task.preprocess is None:
        known = features(task)
        for name in dict.fromkeys(name for row in rows for name in row):
            if name not in (*known, task.label_feature, "idx"):
                raise unknown("field", name, known)
    return dataclasses.replace(
        task,
        tfds=None,
        files={} if file is None else {GIVEN: os.fspath(file)},
        rows={} if rows is None else {GIVEN: list(rows)},
        splits={},
        # What numbers mean stays what it is in the task's own data.
        label_indices=True if task.tfds and task.label_indices is None else task.label_indices,
    )


def features(task: tasks.Task) -> list[str]:
    """Return the features that a task's input is made of."""
    parsed = string.Formatter().parse(task.input)
    return list(dict.fromkeys(name for _, name, _, _ in parsed if name))


def unlike(task: tasks.Task, texts: Iterable[str]) -> list[str]:
    """Return those texts that do not read as the task's input does.

    >>> task = tasks.Task("mine", input="film: {text} year: {year}", target="{answer}")
    >>> unlike(task, ["film: a gem year: 1999", "a gem", "film: year: "])
    ['a gem', 'film: year: ']
    """
    pattern = _pattern(task.input)
    return [text for text in texts if not pattern.fullmatch(text)]


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = []
    for literal, name, _, _ in string.Formatter().parse(template):
        parts.append(re.escape(literal) + ("(?:.*)" if name else ""))
    return re.compile("".join(parts), re.DOTALL)


def _answered(
    model: PromptedT5,
    task: tasks.Task,
    split: str,
    examples: Iterable[tasks.Example],
    **options: Any,
) -> Iterator[Record]:
    """Yield the records of examples, block by block."""
    iterator = iter(examples)
    for number in itertools.count():
        block = list(itertools.islice(iterator, _BLOCK))
        if not block:
            return
        if not number:
            warn_of_cut(model, task, split, block)
        answers, extra = answer(model, task, block, **options)
        for example, prediction, more in zip(block, answers, extra):
            yield {"split": split, **record_of(example, prediction), **more}
