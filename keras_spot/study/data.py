"""A task's data kept in memory, tokenised once for all the cells that use them."""

import collections
import dataclasses
import functools
import itertools
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.data import BUCKETS, load_examples
from keras_spot.data.batches import Batch, Encoded, encoded, encoder, shuffled
from keras_spot.data.dataset import Shape, make_dataset
from keras_spot.data.load import FEW
from keras_spot.data.streams import endless, examples, numbered, open_labelled
from keras_spot.study.description import Study, StudyTask
from keras_spot.tasks import metrics
from keras_spot.training import evaluate


class KeptTask:
    """The data of a source or target: token ids to train on, examples to score.

    Batches are those that `load_task(..., repeat=True)` makes of the same rows with the same seed.

    Args:
        study: says how much, and where data lie.
        entry: the source or target.
        tokenizer: a KerasHub `T5Tokenizer`.
        batch_size, input_length, target_length: B, T at most, D, the same for all tasks of a study
            that share a traced step.
    """

    def __init__(
        self,
        study: Study,
        entry: StudyTask,
        tokenizer: Any,
        batch_size: int,
        input_length: int,
        target_length: int,
    ):
        self.study, self.entry, self.tokenizer = study, entry, tokenizer
        shape = Shape.of([entry.task], tokenizer, batch_size, input_length, target_length, BUCKETS)
        self.shape = dataclasses.replace(shape, target_length=target_length)

    @functools.cached_property
    def rows(self) -> list[list[Encoded]]:
        """The token ids of every example of every row, in stored order."""
        task = self.entry.task
        read = open_labelled(task, self.entry.split, self.study.data_dir)
        encode = encoder(
            self.tokenizer, self.shape.lengths[-1], self.shape.target_length, task.sentinel
        )
        found = list(examples(task, numbered(read), training=True, labelled=True))
        pairs = zip(found, encoded(found, encode), strict=True)
        by_row = itertools.groupby(pairs, key=lambda pair: pair[0].index)
        return [[ids for _, ids in group] for _, group in by_row]

    def subset(self, size: int | None, seed: int) -> list[list[Encoded]]:
        """Return a seed's own `size` rows, drawn without replacement; None: all.

        Raises:
            ValueError: fewer rows than that.
        """
        if size is None:
            return self.rows
        if size > len(self.rows):
            rule = f"must be at most the {len(self.rows)} rows of {self.entry.name}"
            raise invalid("examples", rule, f"examples={size}")
        # Of the task's name, too: targets of one size must not have the same row numbers.
        draw = np.random.default_rng([seed, zlib.crc32(self.entry.name.encode())])
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
            return itertools.islice(
                shape.batches(endless(epoch, self.entry.task)), start_step, None
            )

        return make_dataset(generate, shape, endless=True, any_length=True)

    @functools.cached_property
    def scored(self) -> dict[str, list[Any]]:
        """The examples of every validation split."""
        task, data_dir, limit = self.entry.task, self.study.data_dir, self.study.validation_limit
        return {
            split: list(load_examples(task, split, data_dir=data_dir, limit=limit))
            for split in self.entry.scored
        }

    @functools.cached_property
    def majority(self) -> float | None:
        """The score of always giving the commonest training answer; None where it is no label."""
        task = self.entry.task
        if task.target != "{label}":
            return None
        read = open_labelled(task, self.entry.split, self.study.data_dir)
        counts = collections.Counter(example.target for example in examples(task, numbered(read)))
        answer = counts.most_common(1)[0][0]
        parts = [metrics.score(task, [answer] * len(f), f) for f in self.scored.values()]
        return metrics.mean(parts)["score"]

    def score(self, model: Any, batch_size: int) -> dict[str, float]:
        """Return the task's metrics, as `keras_spot.evaluate` has them, without the splits' own."""
        task, method = self.entry.task, self.entry.method or self.study.method
        parts = []
        for found in self.scored.values():
            answers, _ = evaluate.answer(model, task, found, method=method, batch_size=batch_size)
            parts.append(metrics.score(task, answers, found))
        return metrics.mean(parts)
