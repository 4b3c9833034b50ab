"""Initial values of a soft prompt, as Keras initialisers."""

import base64
import copy
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_spot import prompts
from keras_spot.base.errors import invalid


class PromptInitializer(keras.initializers.Initializer):
    """Base of the initialisers that know their rows: `rows(P, H)` gives `[P, H]` float32.

    Calling one with another width than its own rows raises `ValueError`.
    """

    length: int | None = None  # the prompt length it prescribes, if it does

    def rows(self, length: int, width: int) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define rows(length, width)")

    def __call__(self, shape, dtype=None):
        length, width = shape
        rows = self.rows(int(length), int(width))
        if rows.shape != (length, width):
            raise invalid(
                "initializer", f"must give a prompt of shape {(length, width)}", f"{rows.shape}"
            )
        return keras.ops.convert_to_tensor(rows, dtype=dtype or "float32")

    def reseeded(self, by: int) -> "PromptInitializer":
        """Return this initialiser with a seed `by` larger, where it has one."""
        other = copy.copy(self)
        if hasattr(other, "seed"):
            other.seed += by
        return other


@keras.saving.register_keras_serializable("keras_spot")
class FromNumpy(PromptInitializer):
    """Start from a trained prompt: a file, a run directory or an array `[P, H]`.

    This is the transfer of SPoT (Vu et al. 2022, section 2.2). The values are read at once, and
    the initialiser's config carries them, so that a saved layer never needs the file again.

    Args:
        prompt: path of any form that `prompts.read` knows, or an array.
        step: which step of a run directory, see `prompts.read`.

    Raises:
        FileNotFoundError: nothing at that path.
        ValueError: the file or array is no prompt.

    >>> FromNumpy(np.ones((2, 3)))((2, 3)).shape
    TensorShape([2, 3])
    >>> FromNumpy(np.ones((2, 3)))((2, 4))
    Traceback (most recent call last):
    ValueError: `initializer` must give a prompt of shape (2, 4). Received: (2, 3)
    """

    def __init__(self, prompt: str | os.PathLike | np.ndarray, step: int | str | None = None):
        if isinstance(prompt, (str, os.PathLike)):
            self.values = prompts.read(prompt, step).values
        else:
            self.values = prompts.as_prompt(prompt)
        self.length = len(self.values)

    def rows(self, length, width):
        return self.values

    def get_config(self):
        return {"prompt": _encode(self.values)}

    @classmethod
    def from_config(cls, config):
        return cls(_decode(config["prompt"]))


@keras.saving.register_keras_serializable("keras_spot")
class SampledVocab(PromptInitializer):
    """Distinct rows drawn from the most frequent vocabulary entries.

    The initial value of the paper's source prompts (Vu et al. 2022, appendix A; Lester et al.
    2021, section 3.1): SentencePiece sorts its pieces by frequency, so the first `vocabulary`
    rows are the most frequent ones.

    Args:
        embeddings: `[V, H]` token embeddings: array, variable or tensor.
        vocabulary: how many of the first rows to draw from. Default 5000.
        seed: the draw is a function of the seed and the prompt length. Default 0.

    Raises:
        ValueError: a prompt longer than the rows to draw from.
    """

    def __init__(self, embeddings: Any, vocabulary: int = 5000, seed: int = 0):
        self.embeddings = _matrix(embeddings)[:vocabulary]
        self.vocabulary = vocabulary
        self.seed = seed

    def rows(self, length, width):
        known = len(self.embeddings)
        if length > known:
            raise invalid("length", f"must be at most the {known} sampled entries", f"{length=}")
        ids = np.random.default_rng(self.seed).choice(known, length, replace=False)
        return self.embeddings[ids]

    def get_config(self):
        return {
            "embeddings": _encode(self.embeddings),
            "vocabulary": self.vocabulary,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "embeddings": _decode(config["embeddings"])})


