"""From examples to padded batches of token ids: shuffle, tokenise, bucket by length, pad.

Plain Python and NumPy over blocks of examples; only the tokenizer runs TensorFlow ops.
"""

import bisect
import functools
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.data.sources import BLOCK
from keras_spot.tasks import Example

__all__ = [
    "BUCKETS",
    "EMPTY",
    "SHUFFLE_BUFFER",
    "WINDOW",
    "Batch",
    "Count",
    "Encode",
    "Encoded",
    "Ids",
    "bucket_lengths",
    "bucketed",
    "counter",
    "drawn",
    "encoded",
    "encoder",
    "fitting",
    "shuffled",
    "together",
]

BUCKETS = (
    *(12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 112, 128),
    *(144, 160, 176, 192, 224, 256, 288, 320, 352, 384, 448, 512),
)
"""Default input lengths T. Neighbours are a factor of 1.1 to 1.33 apart, which bounds padding."""

SHUFFLE_BUFFER = 16_384
"""Rows held in memory to shuffle from; TFDS' prepared files are shuffled as a whole already."""

WINDOW = 16
"""Steps within which a bank's batches are put in order."""

_VOCABULARIES = 8  # whose tokenizers are kept

Ids = np.ndarray


class Encoded(NamedTuple):
    """One example's token ids, end of sequence included, and its weight in the loss."""

    input_ids: Ids
    target_ids: Ids
    weight: float = 1.0


class Batch(NamedTuple):
    """Input ids [B, T] and target ids [B, D], int32, padded with 0; weights of the rows [B]."""

    input_ids: Ids
    target_ids: Ids
    weights: np.ndarray


Encode = Callable[[Sequence[Example]], list[Encoded]]
Count = Callable[[Sequence[str]], np.ndarray]

EMPTY = Encoded(np.zeros(0, np.int32), np.zeros(0, np.int32))

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


def drawn(streams: Sequence[Iterator[_T]], rates: Sequence[float], seed: str) -> Iterator[_T]:
    """Yield items of endless streams, each of a stream drawn by the rates, which sum to 1."""
    rng = random.Random(seed)
    bounds = list(itertools.accumulate(rates))[:-1]
    while True:
        yield next(streams[bisect.bisect_right(bounds, rng.random())])


def encoder(tokenizer: Any, input_length: int, target_length: int, sentinel: int | None) -> Encode:
    """Return the function that turns examples into ids.

    Inputs are cut to `input_length` and targets to `target_length` tokens, the end-of-sequence
    token included, which is never cut off. A task's `sentinel` number n puts the token
    `<extra_id_n>` in front of the input (number 99 - n after the vocabulary's own pieces, T5).
    """
    first = [] if sentinel is None else [tokenizer.vocabulary_size() + 99 - sentinel]
    front = np.array(first, np.int32)  # an empty list would be of floats
    settings = front, tokenizer.end_token_id, input_length, target_length
    run = _tokenizing(tokenizer.proto)

    def encode(examples: Sequence[Example]) -> list[Encoded]:
        texts = [example.input for example in examples]
        labels = list(dict.fromkeys(example.target for example in examples))  # mostly a few
        inputs, targets = (
            np.split(ids.numpy(), splits.numpy()[1:-1])
            for ids, splits in run(texts, labels, *settings)
        )
        by_label = dict(zip(labels, targets, strict=True))
        return [
            Encoded(ids, by_label[example.target], example.weight)
            for ids, example in zip(inputs, examples, strict=True)
        ]

    return encode


def counter(tokenizer: Any) -> Count:
    """Return the function that gives the number of tokens of each text, its end included."""
    run = _counting(tokenizer.proto)
    return lambda texts: run(list(texts)).numpy() if texts else np.zeros(0, np.int64)


# One traced function for a vocabulary: TensorFlow warns of those that are traced again and again.


@functools.lru_cache(maxsize=_VOCABULARIES)
def _tokenizing(proto: bytes) -> Callable[..., Any]:
    import tensorflow as tf

    strings, ids = tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int32)
    number = tf.TensorSpec([], tf.int32)

    def make(pieces: Any) -> Callable[..., Any]:
        def tokenise(texts: Any, front: Any, end: Any, length: Any) -> tuple[Any, Any]:
            ids = pieces.tokenize(texts)[:, : length - 1 - tf.size(front)]
            rows = tf.shape(texts)[0]
            ids = tf.concat([tf.tile(front[None], [rows, 1]), ids, tf.fill([rows, 1], end)], axis=1)
            return ids.values, ids.row_splits

        @tf.function(input_signature=[strings, strings, ids, *[number] * 3], autograph=False)
        def run(
            inputs: Any, targets: Any, front: Any, end: Any, input_length: Any, target_length: Any
        ) -> Any:
            return tokenise(inputs, front, end, input_length), tokenise(
                targets, tf.zeros([0], tf.int32), end, target_length
            )

        return run

    return _lasting(proto, make)


