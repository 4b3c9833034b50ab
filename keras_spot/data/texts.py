"""Texts given in memory, checked one by one, and as batches to train on."""

import itertools
import math
import numbers
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.data.batches import Batch, Encoded, bucket_lengths, encoder
from keras_spot.data.dataset import Shape, make_dataset
from keras_spot.tasks import Example
from keras_spot.tasks.values import is_missing, shown, unicode_reason

__all__ = [
    "are_texts",
    "check_weights",
    "clean",
    "clean_text",
    "encode_texts",
    "row_weights",
    "texts_dataset",
]


def clean(argument: str, values: Any) -> list[str]:
    """Return texts as a list of `str`, whatever holds them.

    Args:
        argument: what they were given as, for messages.
        values: texts or bytes in UTF-8 in a list, a tuple, a NumPy array, a pandas column, a
            tensor or a generator.

    Raises:
        InvalidArgument: no iterable, or one with something else in it (None, NaN, a number, half a
            character), by its place; a table, which would give the names of its columns.

    >>> clean("inputs", (text for text in (b"one", "two")))
    ['one', 'two']
    """
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise invalid(argument, "must be a list of texts", f"{argument}={shown(values)}")
    if hasattr(values, "columns"):
        received = f"a table with {shown(list(map(str, values.columns)))}"
        raise invalid(argument, "must be one column of texts", received)
    if hasattr(values, "numpy"):
        values = values.numpy()
    if hasattr(values, "tolist"):
        values = values.tolist()
    return [clean_text(argument, value, place) for place, value in enumerate(values)]


def clean_text(argument: str, value: Any, place: int | None = None) -> str:
    """Return one text as `str`; see `clean`."""
    where = "" if place is None else f" at place {place}"
    if is_missing(value) and not isinstance(value, (str, bytes)):
        raise invalid(argument, "must be texts, none missing", f"{value!r}{where}")
    if not isinstance(value, (str, bytes)):
        kind = type(value).__name__
        raise invalid(argument, "must be texts", f"{shown(value)} ({kind}){where}")
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
        if not text.isascii():
            text.encode("utf-8")
    except UnicodeError as error:
        raise invalid(
            argument, "must be text in UTF-8", f"{unicode_reason(error)}{where}"
        ) from None
    return text


def are_texts(values: Any) -> bool:
    """Say whether values are texts rather than token ids, by the first of them."""
    if isinstance(values, (str, bytes)):
        return True
    dtype = getattr(values, "dtype", None)
    if dtype is not None and str(dtype) not in ("object", "string", "str"):
        return getattr(dtype, "kind", "") in ("U", "S") or "string" in str(dtype)
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        return False
    if isinstance(values, Iterator):
        return False
    if hasattr(values, "tolist"):
        values = values.tolist()
    first = next(iter(values), None)
    return isinstance(first, (str, bytes)) or first is None


def encode_texts(
    tokenizer: Any,
    inputs: Sequence[str],
    targets: Sequence[str],
    weights: Sequence[float],
    lengths: tuple[int, int],
) -> list[Encoded]:
    """Return the token ids of inputs and targets, cut to the two lengths, with the weights."""
    examples = [
        Example(text, target, place, weight=weight)
        for place, (text, target, weight) in enumerate(zip(inputs, targets, weights, strict=True))
    ]
    return encoder(tokenizer, *lengths, None)(examples) if examples else []


def texts_dataset(
    rows: Sequence[Encoded],
    batch_size: int,
    lengths: tuple[int, int],
    shuffle: bool,
) -> Any:
    """Return a `tf.data.Dataset` of one epoch of batches as `load_task` makes them.

    The order of every epoch is drawn from Python's random state, which
    `keras.utils.set_random_seed` sets. The last batch may end in rows of weight 0.

    Args:
        rows: what `encode_texts` gives.
        batch_size: B.
        lengths: input and target tokens at most.
        shuffle: whether every epoch has an order of its own.
    """
    input_length, target_length = lengths
    longest = max((len(row.target_ids) for row in rows), default=1)
    shape = Shape(batch_size, bucket_lengths(None, input_length), min(longest, target_length))
    seed = random.randrange(2**32) if shuffle else 0
    epochs = itertools.count()

    def generate() -> Iterator[Batch]:
        number = next(epochs)
        order = list(rows)
        if shuffle:
            random.Random(f"{seed} {number}").shuffle(order)
        return shape.batches(order)

    return make_dataset(generate, shape, endless=False, count=-(-len(rows) // batch_size))


def check_weights(weights: np.ndarray) -> None:
    """Raise InvalidArgument for a weight that is no finite number of at least 0."""
    if weights.dtype.kind not in "fiub":
        raise invalid("sample_weight", "must be numbers", f"{weights.dtype}")
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        place = np.argwhere(bad)[0]
        received = f"{weights[tuple(place)]} at place {', '.join(map(str, place))}"
        raise invalid("sample_weight", "must be finite numbers of at least 0", received)


def row_weights(
    number: int,
    sample_weight: Any,
    class_weight: Mapping[Any, float] | None,
    targets: Sequence[str],
) -> list[float]:
    """Return the weight of each row: of `sample_weight` times of its target in `class_weight`.

    Raises:
        InvalidArgument: weights of another number, or that are no finite numbers of at least 0, or
            classes that are none of the targets.
    """
    weights = np.ones(number) if sample_weight is None else np.asarray(sample_weight)
    if weights.shape != (number,):
        rule = f"must be {number} numbers of at least 0, one for each text"
        raise invalid("sample_weight", rule, f"{weights.dtype} of shape {weights.shape}")
    check_weights(weights)
    if class_weight is None:
        return weights.astype(float).tolist()
    if not isinstance(class_weight, Mapping):
        raise invalid("class_weight", "must map target texts to weights", shown(class_weight))
    known = set(targets)
    for name, weight in class_weight.items():
        if name not in known:
            rule = "must map target texts to weights"
            raise invalid("class_weight", rule, f"{name!r}, which no target is")
        if not isinstance(weight, numbers.Real) or not 0 <= weight < math.inf:
            rule = "must be finite numbers of at least 0"
            raise invalid("class_weight", rule, f"{name!r}: {weight!r}")
    return [float(w) * float(class_weight.get(t, 1.0)) for w, t in zip(weights, targets)]
