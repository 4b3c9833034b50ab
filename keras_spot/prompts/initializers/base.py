"""What the initialisers of soft prompts have in common."""

import base64
import copy
from typing import Self

import keras
import numpy as np

from keras_spot.base import layouts
from keras_spot.base.errors import invalid
from keras_spot.base.types import Array, Record, Tensor, Tokenizer
from keras_spot.prompts.prompt import Prompt

__all__ = ["PromptInitializer", "decode", "encode", "piece_ids", "table"]


class PromptInitializer(keras.initializers.Initializer):
    """Base of the initialisers that know their rows: `rows(P, H)` gives `[P, H]` float32.

    Calling one with another width than its own rows raises `InvalidArgument`.

    Attributes:
        length: the prompt length that it prescribes, or None.
        sources: the prompts that it was read from.
    """

    length: int | None = None
    sources: tuple[Prompt, ...] = ()

    def rows(self, length: int, width: int) -> np.ndarray:
        """Return the initial prompt `[P, H]`, float32."""
        raise NotImplementedError(f"{type(self).__name__} must define rows(length, width)")

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> Tensor:
        length, width = shape
        rows = self.rows(int(length), int(width))
        if rows.shape != (length, width):
            raise invalid(
                "initializer", f"must give a prompt of shape {(length, width)}", f"{rows.shape}"
            )
        return keras.ops.convert_to_tensor(rows, dtype=dtype or "float32")

    def completed(self, tokenizer: Tokenizer | None, embeddings: Array) -> "PromptInitializer":
        """Return this initialiser with a backbone's tokenizer and table, if it needs them."""
        return self

    def reseeded(self, by: int) -> Self:
        """Return this initialiser with a seed `by` larger, where it has one."""
        other = copy.copy(self)
        if hasattr(other, "seed"):
            other.seed += by
        return other

    def describe(self) -> str | list[object] | dict[str, object]:
        """Return what a run's record says of this initialiser, as JSON has it."""
        return type(self).__name__


def table(embeddings: Array) -> np.ndarray:
    """Return token embeddings `[V, H]` as float32.

    Raises:
        InvalidArgument: another rank.
    """
    matrix = layouts.fetched(embeddings)
    if matrix.ndim != 2:
        raise invalid("embeddings", "must have the shape [V, H]", f"shape={matrix.shape}")
    return matrix.astype("float32")


def piece_ids(tokenizer: Tokenizer, text: str, argument: str) -> list[int]:
    """Return the ids of a text's pieces.

    Raises:
        InvalidArgument: a text without pieces.
    """
    ids = [int(i) for i in np.asarray(tokenizer(text)).reshape(-1)] if text.strip() else []
    if not ids:
        raise invalid(argument, "must have at least one piece each", f"{text!r}")
    return ids


def encode(array: np.ndarray) -> Record:
    """Return an array as a config holds it."""
    data = base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode("ascii")
    return {"float32": data, "shape": list(array.shape)}


def decode(record: Record) -> np.ndarray:
    """Return the array of a config."""
    array = np.frombuffer(base64.b64decode(record["float32"]), "<f4")
    return array.reshape(record["shape"]).copy()
