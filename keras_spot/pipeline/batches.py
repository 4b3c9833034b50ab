"""From examples to padded batches of token ids: tokenise, bucket by length, shift the decoder.

Plain Python and NumPy over blocks of examples; only the tokenizer runs TensorFlow ops.
"""

import bisect
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from keras_spot.errors import invalid
from keras_spot.pipeline.sources import BLOCK
from keras_spot.tasks import Example

BUCKETS = (12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512)
"""Default input lengths T. Neighbours are a factor of 1.2 to 1.33 apart, which bounds padding."""

SHUFFLE_BUFFER = 16_384
"""Rows held in memory to shuffle from; TFDS' prepared files are shuffled as a whole already."""

Ids = np.ndarray
Encoded = tuple[Ids, Ids]  # input ids and target ids of one example, end of sequence included
Encode = Callable[[Sequence[Example]], list[Encoded]]
Batch = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]

_T = TypeVar("_T")


def shuffled(items: Iterable[_T], seed: str, buffer_size: int = SHUFFLE_BUFFER) -> Iterator[_T]:
    """Yield the items in an order drawn from `seed`, holding at most `buffer_size` of them."""
    rng = random.Random(seed)
    buffer: list[_T] = []
    for item in items:
        if len(buffer) < buffer_size:
            buffer.append(item)
            continue
        place = int(rng.random() * buffer_size)
        yield buffer[place]
        buffer[place] = item
    rng.shuffle(buffer)
    yield from buffer


def encoder(tokenizer: Any, input_length: int, target_length: int, sentinel: int | None) -> Encode:
    """Return the function that turns examples into ids.

    Inputs are cut to `input_length` and targets to `target_length` tokens, the end-of-sequence
    token included, which is never cut off. A task's `sentinel` number n puts the token
    `<extra_id_n>` in front of the input (number 99 - n after the vocabulary's own pieces, T5).
    """
    import tensorflow as tf

    end = tokenizer.end_token_id
    front = [] if sentinel is None else [tokenizer.vocabulary_size() + 99 - sentinel]

    def tokenise(texts: Any, front: list[int], length: int) -> tuple[Any, Any]:
        ids = tf.cast(tokenizer.tokenize(texts)[:, : length - 1 - len(front)], tf.int32)
        rows = tf.shape(texts)[0]
        ends = [tf.tile([[token]], [rows, 1]) for token in (*front, end)]
        ids = tf.concat([*ends[:-1], ids, ends[-1]], axis=1)
        return ids.values, ids.row_splits

    texts = tf.TensorSpec([None], tf.string)

    @tf.function(input_signature=[texts, texts], autograph=False)
    def run(inputs: Any, targets: Any) -> Any:
        return tokenise(inputs, front, input_length), tokenise(targets, [], target_length)

    def encode(examples: Sequence[Example]) -> list[Encoded]:
        found = run([e.input for e in examples], [e.target for e in examples])
        inputs, targets = (
            _split(ids.numpy(), splits.tolist())
            for ids, splits in ((ids, splits.numpy()) for ids, splits in found)
        )
        return list(zip(inputs, targets, strict=True))

    return encode


def _split(values: Ids, splits: list[int]) -> list[Ids]:
    return [values[first:last] for first, last in itertools.pairwise(splits)]


def encoded(examples: Iterable[Example], encode: Encode, block: int = BLOCK) -> Iterator[Encoded]:
    """Yield the ids of each example, tokenised block by block."""
    examples = iter(examples)
    while taken := list(itertools.islice(examples, block)):
        yield from encode(taken)


def bucketed(
    rows: Iterable[Encoded],
    lengths: Sequence[int],
    batch_size: int,
    target_length: int,
    drop_remainder: bool,
) -> Iterator[Batch]:
    """Yield batches of `batch_size` rows, each padded to the shortest of `lengths` that fits.

    At the end the rows left over in the buckets are dropped, or fill common batches, the
    longest first, the last of which ends in rows of padding with sample weight 0.
    """
    waiting: dict[int, list[Encoded]] = {length: [] for length in lengths}
    for row in rows:
        length = lengths[bisect.bisect_left(lengths, len(row[0]))]
        bucket = waiting[length]
        bucket.append(row)
        if len(bucket) == batch_size:
            yield pad(bucket, batch_size, length, target_length)
            bucket.clear()
    if drop_remainder:
        return
    left = [(length, row) for length in reversed(lengths) for row in waiting[length]]
    for first in range(0, len(left), batch_size):
        taken = left[first : first + batch_size]
        yield pad([row for _, row in taken], batch_size, taken[0][0], target_length)


def pad(rows: Sequence[Encoded], batch_size: int, length: int, target_length: int) -> Batch:
    """Return rows as one batch `(x, y, sample_weight)` of int32 and float32 arrays.

    x: `encoder_token_ids`, `encoder_padding_mask` [B, T]; `decoder_token_ids`,
    `decoder_padding_mask` [B, D], the target shifted right behind the pad id 0 (T5's start).
    y: [B, D] target ids. sample_weight: [B, D], 1 on target tokens, the end included.
    """
    inputs, input_mask = _fill([ids for ids, _ in rows], batch_size, length)
    targets, target_mask = _fill([ids for _, ids in rows], batch_size, target_length)
    shifted = np.zeros_like(targets)
    shifted[:, 1:] = targets[:, :-1]
    x = {
        "encoder_token_ids": inputs,
        "encoder_padding_mask": input_mask.astype(np.int32),
        "decoder_token_ids": shifted * target_mask,
        "decoder_padding_mask": target_mask.astype(np.int32),
    }
    return x, targets, target_mask.astype(np.float32)


def _fill(rows: Sequence[Ids], batch_size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.zeros(batch_size, np.int64)
    lengths[: len(rows)] = [len(ids) for ids in rows]
    mask = np.arange(length) < lengths[:, None]
    filled = np.zeros((batch_size, length), np.int32)
    filled[mask] = np.concatenate(rows)
    return filled, mask


def bucket_lengths(buckets: Sequence[int], input_length: int) -> tuple[int, ...]:
    """Return the lengths T that batches may have: the buckets below the limit, and the limit."""
    for length in buckets:
        if not isinstance(length, int) or length < 2:
            raise invalid("buckets", "must be lengths of at least 2", f"buckets={buckets!r}")
    return (*sorted({length for length in buckets if length < input_length}), input_length)
