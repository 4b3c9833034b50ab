"""Texts to rows of token ids and back, by a model's KerasHub preprocessor."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_spot.base import devices
from keras_spot.base.errors import invalid
from keras_spot.data.survey import Survey
from keras_spot.tasks.values import shown

__all__ = [
    "add_lengths",
    "as_mapping",
    "as_numbers",
    "detokenize",
    "label_length",
    "pad_rows",
    "revive_tokenizer",
    "static_rows",
    "token_rows",
    "weighted",
]

_OF_TEXTS = ("str", "bytes", "object")
"""How the names of dtypes begin that hold texts."""
WITHOUT_TARGETS = "`generate` answers texts without targets"


def label_length(input_length: int, target_length: int) -> int:
    """Return the tokens that a label is cut to, end token included.

    A task's labels are whole: they are answers, which have the room of targets, or of inputs where
    that is more.
    """
    return max(input_length, target_length)


def token_rows(
    preprocessor: Any, texts: Sequence[str], warns: bool = False, limit: int | None = None
) -> list[list[int]]:
    """Return a list of token ids for each text: cut to `limit`, end token last.

    `limit` is the input length by default. With `warns`, one `DataWarning` says how many were cut.
    """
    tokenizer = preprocessor.tokenizer
    limit = (limit or preprocessor.encoder_sequence_length) - 1
    rows = tokenizer(texts) if texts else []
    rows = rows.to_list() if hasattr(rows, "to_list") else [list(map(int, r)) for r in rows]
    if warns and any(len(row) > limit for row in rows):
        Survey(
            "texts",
            "given",
            limit + 1,
            0,
            inputs=len(rows),
            inputs_cut=sum(len(row) > limit for row in rows),
            longest_input=max(map(len, rows)) + 1,
        ).warn()
    return [[*row[:limit], tokenizer.end_token_id] for row in rows]


def detokenize(preprocessor: Any, ids: np.ndarray, mask: np.ndarray) -> list[str]:
    """Return texts of `ids` `[B, D]` where `mask` `[B, D]`, without special or unknown ids."""
    tokenizer = preprocessor.tokenizer
    known = tokenizer.vocabulary_size()
    special = (tokenizer.pad_token_id, tokenizer.end_token_id)
    keep = mask.astype(bool) & ~np.isin(ids, special) & (ids < known)
    return [
        tokenizer.detokenize([row[k].tolist()])[0] if k.any() else "" for row, k in zip(ids, keep)
    ]


def pad_rows(
    rows: Sequence[Sequence[int]], width: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return int32 `ids` and `mask` `[len(rows), width]` of token rows, by default the tightest."""
    ids = np.zeros((len(rows), width or max(map(len, rows))), "int32")
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def as_mapping(x: Any, y: Any) -> dict[str, Any]:
    """Return KerasHub's mapping of texts and their targets, for either form of them.

    Raises:
        InvalidArgument: targets that are missing, given twice, or no texts.
    """
    if isinstance(x, dict):
        if y is not None:
            raise invalid("y", "must be None beside `decoder_text`", type(y).__name__)
        for name in ("encoder_text", "decoder_text"):
            if name not in x:
                raise invalid(name, f"must be in `x` ({WITHOUT_TARGETS})", shown(list(x)))
        return x
    dtype = getattr(y, "dtype", None)
    name = getattr(dtype, "name", str(dtype))
    if y is None:
        raise invalid("y", f"must be a target text for each input ({WITHOUT_TARGETS})", "y=None")
    if dtype is not None and not name.startswith(_OF_TEXTS):
        raise invalid("y", "must be a target text for each input", f"dtype {name}")
    return {"encoder_text": x, "decoder_text": y}


def weighted(mask: Any, sample_weight: Any) -> Any:
    """Return the weights `[B, D]` of target tokens by the weights `[B]` of their rows."""
    if sample_weight is None:
        return mask
    return mask * keras.ops.reshape(keras.ops.cast(sample_weight, "float32"), (-1, 1))


def static_rows(
    rows: Sequence[Sequence[int]], batch_size: int, longest: int, at_once: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return `pad_rows` of as many rows as a batch has, in one of a few widths.

    The number of rows is rounded up to a multiple of `at_once`. Filling rows are copies of the
    last one: they end no later than the rows that count.
    """
    number = -(-batch_size // at_once) * at_once
    width = devices.static_width(max(map(len, rows)), longest)
    return pad_rows([*rows, *[rows[-1]] * (number - len(rows))], width)


def as_numbers(x: Any, y: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Return what a preprocessor gives, masks as numbers: replicas cannot add truth values."""
    x = {key: keras.ops.cast(value, "int32") for key, value in x.items()}
    return x, y, keras.ops.cast(mask, "float32")


def add_lengths(config: Any, preprocessor: Any) -> None:
    """Add the sequence lengths to a serialised preprocessor, which KerasHub leaves out."""
    if config is not None:
        for name in ("encoder_sequence_length", "decoder_sequence_length"):
            config["config"][name] = getattr(preprocessor, name)


def revive_tokenizer(preprocessor: Any) -> None:
    """Load a tokenizer's resource again where a TensorFlow function is being traced.

    Setting a seed or initialising a TPU clears the resources of live tokenizers.
    """
    if keras.config.backend() != "tensorflow" or preprocessor is None:
        return
    import tensorflow as tf

    if tf.inside_function():
        with tf.init_scope():
            preprocessor.tokenizer.set_proto(preprocessor.tokenizer.proto)
