"""Tasks as `tf.data` datasets of padded batches, and as plain examples."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras_spot import tasks
from keras_spot.base.errors import invalid
from keras_spot.data import batches
from keras_spot.data.dataset import Shape, check_positive, make_dataset
from keras_spot.data.position import seek
from keras_spot.data.sources import count_rows, open_rows
from keras_spot.data.streams import Epochs, endless, epochs, examples, numbered, open_labelled
from keras_spot.tasks import Example, Mixture, Task

PathLike = str | os.PathLike[str]

FEW = 4
"""Batches' worth of rows below which a repeated split is not bucketed: a bucket of a few rows
would fill whole batches with them."""


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
    check_positive(limit=limit)
    return examples(task, numbered(open_rows(task, split, data_dir), limit))


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
    Every batch has B = `batch_size` rows, one D (see `target_length`), and T one of the bucket
    lengths, the shortest that holds its rows. Inputs and free-text targets that are too long are
    cut before their end-of-sequence token.

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
            carried over. A split of at most four batches is not bucketed: all its batches have
            the shortest length that holds its longest row. Without `repeat` the data end after
            an epoch, and every iteration over the dataset is the next epoch.
        start_step: leave out the first `start_step` batches: the rest is what an uninterrupted
            run with the same arguments would have seen. Needs `repeat`.
        drop_remainder: drop the rows that fill no batch at the end. By default they come in
            common last batches, the very last filled up with rows of sample weight 0.
        input_length: longest T; default the task's `max_input_length`.
        target_length: longest target; default the task's `max_target_length`. D is that, or the
            tokens of the longest label where all targets are labels.
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
        shuffle = repeat or split.startswith("train")
    _check_step(start_step)
    if start_step and not repeat:
        raise invalid("start_step", "must be 0 without `repeat`", f"start_step={start_step!r}")
    check_positive(limit=limit)
    shape = Shape.of([task], tokenizer, batch_size, input_length, target_length, buckets)
    rows = open_labelled(task, split, data_dir)
    epoch = epochs(task, rows, tokenizer, shape, limit, f"{seed}" if shuffle else None)
    finite = itertools.count()
    if repeat:
        shape, batches_from = _repeated(task, epoch, shape)

    def generate() -> Iterator[batches.Batch]:
        if repeat:
            return batches_from(start_step)
        return shape.batches(epoch(next(finite)), drop_remainder)

    return make_dataset(generate, shape, endless=repeat)


def _repeated(
    task: Task, epoch: Epochs, shape: Shape
) -> tuple[Shape, Callable[[int], Iterator[batches.Batch]]]:
    """Return the shape of a repeated split's batches, and what yields them from a step on."""
    few = list(itertools.islice(epoch(0), FEW * shape.batch_size + 1))
    if len(few) <= FEW * shape.batch_size:
        shape = shape.one_length(few)

    def batches_from(step: int) -> Iterator[batches.Batch]:
        first, waiting, skip = seek(epoch(0), shape.lengths, shape.batch_size, step)
        found = shape.batches(endless(epoch, task, first), waiting=waiting)
        return itertools.islice(found, skip, None)

    return shape, batches_from


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
        target_length: longest target, see `load_task`; default the largest of the tasks'.
        limit: read only the first `limit` rows of each task; default all.

    Raises:
        ValueError: an unknown mixture, and all that `load_task` raises for one of its tasks.
        FileNotFoundError: the data of one of its tasks are not prepared.
    """
    mixture = tasks.mixture(mixture)
    check_positive(limit=limit)
    _check_step(start_step)
    members = {name: tasks.get(name) for name in mixture.tasks}
    shape = Shape.of(members.values(), tokenizer, batch_size, input_length, target_length, buckets)
    rows = {name: open_labelled(task, split, data_dir) for name, task in members.items()}
    sizes = {}
    if mixture.weights is None:
        counts = {name: count_rows(task, split, data_dir) for name, task in members.items()}
        sizes = {name: min(count, limit or count) for name, count in counts.items()}
    rates = mixture.rates(sizes)
    each = {
        name: epochs(task, rows[name], tokenizer, shape, limit, f"{seed} {task.name}")
        for name, task in members.items()
    }

    def generate() -> Iterator[batches.Batch]:
        streams = [endless(each[name], task) for name, task in members.items()]
        drawn = batches.drawn(streams, [rates[name] for name in members], f"{seed}")
        return itertools.islice(shape.batches(drawn), start_step, None)

    return make_dataset(generate, shape, endless=True)


def load_bank(
    members: Sequence[str | Task],
    split: str = "train",
    tokenizer: Any = None,
    batch_size: int = 32,
    *,
    data_dir: PathLike | None = None,
    seeds: Sequence[int] | None = None,
    start_step: int = 0,
    input_length: int | None = None,
    target_length: int | None = None,
    buckets: Sequence[int] = batches.BUCKETS,
    limit: int | None = None,
) -> Any:
    """Return an endless `tf.data.Dataset` to train a bank of K prompts, each on its own task.

    A batch has `batch_size` rows of each prompt, K times as many in all, and `prompt_index` [B]
    int32 in x; the rest is as in `load_task`, from which the other arguments are known. Each
    prompt gets the very batches that `load_task(..., repeat=True)` gives its task and seed; within
    windows of 16 steps they come in an order in which batches of similar lengths meet.

    Args:
        members: K tasks by name or record; one may come several times.
        batch_size: rows of each prompt in a batch.
        seeds: K seeds of the tasks' orders. Default: 0 for all.
        start_step: leave out the first batches, as in `load_task`.
        input_length: longest T; default each task's own `max_input_length`.
        target_length: longest target, see `load_task`; default the largest of the tasks'.

    Raises:
        ValueError: no tasks, seeds of another number, and all that `load_task` raises.
        FileNotFoundError: the data of one of the tasks are not prepared.
    """
    found = [tasks.get(task) for task in members]
    if not found:
        raise invalid("members", "must be at least one task", f"{members!r}")
    seeds = [0] * len(found) if seeds is None else seeds
    if len(seeds) != len(found):
        raise invalid("seeds", f"must be {len(found)}, one for each task", f"seeds={seeds!r}")
    check_positive(limit=limit)
    _check_step(start_step)
    common = Shape.of(found, tokenizer, batch_size, input_length, target_length, buckets)
    shapes, streams = [], []
    for task, seed in zip(found, seeds):
        shape = Shape.of([task], tokenizer, batch_size, input_length, target_length, buckets)
        shape = dataclasses.replace(shape, target_length=common.target_length)
        rows = open_labelled(task, split, data_dir)
        epoch = epochs(task, rows, tokenizer, shape, limit, f"{seed}")
        shape, batches_from = _repeated(task, epoch, shape)
        shapes.append(shape)
        streams.append(batches_from)

    def generate() -> Iterator[batches.Batch]:
        windows, skip = divmod(start_step, batches.WINDOW)
        started = [batches_from(windows * batches.WINDOW) for batches_from in streams]
        return itertools.islice(batches.together(started, windows), skip, None)

    lengths = tuple(sorted({length for shape in shapes for length in shape.lengths}))
    whole = Shape(batch_size * len(found), lengths, common.target_length)
    return make_dataset(generate, whole, endless=True, num_prompts=len(found))


def _check_step(step: int) -> None:
    if type(step) is not int or step < 0:
        raise invalid("start_step", "must be a step number from 0 on", f"start_step={step!r}")
