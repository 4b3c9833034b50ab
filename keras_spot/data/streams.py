"""A task's rows as streams of examples and of token ids, epoch after epoch."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keras_spot.base.errors import invalid
from keras_spot.data.batches import Encoded, encoded, encoder, shuffled
from keras_spot.data.dataset import Shape
from keras_spot.data.sources import BLOCK, Row, Rows, open_rows
from keras_spot.tasks import UNLABELLED, Example, Task

Numbered = Iterator[tuple[int, Row]]
Epochs = Callable[[int], Iterator[Encoded]]


def numbered(rows: Rows, limit: int | None = None) -> Numbered:
    """Yield the first `limit` rows (None for all) with their numbers."""
    return itertools.islice(enumerate(rows()), limit)


def examples(
    task: Task, rows: Iterable[tuple[int, Row]], training: bool = False, labelled: bool = False
) -> Iterator[Example]:
    """Yield the examples of numbered rows.

    Raises:
        ValueError: a row that the task cannot read, or without a label where it must be
            `labelled`; the message names the row by its number.
    """
    for index, row in rows:
        try:
            found = task.examples(row, index, training)
        except (AttributeError, LookupError, TypeError) as error:  # of a task's own preprocess
            received = f"row {index} of {task.name}: {error!r}"
            raise invalid("row", "must be one that the task can read", received) from error
        for example in found:
            if labelled and example.target == UNLABELLED:
                raise invalid("row", "must have a label", f"row {index} of {task.name}")
            yield example


def open_labelled(task: Task, split: str, data_dir: str | os.PathLike[str] | None) -> Rows:
    """Return the rows to train or validate on, after a look at the first.

    Raises:
        ValueError: no rows, no labels, or a first row that the task cannot read.
    """
    rows = open_rows(task, split, data_dir)
    first = next(examples(task, numbered(rows)), None)
    if first is None:
        raise invalid("split", "must have rows", f"split={split!r} of {task.name}")
    if first.target == UNLABELLED:
        rule = "must have labels to train or validate on"
        raise invalid("split", rule, f"split={split!r} of {task.name}, which has none")
    return rows


def epochs(
    task: Task, rows: Rows, tokenizer: Any, shape: Shape, limit: int | None, seed: str | None
) -> Epochs:
    """Return the function from an epoch's number to its rows; in stored order without a seed."""
    encode = encoder(tokenizer, shape.lengths[-1], shape.target_length, task.sentinel)
    read = _kept(lambda: numbered(rows, limit))

    def epoch(number: int) -> Iterator[Encoded]:
        found = read()
        if seed is not None:
            found = shuffled(found, f"{seed} {number}")
        return encoded(examples(task, found, seed is not None, labelled=True), encode)

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
