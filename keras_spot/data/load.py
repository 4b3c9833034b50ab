"""Tasks as `tf.data` datasets of padded batches, and as plain examples."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from keras_spot import tasks
from keras_spot.base.errors import invalid
from keras_spot.base.types import Tokenizer
from keras_spot.data import batches
from keras_spot.data.dataset import Shape, make_dataset
from keras_spot.data.options import (
    LoadOptions,
    PathLike,
    check_positive,
    check_split,
    check_start,
    with_defaults,
)
from keras_spot.data.own import Rows
from keras_spot.data.position import seek
from keras_spot.data.sources import count_rows, open_rows
from keras_spot.data.streams import (
    Epochs,
    count_examples,
    endless,
    epochs,
    examples,
    numbered,
    open_labelled,
)
from keras_spot.data.survey import LOOK, look
from keras_spot.tasks import Example, Mixture, Task
from keras_spot.tasks.values import shown

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["FEW", "load_bank", "load_examples", "load_mixture", "load_task"]

FEW = 4
"""Batches' worth of rows below which a repeated split is not bucketed: a bucket of a few rows
would fill whole batches with them."""


def load_examples(
    task: str | Task,
    split: str = "validation",
    *,
    data_dir: PathLike | None = None,
    limit: int | None = None,
    labelled: bool = False,
) -> Iterator[Example]:
    """Return the examples of a split in stored order, as evaluation reads them.

    Args:
        task: a task's name or record.
        split: a split's name or a TFDS slice of it ("train[:100]").
        data_dir: the TFDS directory; default TFDS' own.
        limit: read only the first `limit` rows; default all.
        labelled: refuse a row without a label, or leave it out where the task has
            `missing="skip"`. By default its target is `"<unk>"`.

    Raises:
        InvalidArgument: an unknown task or split; while reading, a bad row, by its number.
        MissingFile: the data are not prepared; the message has the command for it.
    """
    task = tasks.get(task)
    check_split(split)
    check_positive(limit=limit)
    rows = open_rows(task, split, data_dir)
    return examples(task, numbered(rows, limit), labelled=labelled, source=rows.source)


def load_task(
    task: str | Task,
    split: str = "train",
    tokenizer: Tokenizer | None = None,
    batch_size: int = 32,
    *,
    seed: int = 0,
    shuffle: bool | None = None,
    repeat: bool = False,
    start_step: int = 0,
    drop_remainder: bool = False,
    **options: Unpack[LoadOptions],
) -> tf.data.Dataset:
    """Return a `tf.data.Dataset` of batches `(x, y, sample_weight)` to train or validate on.

    x is a dict of int32: `encoder_token_ids` and `encoder_padding_mask` [B, T],
    `decoder_token_ids` (the target behind the pad id) and `decoder_padding_mask` [B, D]; y is
    int32 [B, D] and sample_weight float32 [B, D], on target tokens, the end included, the weight
    of the row (1 unless the task has `label_weights`).
    Every batch has B = `batch_size` rows, one D, and T one of the bucket lengths, the shortest that
    holds its rows. Inputs and free-text targets that are too long are cut before their
    end-of-sequence token; a `DataWarning` counts them.

    Equal arguments give equal batches, on any machine. Only blocks of rows and the shuffle
    buffer are held in memory.

    Args:
        task: a task's name or record.
        split: a split's name or a TFDS slice of it.
        tokenizer: a KerasHub `T5Tokenizer`.
        batch_size: rows in a batch, B (the global batch under a strategy).
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
        **options: see `LoadOptions`: `data_dir`, `input_length`, `target_length`, `buckets`,
            `limit`.

    Raises:
        InvalidArgument: an unknown task or split, a split without labels, labels that the tokenizer
            does not tell apart or that are longer than `target_length`, an argument out of
            range, a bad row among the first. A bad row further on stops the iteration with an
            error that names it.
        MissingFile: the data are not prepared; the message has the command for it.
    """
    task = tasks.get(task)
    check_split(split)
    if shuffle is None:
        shuffle = repeat or split.startswith("train")
    check_start(start_step)
    if start_step and not repeat:
        raise invalid("start_step", "must be 0 without `repeat`", f"start_step={start_step!r}")
    settings = with_defaults(options)
    limit = settings["limit"]
    shape = _shape([task], tokenizer, batch_size, settings)
    rows = _open(task, split, tokenizer, shape, settings)
    epoch = epochs(task, rows, tokenizer, shape, limit, f"{seed}" if shuffle else None)
    if repeat:
        shape, batches_from = _repeated(task, epoch, shape)
        return make_dataset(lambda: batches_from(start_step), shape, endless=True)
    finite = itertools.count()
    if drop_remainder:
        filled = collections.Counter(batches.fitting(shape.lengths, row) for row in epoch(0))
        count = sum(number // batch_size for number in filled.values())
    else:
        count = -(-count_examples(task, rows, limit, shuffle) // batch_size)
    return make_dataset(
        lambda: shape.batches(epoch(next(finite)), drop_remainder),
        shape,
        endless=False,
        count=count,
    )


def _shape(
    members: Sequence[Task], tokenizer: Any, batch_size: int, settings: LoadOptions
) -> Shape:
    return Shape.of(
        members,
        tokenizer,
        batch_size,
        settings["input_length"],
        settings["target_length"],
        settings["buckets"],
        settings["data_dir"],
    )


def _open(task: Task, split: str, tokenizer: Any, shape: Shape, settings: LoadOptions) -> Rows:
    """Open a split's labelled rows, and warn once of what the lengths cut off."""
    rows = open_labelled(task, split, settings["data_dir"])
    limit = settings["limit"]
    most = LOOK if limit is None else min(limit, LOOK)
    lengths = (shape.lengths[-1], shape.target_length)
    look(task, split, rows, tokenizer, *lengths, most=most, whole=limit is None).warn()
    return rows


