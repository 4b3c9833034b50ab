"""Initial prompts made of the backbone's token embeddings.

Made without `tokenizer` and `embeddings` they are completed with a backbone's own by
`keras_spot.build`.
"""

import copy
from collections.abc import Sequence
from typing import Self

import keras
import numpy as np

from keras_spot.base.errors import invalid, printable
from keras_spot.base.types import Array, Record, Tokenizer
from keras_spot.prompts.initializers import base

__all__ = ["ClassLabels", "FromText", "SampledVocab", "class_labels", "from_text", "sampled_vocab"]


@keras.saving.register_keras_serializable("keras_spot")
class SampledVocab(base.PromptInitializer):
    """Distinct rows drawn from the most frequent vocabulary entries.

    The initial value of the paper's source prompts (Vu et al. 2022, appendix A; Lester et al.
    2021, section 3.1): SentencePiece sorts its pieces by frequency, so the first `vocabulary`
    rows are the most frequent ones.

    Args:
        embeddings: `[V, H]` token embeddings: array, variable or tensor. Default: the backbone's,
            in `build`.
        vocabulary: how many of the first rows to draw from. Default 5000.
        seed: the draw is a function of the seed and the prompt length. Default 0.

    Raises:
        InvalidArgument: a prompt longer than the rows to draw from.
    """

    def __init__(
        self, embeddings: Array | None = None, vocabulary: int = 5000, seed: int = 0
    ) -> None:
        self.embeddings = None if embeddings is None else base.table(embeddings)[:vocabulary]
        self.vocabulary = vocabulary
        self.seed = seed

    def rows(self, length: int, width: int) -> np.ndarray:
        embeddings = _given(self.embeddings)
        known = len(embeddings)
        if length > known:
            raise invalid("length", f"must be at most the {known} sampled entries", f"{length=}")
        ids = np.random.default_rng(self.seed).choice(known, length, replace=False)
        return embeddings[ids]

    def completed(self, tokenizer: Tokenizer | None, embeddings: Array) -> "SampledVocab":
        if self.embeddings is not None:
            return self
        return SampledVocab(embeddings, self.vocabulary, self.seed)

    def describe(self) -> str | list[object] | dict[str, object]:
        return {"sampled_vocab": {"vocabulary": self.vocabulary, "seed": self.seed}}

    def get_config(self) -> Record:
        return {
            "embeddings": None if self.embeddings is None else base.encode(self.embeddings),
            "vocabulary": self.vocabulary,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Record) -> Self:
        embeddings = config["embeddings"] and base.decode(config["embeddings"])
        return cls(**{**config, "embeddings": embeddings})


@keras.saving.register_keras_serializable("keras_spot")
class ClassLabels(base.PromptInitializer):
    """One row for each class label, the rest sampled from the vocabulary.

    A label's row is the mean of the embeddings of its pieces (Lester et al. 2021, section 3.1,
    "class label" initialisation; the paper's baseline prompts).

    Args:
        labels: label texts, in order.
        tokenizer: `T5Tokenizer` of the backbone. Default: the backbone's, in `build`.
        embeddings: `[V, H]` token embeddings. Default: the backbone's, in `build`.
        vocabulary: as in `SampledVocab`, for the rows after the labels. Default 5000.
        seed: as in `SampledVocab`. Default 0.

    Raises:
        InvalidArgument: no labels, an empty label, or more labels than prompt tokens.
    """

    def __init__(
        self,
        labels: Sequence[str],
        tokenizer: Tokenizer | None = None,
        embeddings: Array | None = None,
        vocabulary: int = 5000,
        seed: int = 0,
    ) -> None:
        self.labels = list(labels)
        if not self.labels:
            raise invalid("labels", "must name at least one label", f"labels={self.labels}")
        self.rest = SampledVocab(embeddings, vocabulary, seed)
        self.vectors: np.ndarray | None = None
        _check_both(tokenizer, embeddings)
        if tokenizer is not None and embeddings is not None:
            matrix = base.table(embeddings)
            ids = [base.piece_ids(tokenizer, label, "labels") for label in self.labels]
            self.vectors = np.stack([matrix[pieces].mean(axis=0) for pieces in ids])

    def rows(self, length: int, width: int) -> np.ndarray:
        vectors = _given(self.vectors)
        if length < len(vectors):
            rule = f"must be at least the number of labels ({len(vectors)})"
            raise invalid("length", rule, f"{length=}")
        return np.concatenate([vectors, self.rest.rows(length - len(vectors), width)])

    def completed(self, tokenizer: Tokenizer | None, embeddings: Array) -> "ClassLabels":
        if self.vectors is not None:
            return self
        tokenizer = _needed(tokenizer, "class_labels")
        return ClassLabels(self.labels, tokenizer, embeddings, self.rest.vocabulary, self.rest.seed)

    def reseeded(self, by: int) -> Self:
        other = copy.copy(self)
        other.rest = self.rest.reseeded(by)
        return other

    def describe(self) -> str | list[object] | dict[str, object]:
        return {
            "class_labels": {
                "labels": self.labels,
                "vocabulary": self.rest.vocabulary,
                "seed": self.rest.seed,
            }
        }

    def get_config(self) -> Record:
        return {
            "labels": self.labels,
            "vectors": None if self.vectors is None else base.encode(self.vectors),
            "rest": self.rest.get_config(),
        }

    @classmethod
    def from_config(cls, config: Record) -> Self:
        initializer = cls(config["labels"])
        initializer.vectors = config["vectors"] and base.decode(config["vectors"])
        initializer.rest = SampledVocab.from_config(config["rest"])
        return initializer


