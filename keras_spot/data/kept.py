"""A split kept in memory, tokenised once for all the runs that train on it."""

import dataclasses
import functools
import itertools
import os
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.data.batches import Batch, Encoded, encoded, encoder, shuffled
from keras_spot.data.dataset import Shape, make_dataset
from keras_spot.data.load import FEW
from keras_spot.data.streams import endless, examples, numbered, open_labelled
from keras_spot.data.survey import LOOK, look
from keras_spot.tasks import Task

__all__ = ["KeptSplit", "Rows"]

Rows = list[list[Encoded]]  # the examples of each row: mostly one


class KeptSplit:
    """The token ids of a split, and batches of all its rows or of a few.

    The batches are those that `load_task(..., repeat=True)` makes of the same rows with the same
    seed and lengths, but of one type whatever the rows are, so that a training step traced for some
    serves all.

    Args:
        task: the task.
        split: a split's name or a TFDS slice of it.
        tokenizer: a KerasHub `T5Tokenizer`.
        batch_size: B.
        input_length: T at most.
        target_length: D, the same for whatever shares a traced step.
        data_dir: the TFDS directory; default TFDS' own.
    """

    def __init__(
        self,
        task: Task,
        split: str,
        tokenizer: Any,
        batch_size: int,
        input_length: int,
        target_length: int,
        data_dir: str | os.PathLike[str] | None = None,
    ):
        self.task, self.split, self.tokenizer, self.data_dir = task, split, tokenizer, data_dir
        lengths = (input_length, target_length, None)
        shape = Shape.of([task], tokenizer, batch_size, *lengths, data_dir)
        self.shape = dataclasses.replace(shape, target_length=target_length)

    @functools.cached_property
    def rows(self) -> Rows:
        """The token ids of every example of every row, in stored order."""
        task = self.task
        read = open_labelled(task, self.split, self.data_dir)
        lengths = (self.shape.lengths[-1], self.shape.target_length)
        look(task, self.split, read, self.tokenizer, *lengths, most=LOOK, whole=True).warn()
        encode = encoder(self.tokenizer, *lengths, task.sentinel)
        numbers = numbered(read)
        texts = list(examples(task, numbers, training=True, labelled=True, source=read.source))
        pairs = zip(texts, encoded(texts, encode), strict=True)
        by_row = itertools.groupby(pairs, key=lambda pair: pair[0].index)
        return [[ids for _, ids in group] for _, group in by_row]

    def subset(self, size: int | None, seed: int) -> Rows:
        """Return a seed's own `size` rows, drawn without replacement; None: all.

        Raises:
            InvalidArgument: fewer rows than that.
        """
        if size is None:
            return self.rows
        if size > len(self.rows):
            rule = f"must be at most the {len(self.rows)} rows of {self.task.name}"
            raise invalid("examples", rule, f"examples={size}")
        # Of the task's name, too: tasks of one size must not have the same row numbers.
        draw = np.random.default_rng([seed, zlib.crc32(self.task.name.encode())])
        return [self.rows[i] for i in sorted(draw.choice(len(self.rows), size, replace=False))]

    def batches(self, size: int | None, seed: int, start_step: int = 0) -> Any:
        """Return the endless `tf.data.Dataset` of a run, from batch number `start_step` on."""
        rows = self.subset(size, seed)
        few = FEW * self.shape.batch_size
        flat = list(itertools.islice(itertools.chain.from_iterable(rows), few + 1))
        shape = self.shape.one_length(flat) if len(flat) <= few else self.shape

        def epoch(number: int) -> Iterator[Encoded]:
            return itertools.chain.from_iterable(shuffled(rows, f"{seed} {number}"))

        def generate() -> Iterator[Batch]:
            stream = shape.batches(endless(epoch, self.task))
            return itertools.islice(stream, start_step, None)

        return make_dataset(generate, shape, endless=True, any_length=True)