def _repeated(
    task: Task, epoch: Epochs, shape: Shape
) -> tuple[Shape, Callable[[int], Iterator[batches.Batch]]]:
    """Return the shape of a repeated split's batches, and what yields them from a step on."""
    few = list(itertools.islice(epoch(0), FEW * shape.batch_size + 1))
    if len(few) <= FEW * shape.batch_size:
        shape = shape.one_length(few)

    def batches_from(step: int) -> Iterator[batches.Batch]:
        first, waiting, skip = seek(epoch(0), shape.lengths, shape.batch_size, step)
        stream = shape.batches(endless(epoch, task, first), waiting=waiting)
        return itertools.islice(stream, skip, None)

    return shape, batches_from


def load_mixture(
    mixture: str | Mixture,
    split: str = "train",
    tokenizer: Tokenizer | None = None,
    batch_size: int = 32,
    *,
    seed: int = 0,
    start_step: int = 0,
    **options: Unpack[LoadOptions],
) -> tf.data.Dataset:
    """Return an endless `tf.data.Dataset` to train on several tasks at once.

    Each row is of a task drawn anew by the mixture's rates; every task goes through its own
    epochs. The batches are as those of `load_task`, from which the other arguments are known.

    Args:
        mixture: the name of a mixture or a `keras_spot.tasks.Mixture`, which says whether
            tasks are drawn by their sizes (up to K = 2^19), by a temperature, or by given
            weights.
        start_step: leave out the first batches, as in `load_task`, but by making them again.
        **options: see `LoadOptions`.

    Raises:
        InvalidArgument: an unknown mixture, and all that `load_task` raises for one of its tasks.
        MissingFile: the data of one of its tasks are not prepared.
    """
    mixture = tasks.mixture(mixture)
    check_split(split)
    check_start(start_step)
    settings = with_defaults(options)
    data_dir, limit = settings["data_dir"], settings["limit"]
    members = {name: tasks.get(name) for name in mixture.tasks}
    shape = _shape(list(members.values()), tokenizer, batch_size, settings)
    rows = {name: _open(task, split, tokenizer, shape, settings) for name, task in members.items()}
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
    tokenizer: Tokenizer | None = None,
    batch_size: int = 32,
    *,
    seeds: Sequence[int] | None = None,
    start_step: int = 0,
    **options: Unpack[LoadOptions],
) -> tf.data.Dataset:
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
        **options: see `LoadOptions`.

    Raises:
        InvalidArgument: no tasks, seeds of another number, and all that `load_task` raises.
        MissingFile: the data of one of the tasks are not prepared.
    """
    if isinstance(members, (str, Task)) or not isinstance(members, Iterable):
        raise invalid("members", "must be a list of tasks", f"members={shown(members)}")
    records = [tasks.get(task) for task in members]
    if not records:
        raise invalid("members", "must be at least one task", f"{members!r}")
    seeds = [0] * len(records) if seeds is None else seeds
    if len(seeds) != len(records):
        raise invalid("seeds", f"must be {len(records)}, one for each task", f"seeds={seeds!r}")
    check_split(split)
    check_start(start_step)
    settings = with_defaults(options)
    common = _shape(records, tokenizer, batch_size, settings)
    shapes, streams = [], []
    opened: dict[int, Rows] = {}
    for task, seed in zip(records, seeds):
        shape = _shape([task], tokenizer, batch_size, settings)
        shape = dataclasses.replace(shape, target_length=common.target_length)
        if id(task) not in opened:
            opened[id(task)] = _open(task, split, tokenizer, shape, settings)
        rows = opened[id(task)]
        epoch = epochs(task, rows, tokenizer, shape, settings["limit"], f"{seed}")
        shape, batches_from = _repeated(task, epoch, shape)
        shapes.append(shape)
        streams.append(batches_from)

    def generate() -> Iterator[batches.Batch]:
        windows, skip = divmod(start_step, batches.WINDOW)
        started = [batches_from(windows * batches.WINDOW) for batches_from in streams]
        return itertools.islice(batches.together(started, windows), skip, None)

    lengths = tuple(sorted({length for shape in shapes for length in shape.lengths}))
    whole = Shape(batch_size * len(records), lengths, common.target_length)
    return make_dataset(generate, whole, endless=True, num_prompts=len(records))