@functools.lru_cache(maxsize=_VOCABULARIES)
def _counting(proto: bytes) -> Callable[..., Any]:
    import tensorflow as tf

    def make(pieces: Any) -> Callable[..., Any]:
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def run(texts: Any) -> Any:
            return pieces.tokenize(texts).row_lengths() + 1

        return run

    return _lasting(proto, make)


def _lasting(proto: bytes, make: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    """Return what `make` makes of a SentencePiece tokenizer, made anew where that is gone.

    Setting a seed or initialising a TPU clears the resources of every live tokenizer.
    """
    import tensorflow as tf
    import tensorflow_text

    def fresh() -> Callable[..., Any]:
        return make(tensorflow_text.SentencepieceTokenizer(model=proto))

    function = fresh()

    def run(*texts: Any) -> Any:
        nonlocal function
        try:
            return function(*texts)
        except tf.errors.NotFoundError:
            function = fresh()
            return function(*texts)

    return run


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
    drop_remainder: bool = False,
    waiting: Mapping[int, int] | None = None,
) -> Iterator[Batch]:
    """Yield batches of `batch_size` rows, each padded to the shortest of `lengths` that fits.

    At the end the rows left over in the buckets are dropped, or fill common batches, the
    longest first, the last of which ends in rows of padding.

    Args:
        waiting: length to a number of empty rows that its bucket starts with (`position.seek`).
    """
    buckets = {length: [EMPTY] * (waiting or {}).get(length, 0) for length in lengths}
    for row in rows:
        length = fitting(lengths, row)
        bucket = buckets[length]
        bucket.append(row)
        if len(bucket) == batch_size:
            yield _pad(bucket, batch_size, length, target_length)
            bucket.clear()
    if drop_remainder:
        return
    left = [(length, row) for length in reversed(lengths) for row in buckets[length]]
    for first in range(0, len(left), batch_size):
        taken = left[first : first + batch_size]
        yield _pad([row for _, row in taken], batch_size, taken[0][0], target_length)


def together(streams: Sequence[Iterator[Batch]], window: int) -> Iterator[Batch]:
    """Yield batches of several endless streams as common ones, the rows of each in turn.

    A common batch is as long as its longest part. So that parts of similar lengths meet, each
    stream's next `WINDOW` batches are sorted by length; the common batches then come in an order
    drawn from the number of the window, of which `window` is the first.
    """
    for number in itertools.count(window):
        taken = [list(itertools.islice(stream, WINDOW)) for stream in streams]
        for parts in taken:
            parts.sort(key=lambda batch: batch[0].shape[1])
        order = random.Random(number).sample(range(WINDOW), WINDOW)
        for place in order:
            inputs, targets, weights = zip(*(parts[place] for parts in taken))
            length = max(ids.shape[1] for ids in inputs)
            wide = [np.pad(ids, [(0, 0), (0, length - ids.shape[1])]) for ids in inputs]
            yield Batch(np.concatenate(wide), np.concatenate(targets), np.concatenate(weights))


def fitting(lengths: Sequence[int], row: Encoded) -> int:
    """Return the shortest of `lengths` that holds the row's input."""
    return lengths[bisect.bisect_left(lengths, len(row.input_ids))]


def _pad(rows: Sequence[Encoded], batch_size: int, length: int, target_length: int) -> Batch:
    inputs, targets, weights = zip(*rows)
    return Batch(
        _fill(inputs, batch_size, length),
        _fill(targets, batch_size, target_length),
        np.array([*weights, *[0.0] * (batch_size - len(rows))], np.float32),
    )


def _fill(rows: Sequence[Ids], batch_size: int, length: int) -> np.ndarray:
    lengths = np.zeros(batch_size, np.int64)
    lengths[: len(rows)] = [len(ids) for ids in rows]
    filled = np.zeros((batch_size, length), np.int32)
    filled[np.arange(length) < lengths[:, None]] = np.concatenate(rows)
    return filled


def bucket_lengths(buckets: Sequence[int] | None, input_length: int) -> tuple[int, ...]:
    """Return the lengths T that batches may have: the buckets below the limit, and the limit.

    None are `BUCKETS`, or the few where every length is compiled, see `devices.few_lengths`.
    """
    if buckets is None:
        from keras_spot.base import devices

        few = devices.few_lengths()
        buckets = BUCKETS if few is None else few
    for length in buckets:
        if not isinstance(length, int) or length < 2:
            raise invalid("buckets", "must be lengths of at least 2", f"buckets={buckets!r}")
    return (*sorted({length for length in buckets if length < input_length}), input_length)
