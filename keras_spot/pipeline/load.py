"""Tasks as `tf.data` datasets of padded batches, and as plain examples."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from keras_spot import tasks
from keras_spot.errors import invalid
from keras_spot.pipeline import batches
from keras_spot.pipeline.sources import Row, Rows, open_rows
from keras_spot.tasks import UNLABELLED, Example, Task

PathLike = str | os.PathLike[str]


def load_examples(
    task: str | Task,
    split: str = "validation",
    *,
    data_dir: PathLike | None = None,
    limit: int | None = None,
) -> Iterator[Example]:
    """Return the examples of a split in stored order, as evaluation reads them.

    Args:
        task: a task's name or record.
        split: a split's name or a TFDS slice of it ("train[:100]").
        data_dir: the TFDS directory; default TFDS' own.
        limit: read only the first `limit` rows; default all.

    Raises:
        ValueError: an unknown task or split; on the way, a bad row, by its number.
        FileNotFoundError: the data are not prepared; the message has the command for it.
    """
    task = tasks.get(task)
    _check_positive(limit=limit)
    return _examples(task, _numbered(open_rows(task, split, data_dir), limit))


def load_task(
    task: str | Task,
    split: str = "train",
    tokenizer: Any = None,
    batch_size: int = 32,
    *,
    data_dir: PathLike | None = None,
    seed: int = 0,
    shuffle: bool | None = None,
    repeat: bool = False,
    start_step: int = 0,
    drop_remainder: bool = False,
    input_length: int | None = None,
    target_length: int | None = None,
    buckets: Sequence[int] = batches.BUCKETS,
    limit: int | None = None,
) -> Any:
    """Return a `tf.data.Dataset` of batches `(x, y, sample_weight)` to train or validate on.

    x is a dict of int32: `encoder_token_ids` and `encoder_padding_mask` [B, T],
    `decoder_token_ids` (the target behind the pad id) and `decoder_padding_mask` [B, D]; y is
    int32 [B, D] and sample_weight float32 [B, D], 1 on target tokens, the end included.
    Every batch has B = `batch_size` rows, D = `target_length`, and T one of the bucket lengths,
    the shortest that holds its rows. Inputs and free-text targets that are too long are cut
    before their end-of-sequence token.

    Equal arguments give equal batches, on any machine. Only blocks of rows and the shuffle
    buffer are held in memory.

    Args:
        task: a task's name or record.
        split: a split's name or a TFDS slice of it.
        tokenizer: a KerasHub `T5Tokenizer`.
        batch_size: rows in a batch, B (the global batch under a strategy).
        data_dir: the TFDS directory; default TFDS' own.
        seed: seed of the order.
        shuffle: read in random order, as training does (and leave out rows that the task does
            not train on). Default: whether the split is of "train".
        repeat: go on for ever, epoch after epoch, each in its own order, with the buckets
            carried over. Without it the data end after an epoch, and every iteration over the
            dataset is the next epoch.
        start_step: leave out the first `start_step` batches: the rest is what an uninterrupted
            run with the same arguments would have seen. Needs `repeat`.
        drop_remainder: drop the rows that fill no batch at the end. By default they come in
            common last batches, the very last filled up with rows of sample weight 0.
        input_length: longest T; default the task's `max_input_length`.
        target_length: D; default the task's `max_target_length`.
        buckets: lengths T to choose from, below `input_length`, which is always one; `()` pads
            all to `input_length`, so that every shape is static, as a TPU needs it.
        limit: read only the first `limit` rows; default all.

    Raises:
        ValueError: an unknown task or split, a split without labels, a label name longer than
            `target_length`, an argument out of range, a bad first row. A bad row further on
            stops the iteration with an error that names it.
        FileNotFoundError: the data are not prepared; the message has the command for it.
    """
    task = tasks.get(task)
    if shuffle is None:
        shuffle = split.startswith("train")
    if start_step and not repeat:
        raise invalid("start_step", "must be 0 without `repeat`", f"start_step={start_step!r}")
    _check_positive(limit=limit)
    shape = _shape([task], tokenizer, batch_size, input_length, target_length, buckets)
    rows = open_rows(task, split, data_dir)
    _check_first(task, split, rows)
    encode = batches.encoder(tokenizer, shape.lengths[-1], shape.target_length, task.sentinel)
    started = itertools.count()

    def epoch(number: int) -> Iterator[batches.Encoded]:
        numbered = _numbered(rows, limit)
        if shuffle:
            numbered = batches.shuffled(numbered, f"{seed} {number}")
        return batches.encoded(_examples(task, numbered, shuffle, labelled=True), encode)

    def encoded() -> Iterator[batches.Encoded]:
        numbers = itertools.count() if repeat else [next(started)]
        return itertools.chain.from_iterable(map(epoch, numbers))

    return _dataset(encoded, shape, start_step, drop_remainder, endless=repeat)


@dataclasses.dataclass(frozen=True)
class _Shape:
    """Rows B, lengths T and target length D of the batches."""

    batch_size: int
    lengths: tuple[int, ...]
    target_length: int


def _shape(
    members: Iterable[Task],
    tokenizer: Any,
    batch_size: int,
    input_length: int | None,
    target_length: int | None,
    buckets: Sequence[int],
) -> _Shape:
    """Check what all loaders take, and return the shape of the batches."""
    if not hasattr(tokenizer, "tokenize") or not hasattr(tokenizer, "end_token_id"):
        raise invalid("tokenizer", "must be a KerasHub T5Tokenizer", f"tokenizer={tokenizer!r}")
    members = list(members)
    if input_length is None:
        input_length = max(task.max_input_length for task in members)
    if target_length is None:
        target_length = max(task.max_target_length for task in members)
    _check_positive(batch_size=batch_size, input_length=input_length, target_length=target_length)
    for task in members:
        for label in task.labels:
            needed = len(tokenizer(label)) + 1
            if needed > target_length:
                rule = f"must be at least {needed}, to hold the label {label!r} of {task.name}"
                raise invalid("target_length", rule, f"target_length={target_length}")
    return _Shape(batch_size, batches.bucket_lengths(buckets, input_length), target_length)


def _dataset(
    encoded: Callable[[], Iterator[batches.Encoded]],
    shape: _Shape,
    start_step: int,
    drop_remainder: bool,
    endless: bool,
) -> Any:
    import tensorflow as tf

    def generate() -> Iterator[batches.Batch]:
        found = batches.bucketed(
            encoded(), shape.lengths, shape.batch_size, shape.target_length, drop_remainder
        )
        return itertools.islice(found, start_step, None)

    one_length = shape.lengths[0] if len(shape.lengths) == 1 else None
    inputs = tf.TensorSpec([shape.batch_size, one_length], tf.int32)
    targets = tf.TensorSpec([shape.batch_size, shape.target_length], tf.int32)
    x = {
        "encoder_token_ids": inputs,
        "encoder_padding_mask": inputs,
        "decoder_token_ids": targets,
        "decoder_padding_mask": targets,
    }
    weights = tf.TensorSpec(targets.shape, tf.float32)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=(x, targets, weights))
    if endless:
        infinite = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        dataset = dataset.apply(infinite)
    options = (
        tf.data.Options()
    )  # several workers share the batches out; there are no files to share
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    return dataset.with_options(options).prefetch(8)


def _numbered(rows: Rows, limit: int | None) -> Iterator[tuple[int, Row]]:
    return itertools.islice(enumerate(rows()), limit)


def _examples(
    task: Task, rows: Iterable[tuple[int, Row]], training: bool = False, labelled: bool = False
) -> Iterator[Example]:
    """Yield the examples of numbered rows; a row that fails is named by its number."""
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


def _check_first(task: Task, split: str, rows: Rows) -> None:
    """Raise at once for what the first row shows: no rows, no labels, features that lack."""
    first = next(_examples(task, _numbered(rows, None)), None)
    if first is None:
        raise invalid("split", "must have rows", f"split={split!r} of {task.name}")
    if first.target == UNLABELLED:
        rule = "must have labels to train or validate on"
        raise invalid("split", rule, f"split={split!r} of {task.name}, which has none")


def _check_positive(**arguments: int | None) -> None:
    for name, value in arguments.items():
        if value is not None and (type(value) is not int or value < 1):
            raise invalid(name, "must be a positive integer", f"{name}={value!r}")
