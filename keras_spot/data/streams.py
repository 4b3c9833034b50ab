"""A task's rows as streams of examples and of token ids, epoch after epoch."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keras_spot.base.errors import invalid
from keras_spot.data.batches import Encoded, encoded, encoder, shuffled
from keras_spot.data.dataset import Shape
from keras_spot.data.own import Rows, absent_column
from keras_spot.data.readers import Row
from keras_spot.data.sources import BLOCK, open_rows
from keras_spot.tasks import UNLABELLED, Example, Task
from keras_spot.tasks.rows import ONE_FOR_ONE

__all__ = [
    "Epochs",
    "Numbered",
    "count_examples",
    "endless",
    "epochs",
    "examples",
    "numbered",
    "open_labelled",
]

Numbered = Iterator[tuple[int, Row]]
Epochs = Callable[[int], Iterator[Encoded]]


def numbered(rows: Rows, limit: int | None = None) -> Numbered:
    """Yield the first `limit` rows (None for all) with their numbers."""
    return itertools.islice(enumerate(rows()), limit)


def examples(
    task: Task,
    rows: Iterable[tuple[int, Row]],
    training: bool = False,
    labelled: bool = False,
    source: str | None = None,
) -> Iterator[Example]:
    """Yield the examples of numbered rows.

    Raises:
        InvalidArgument: a row that the task cannot read, or without a label where it must be
            `labelled` (unless the task leaves such rows out); the message names the row by its
            number.
    """
    for index, row in rows:
        try:
            made = task.examples(row, index, training, source)
        except (AttributeError, LookupError, TypeError) as error:  # of a task's own preprocess
            received = f"row {index} of {task.name}: {error!r}"
            raise invalid("row", "must be one that the task can read", received) from error
        for example in made:
            if labelled and example.target == UNLABELLED:
                if task.missing == "skip":
                    continue
                where = f"row {index} of {task.name}" + (f" in {source}" if source else "")
                raise invalid("row", "must have a label", where)
            yield example


def open_labelled(task: Task, split: str, data_dir: str | os.PathLike[str] | None) -> Rows:
    """Return the rows to train or validate on, after a look at the first.

    Raises:
        InvalidArgument: no rows, no labels, or a first row that the task cannot read.
    """
    rows = open_rows(task, split, data_dir)
    labelled = task.missing == "skip"
    first = next(examples(task, numbered(rows), labelled=labelled, source=rows.source), None)
    if first is None:
        rule = "must have rows" + labelled * " with an input and a label"
        why = absent_column(task, rows)
        raise invalid("split", rule, f"split={split!r} of {task.name}" + (why and f", {why}"))
    if first.target == UNLABELLED:
        rule = "must have labels to train or validate on"
        why = absent_column(task, rows) or "which has none"
        raise invalid("split", rule, f"split={split!r} of {task.name}, {why}")
    return rows


def count_examples(task: Task, rows: Rows, limit: int | None, training: bool) -> int:
    """Return how many labelled examples the first `limit` rows make; reads them if it must."""
    one_for_one = task.preprocess is None or task.preprocess in ONE_FOR_ONE
    if task.missing == "skip" or not one_for_one or (training and task.train_label is not None):
        numbers = numbered(rows, limit)
        made = examples(task, numbers, training, labelled=True, source=rows.source)
        return sum(1 for _ in made)
    if rows.count is None:
        return sum(1 for _ in numbered(rows, limit))
    return rows.count if limit is None else min(rows.count, limit)


def epochs(
    task: Task, rows: Rows, tokenizer: Any, shape: Shape, limit: int | None, seed: str | None
) -> Epochs:
    """Return the function from an epoch's number to its rows; in stored order without a seed."""
    encode = encoder(tokenizer, shape.lengths[-1], shape.target_length, task.sentinel)
    read = _kept(lambda: numbered(rows, limit))

    def epoch(number: int) -> Iterator[Encoded]:
        numbers = read()
        if seed is not None:
            numbers = shuffled(numbers, f"{seed} {number}")
        training = seed is not None
        return encoded(examples(task, numbers, training, True, rows.source), encode)

    return epoch


def endless(epoch: Epochs, task: Task, first: int = 0) -> Iterator[Encoded]:
    """Yield the rows of epoch number `first`, the next, and so on."""
    for number in itertools.count(first):
        row = None
        for row in epoch(number):
            yield row
        if row is None:
            raise invalid("task", "must have rows to train on", f"task={task.name!r}")


def _kept(read: Callable[[], Numbered]) -> Callable[[], Numbered]:
    """Return the same reader, which keeps a split of one block, as opening files is slow."""
    kept: list[tuple[int, Row]] = []

    def read_again() -> Numbered:
        if kept:
            yield from kept
            return
        seen: list[tuple[int, Row]] = []
        for row in read():
            if len(seen) <= BLOCK:
                seen.append(row)
            yield row
        if len(seen) <= BLOCK:
            kept[:] = seen

    return read_again
