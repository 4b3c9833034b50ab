"""Tasks as `tf.data` datasets of padded batches, and as plain examples."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from keras_spot import tasks
from keras_spot.errors import invalid
from keras_spot.pipeline import batches
from keras_spot.pipeline.position import seek
from keras_spot.pipeline.sources import Row, Rows, count_rows, open_rows
from keras_spot.tasks import UNLABELLED, Example, Mixture, Task

PathLike = str | os.PathLike[str]
Epochs = Callable[[int], Iterator[batches.Encoded]]


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
    _check_step(start_step)
    if start_step and not repeat:
        raise invalid("start_step", "must be 0 without `repeat`", f"start_step={start_step!r}")
    _check_positive(limit=limit)
    shape = _shape([task], tokenizer, batch_size, input_length, target_length, buckets)
    rows = _open(task, split, data_dir)
    epoch = _epochs(task, rows, tokenizer, shape, limit, f"{seed}" if shuffle else None)
    finite = itertools.count()

    def generate() -> Iterator[batches.Batch]:
        if repeat:
            first, waiting, skip = seek(epoch(0), shape.lengths, batch_size, start_step)
            found = shape.batches(_endless(epoch, task, first), waiting=waiting)
            return itertools.islice(found, skip, None)
        return shape.batches(epoch(next(finite)), drop_remainder)

    return _dataset(generate, shape, endless=repeat)


def load_mixture(
    mixture: str | Mixture,
    split: str = "train",
    tokenizer: Any = None,
    batch_size: int = 32,
    *,
    data_dir: PathLike | None = None,
    seed: int = 0,
    start_step: int = 0,
    input_length: int | None = None,
    target_length: int | None = None,
    buckets: Sequence[int] = batches.BUCKETS,
    limit: int | None = None,
) -> Any:
    """Return an endless `tf.data.Dataset` to train on several tasks at once.

    Each row is of a task drawn anew by the mixture's rates; every task goes through its own
    epochs. The batches are as those of `load_task`, from which the other arguments are known.

    Args:
        mixture: the name of a mixture or a `keras_spot.tasks.Mixture`, which says whether
            tasks are drawn by their sizes (up to K = 2^19), by a temperature, or by given
            weights.
        start_step: leave out the first batches, as in `load_task`, but by making them again.
        input_length: longest T; default the largest of the tasks' `max_input_length`.
        target_length: D; default the largest of the tasks' `max_target_length`.
        limit: read only the first `limit` rows of each task; default all.

    Raises:
        ValueError: an unknown mixture, and all that `load_task` raises for one of its tasks.
        FileNotFoundError: the data of one of its tasks are not prepared.
    """
    mixture = tasks.mixture(mixture)
    _check_positive(limit=limit)
    _check_step(start_step)
    members = {name: tasks.get(name) for name in mixture.tasks}
    shape = _shape(members.values(), tokenizer, batch_size, input_length, target_length, buckets)
    rows = {name: _open(task, split, data_dir) for name, task in members.items()}
    sizes = {}
    if mixture.weights is None:
        counts = {name: count_rows(task, split, data_dir) for name, task in members.items()}
        sizes = {name: min(count, limit or count) for name, count in counts.items()}
    rates = mixture.rates(sizes)
    epochs = {
        name: _epochs(task, rows[name], tokenizer, shape, limit, f"{seed} {task.name}")
        for name, task in members.items()
    }

    def generate() -> Iterator[batches.Batch]:
        streams = [_endless(epochs[name], task) for name, task in members.items()]
        drawn = batches.drawn(streams, [rates[name] for name in members], f"{seed}")
        return itertools.islice(shape.batches(drawn), start_step, None)

    return _dataset(generate, shape, endless=True)


@dataclasses.dataclass(frozen=True)
class _Shape:
    """Rows B, lengths T and target length D of the batches."""

    batch_size: int
    lengths: tuple[int, ...]
    target_length: int

    def batches(
        self,
        rows: Iterable[batches.Encoded],
        drop_remainder: bool = False,
        waiting: Mapping[int, int] | None = None,
    ) -> Iterator[batches.Batch]:
        """Yield the rows as batches of this shape."""
        return batches.bucketed(
            rows, self.lengths, self.batch_size, self.target_length, drop_remainder, waiting
        )


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


def _epochs(
    task: Task, rows: Rows, tokenizer: Any, shape: _Shape, limit: int | None, seed: str | None
) -> Epochs:
    """Return the function from an epoch's number to its rows; in stored order without a seed."""
    lengths = shape.lengths[-1], shape.target_length
    encode = batches.encoder(tokenizer, *lengths, task.sentinel)

    def epoch(number: int) -> Iterator[batches.Encoded]:
        numbered = _numbered(rows, limit)
        if seed is not None:
            numbered = batches.shuffled(numbered, f"{seed} {number}")
        examples = _examples(task, numbered, training=seed is not None, labelled=True)
        return batches.encoded(examples, encode)

    return epoch


def _endless(epoch: Epochs, task: Task, first: int = 0) -> Iterator[batches.Encoded]:
    for number in itertools.count(first):
        row = None
        for row in epoch(number):
            yield row
        if row is None:
            raise invalid("task", "must have rows to train on", f"task={task.name!r}")


def _dataset(generate: Callable[[], Iterator[batches.Batch]], shape: _Shape, endless: bool) -> Any:
    import tensorflow as tf

    one_length = shape.lengths[0] if len(shape.lengths) == 1 else None
    signature = (
        tf.TensorSpec([shape.batch_size, one_length], tf.int32),
        tf.TensorSpec([shape.batch_size, shape.target_length], tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    dataset = dataset.map(_features)
    if endless:
        infinite = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        dataset = dataset.apply(infinite)
    options = tf.data.Options()
    policy = tf.data.experimental.AutoShardPolicy.DATA  # there are no files for workers to share
    options.experimental_distribute.auto_shard_policy = policy
    return dataset.with_options(options).prefetch(8)


def _features(inputs: Any, targets: Any) -> Any:
    """Return `(x, y, sample_weight)` of input ids [B, T] and target ids [B, D], 0 their padding."""
    import tensorflow as tf

    target_mask = tf.cast(targets != 0, tf.int32)
    x = {
        "encoder_token_ids": inputs,
        "encoder_padding_mask": tf.cast(inputs != 0, tf.int32),
        "decoder_token_ids": tf.pad(targets[:, :-1], [[0, 0], [1, 0]]) * target_mask,
        "decoder_padding_mask": target_mask,
    }
    return x, targets, tf.cast(target_mask, tf.float32)


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


def _open(task: Task, split: str, data_dir: PathLike | None) -> Rows:
    """Return the rows to train or validate on, after a look at the first: is it there, labelled?"""
    rows = open_rows(task, split, data_dir)
    first = next(_examples(task, _numbered(rows, None)), None)
    if first is None:
        raise invalid("split", "must have rows", f"split={split!r} of {task.name}")
    if first.target == UNLABELLED:
        rule = "must have labels to train or validate on"
        raise invalid("split", rule, f"split={split!r} of {task.name}, which has none")
    return rows


def _check_step(step: int) -> None:
    if type(step) is not int or step < 0:
        raise invalid("start_step", "must be a step number from 0 on", f"start_step={step!r}")


def _check_positive(**arguments: int | None) -> None:
    for name, value in arguments.items():
        if value is not None and (type(value) is not int or value < 1):
            raise invalid(name, "must be a positive integer", f"{name}={value!r}")