@keras.saving.register_keras_serializable("keras_spot")
class FromText(base.PromptInitializer):
    """The embeddings of a text's pieces, in order, repeated until the prompt is full.

    Args:
        text: the text; only its first P pieces count.
        tokenizer: `T5Tokenizer` of the backbone. Default: the backbone's, in `build`.
        embeddings: `[V, H]` token embeddings. Default: the backbone's, in `build`.

    Raises:
        InvalidArgument: a text without pieces, or with half a character.
    """

    def __init__(
        self, text: str, tokenizer: Tokenizer | None = None, embeddings: Array | None = None
    ) -> None:
        if not isinstance(text, str) or not text.strip():
            raise invalid("text", "must have at least one piece each", f"{text!r}")
        if printable(text) != text:
            raise invalid("text", "must be text in UTF-8, without half a character", repr(text))
        self.text = text
        self.vectors: np.ndarray | None = None
        _check_both(tokenizer, embeddings)
        if tokenizer is not None and embeddings is not None:
            self.vectors = base.table(embeddings)[base.piece_ids(tokenizer, text, "text")]

    def rows(self, length: int, width: int) -> np.ndarray:
        vectors = _given(self.vectors)
        return np.resize(vectors, (length, vectors.shape[1]))

    def completed(self, tokenizer: Tokenizer | None, embeddings: Array) -> "FromText":
        if self.vectors is not None:
            return self
        return FromText(self.text, _needed(tokenizer, "from_text"), embeddings)

    def describe(self) -> str | list[object] | dict[str, object]:
        return {"from_text": self.text}

    def get_config(self) -> Record:
        vectors = None if self.vectors is None else base.encode(self.vectors)
        return {"text": self.text, "vectors": vectors}

    @classmethod
    def from_config(cls, config: Record) -> Self:
        initializer = cls(config["text"])
        initializer.vectors = config["vectors"] and base.decode(config["vectors"])
        return initializer


sampled_vocab = SampledVocab
class_labels = ClassLabels
from_text = FromText


def _check_both(tokenizer: Tokenizer | None, embeddings: Array | None) -> None:
    """Raise where only one of a backbone's parts is given."""
    if (tokenizer is None) != (embeddings is None):
        missing = "tokenizer" if tokenizer is None else "embeddings"
        raise invalid(missing, "must be given where the other is", f"{missing}=None")


def _given(vectors: np.ndarray | None) -> np.ndarray:
    if vectors is None:
        rule = "must be given to an initializer outside of `keras_spot.build`"
        raise invalid("embeddings", rule, "embeddings=None")
    return vectors


def _needed(tokenizer: Tokenizer | None, name: str) -> Tokenizer:
    if tokenizer is None:
        raise invalid("tokenizer", f"must be given for {name}", "tokenizer=None")
    return tokenizer
