"""The shape of batches, and the `tf.data.Dataset` that serves them."""

import atexit
import dataclasses
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from keras_spot.base.errors import in_pipeline, invalid
from keras_spot.data.batches import Batch, Encoded, bucket_lengths, bucketed, fitting
from keras_spot.data.labels import check_labels, is_label_task, longest_label
from keras_spot.data.options import check_positive
from keras_spot.data.survey import target_limit
from keras_spot.tasks import Task

__all__ = ["Shape", "make_dataset"]


@dataclasses.dataclass(frozen=True)
class Shape:
    """Rows B, lengths T and target length D of the batches."""

    batch_size: int
    lengths: tuple[int, ...]
    target_length: int

    @classmethod
    def of(
        cls,
        members: Iterable[Task],
        tokenizer: Any,
        batch_size: int,
        input_length: int | None,
        target_length: int | None,
        buckets: Sequence[int] | None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> "Shape":
        """Check what all loaders take, and return the shape of their batches.

        Raises:
            InvalidArgument: no tokenizer, a number that is not positive, labels that the tokenizer
                does not tell apart, or one that is longer than `target_length`.
        """
        if not hasattr(tokenizer, "tokenize") or not hasattr(tokenizer, "end_token_id"):
            raise invalid("tokenizer", "must be a KerasHub T5Tokenizer", f"tokenizer={tokenizer!r}")
        members = list(members)
        if input_length is None:
            input_length = max(task.max_input_length for task in members)
        if target_length is None:
            target_length = max(target_limit(task, tokenizer, data_dir) for task in members)
        check_positive(
            batch_size=batch_size, input_length=input_length, target_length=target_length
        )
        longest = 1
        for task in filter(is_label_task, members):
            check_labels(task, tokenizer)
            needed = longest_label(task, tokenizer)
            if needed > target_length:
                rule = f"must be at least {needed}, to hold the labels of {task.name}"
                raise invalid("target_length", rule, f"target_length={target_length}")
            longest = max(longest, needed)
        if all(map(is_label_task, members)):
            target_length = longest  # no position that no target has
        return cls(batch_size, bucket_lengths(buckets, input_length), target_length)

    def one_length(self, rows: Sequence[Encoded]) -> "Shape":
        """Return this shape with the one length T that holds all of the rows."""
        longest = max((fitting(self.lengths, row) for row in rows), default=self.lengths[-1])
        return dataclasses.replace(self, lengths=(longest,))

    def batches(
        self,
        rows: Iterable[Encoded],
        drop_remainder: bool = False,
        waiting: Mapping[int, int] | None = None,
    ) -> Iterator[Batch]:
        """Yield the rows as batches of this shape (`bucketed`)."""
        return bucketed(
            rows, self.lengths, self.batch_size, self.target_length, drop_remainder, waiting
        )


def make_dataset(
    generate: Callable[[], Iterator[Batch]],
    shape: Shape,
    endless: bool,
    any_length: bool = False,
    num_prompts: int | None = None,
    count: int | None = None,
) -> Any:
    """Return the `tf.data.Dataset` of the batches that `generate` starts to make.

    Unless it is endless it must be told their number: Keras runs into the end of a data set
    without one and, where the batches have a static shape, counts a step that was none.

    With `any_length` its type leaves T open even where all batches have one, so that a function
    traced for one such dataset serves the next. With `num_prompts` K the batches are a bank's, with
    as many rows of each prompt, in their order.
    """
    import tensorflow as tf

    one_length = shape.lengths[0] if len(shape.lengths) == 1 and not any_length else None
    signature = (
        tf.TensorSpec([shape.batch_size, one_length], tf.int32),
        tf.TensorSpec([shape.batch_size, shape.target_length], tf.int32),
        tf.TensorSpec([shape.batch_size], tf.float32),
    )
    dataset = tf.data.Dataset.from_generator(
        lambda: _Stoppable(generate()), output_signature=signature
    )
    dataset = dataset.map(_features)
    if num_prompts is not None:
        index = tf.repeat(tf.range(num_prompts), shape.batch_size // num_prompts)
        dataset = dataset.map(lambda x, y, weight: ({**x, "prompt_index": index}, y, weight))
    cardinality = tf.data.INFINITE_CARDINALITY if endless else count
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(cardinality))
    options = tf.data.Options()
    policy = tf.data.experimental.AutoShardPolicy.DATA  # there are no files for workers to share
    options.experimental_distribute.auto_shard_policy = policy
    options.autotune.enabled = False  # its threads cost more than the one small map they speed up
    return dataset.with_options(options).prefetch(8)


def _features(inputs: Any, targets: Any, weights: Any) -> Any:
    """Return `(x, y, sample_weight)` of ids [B, T] and [B, D], padded with 0, and weights [B]."""
    import tensorflow as tf

    target_mask = tf.cast(targets != 0, tf.int32)
    x = {
        "encoder_token_ids": inputs,
        "encoder_padding_mask": tf.cast(inputs != 0, tf.int32),
        "decoder_token_ids": tf.pad(targets[:, :-1], [[0, 0], [1, 0]]) * target_mask,
        "decoder_padding_mask": target_mask,
    }
    return x, targets, tf.cast(target_mask, tf.float32) * weights[:, None]


class _Stoppable:
    """An iterator that ends when the process does.

    A prefetching thread that still runs Python while the interpreter shuts down never comes
    back, and TensorFlow waits for it for ever.
    """

    _running: ClassVar["weakref.WeakSet[_Stoppable]"] = weakref.WeakSet()

    def __init__(self, items: Iterator[Batch]) -> None:
        self._items = items
        self._step = threading.Lock()
        self._stopped = False
        self._running.add(self)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        with self._step, in_pipeline():
            if self._stopped:
                raise StopIteration
            return next(self._items)

    def stop(self) -> None:
        """Wait for the step that runs, and let none follow."""
        with self._step:
            self._stopped = True

    @classmethod
    def stop_all(cls) -> None:
        running = list(cls._running)
        for items in running:
            items.stop()
        if running:
            time.sleep(0.1)  # until the last step has left Python


atexit.register(_Stoppable.stop_all)