@keras.saving.register_keras_serializable("keras_spot")
class ClassLabels(PromptInitializer):
    """One row for each class label, the rest sampled from the vocabulary.

    A label's row is the mean of the embeddings of its pieces (Lester et al. 2021, section 3.1,
    "class label" initialisation; the paper's baseline prompts).

    Args:
        labels: label texts, in order.
        tokenizer: `T5Tokenizer` of the backbone.
        embeddings: `[V, H]` token embeddings.
        vocabulary: as in `SampledVocab`, for the rows after the labels. Default 5000.
        seed: as in `SampledVocab`. Default 0.

    Raises:
        ValueError: no labels, an empty label, or more labels than prompt tokens.
    """

    def __init__(
        self,
        labels: Sequence[str],
        tokenizer: Any,
        embeddings: Any,
        vocabulary: int = 5000,
        seed: int = 0,
    ):
        labels = list(labels)
        if not labels:
            raise invalid("labels", "must name at least one label", f"{labels=}")
        matrix = _matrix(embeddings)
        vectors = [matrix[_piece_ids(tokenizer, label, "labels")].mean(axis=0) for label in labels]
        self.vectors = np.stack(vectors)
        self.rest = SampledVocab(matrix, vocabulary, seed)

    def rows(self, length, width):
        if length < len(self.vectors):
            rule = f"must be at least the number of labels ({len(self.vectors)})"
            raise invalid("length", rule, f"{length=}")
        rest = self.rest.rows(length - len(self.vectors), width)
        return np.concatenate([self.vectors, rest])

    def reseeded(self, by):
        other = copy.copy(self)
        other.rest = self.rest.reseeded(by)
        return other

    def get_config(self):
        return {"vectors": _encode(self.vectors), "rest": self.rest.get_config()}

    @classmethod
    def from_config(cls, config):
        initializer = cls.__new__(cls)
        initializer.vectors = _decode(config["vectors"])
        initializer.rest = SampledVocab.from_config(config["rest"])
        return initializer


@keras.saving.register_keras_serializable("keras_spot")
class FromText(PromptInitializer):
    """The embeddings of a text's pieces, in order, repeated until the prompt is full.

    Args:
        text: the text; only its first P pieces count.
        tokenizer: `T5Tokenizer` of the backbone.
        embeddings: `[V, H]` token embeddings.

    Raises:
        ValueError: a text without pieces.
    """

    def __init__(self, text: str, tokenizer: Any, embeddings: Any):
        self.vectors = _matrix(embeddings)[_piece_ids(tokenizer, text, "text")]

    def rows(self, length, width):
        return np.resize(self.vectors, (length, self.vectors.shape[1]))

    def get_config(self):
        return {"vectors": _encode(self.vectors)}

    @classmethod
    def from_config(cls, config):
        initializer = cls.__new__(cls)
        initializer.vectors = _decode(config["vectors"])
        return initializer


from_numpy = FromNumpy
sampled_vocab = SampledVocab
class_labels = ClassLabels
from_text = FromText


def uniform(scale: float = 0.5, seed: int | None = None) -> keras.initializers.Initializer:
    """Return U(-scale, scale), the reference's plain default.

    >>> uniform(seed=1).get_config()["minval"]
    -0.5
    """
    if not scale > 0:
        raise invalid("scale", "must be positive", f"{scale=}")
    return keras.initializers.RandomUniform(-scale, scale, seed=seed)


def reseeded(initializer: Any, by: int) -> Any:
    """Return an initialiser with a seed `by` larger, a fresh one where it was given none.

    >>> reseeded(uniform(seed=1), 2).get_config()["seed"]
    3
    """
    if isinstance(initializer, PromptInitializer):
        return initializer.reseeded(by)
    config = initializer.get_config()
    if isinstance(config.get("seed"), dict):  # of a generator, which gives another draw each time
        return initializer
    if config.get("seed") is not None:
        config["seed"] += by
    return type(initializer).from_config(config)


def _matrix(embeddings: Any) -> np.ndarray:
    matrix = np.asarray(keras.ops.convert_to_numpy(embeddings))
    if matrix.ndim != 2:
        raise invalid("embeddings", "must have the shape [V, H]", f"shape={matrix.shape}")
    return matrix.astype("float32")


def _piece_ids(tokenizer: Any, text: str, argument: str) -> list[int]:
    ids = [int(i) for i in np.asarray(tokenizer(text)).reshape(-1)] if text.strip() else []
    if not ids:
        raise invalid(argument, "must have at least one piece each", f"{text!r}")
    return ids


def _encode(array: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode("ascii")
    return {"float32": data, "shape": list(array.shape)}


def _decode(record: dict[str, Any]) -> np.ndarray:
    array = np.frombuffer(base64.b64decode(record["float32"]), "<f4")
    return array.reshape(record["shape"]).copy()
