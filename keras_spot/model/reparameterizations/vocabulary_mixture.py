"""A prompt as sums of token embeddings."""

from collections.abc import Sequence
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_spot.base.errors import invalid
from keras_spot.base.types import Array, Record, Tensor
from keras_spot.model.reparameterizations.base import Reparameterization, check_whole
from keras_spot.prompts.initializers import base as tables

__all__ = ["VocabularyMixture"]


@keras.saving.register_keras_serializable("keras_spot")
class VocabularyMixture(Reparameterization):
    """Learned sums of sampled token embeddings (Sadraei Javaheri et al. 2024, arXiv 2406.05279).

    SuperPos-Prompt, section 3: every row of the prompt is a weighted sum of m token embeddings
    `E` `[m, H]`, the same for all rows. Here the sum is added to the initial prompt:

        fold = initial + W E

    `W` `[P, m]` is trained and starts at 0, so that `fold` is then the initial prompt exactly.
    `E` is drawn without replacement from the most frequent entries and never changes. An initial
    prompt of sampled embeddings makes each row one more token of weight 1.

    Args:
        tokens: m. Default 128, from which on the paper sees no gain.
        vocabulary: how many entries, the most frequent, to draw from. Default 5000.
        rate_multiplier: factor on the learning rate. Default 1.
        seed: of the draw, see `Reparameterization`. Default 0.
        rows: the entries to draw from `[V, H]`. Default: the backbone's, in `build`.

    Raises:
        InvalidArgument: a number that breaks its rule, more tokens than entries, or a prompt built
            without entries.
    """

    name_in_records = "vocabulary-mixture"
    needs_embeddings = True

    def __init__(
        self,
        tokens: int = 128,
        vocabulary: int = 5000,
        rate_multiplier: float = 1.0,
        seed: int = 0,
        rows: Array | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(rate_multiplier, seed, **kwargs)
        check_whole("tokens", tokens)
        check_whole("vocabulary", vocabulary)
        self.tokens = tokens
        self.vocabulary = vocabulary
        self.rows = None if rows is None else tables.table(rows)[:vocabulary]
        known = vocabulary if self.rows is None else len(self.rows)
        if tokens > known:
            raise invalid("tokens", f"must be at most the {known} entries", f"{tokens=}")

    def completed(self, embeddings: Array) -> "VocabularyMixture":
        if self.rows is not None:
            return self
        return type(self).from_config({**self.get_config(), "rows": embeddings})

    def build(self, shape: Sequence[int]) -> None:
        length, width = shape
        if self.rows is None or self.rows.shape[1] != width:
            rule = f"must be given for prompts of width {width} outside of `keras_spot.build`"
            raise invalid("rows", rule, None if self.rows is None else f"{self.rows.shape}")
        self.weights_of_tokens = self.add("weights_of_tokens", (length, self.tokens))
        self.sampled = self.add("sampled", (self.tokens, width), trainable=False)
        self.initial = self.add("initial", shape, trainable=False)
        self.built = True

    def start(self, values: np.ndarray, trained: bool = False, by: int = 0) -> None:
        assert self.rows is not None
        rng = np.random.default_rng(self.seed + by)
        self.sampled.assign(self.rows[rng.choice(len(self.rows), self.tokens, replace=False)])
        self.weights_of_tokens.assign(np.zeros((len(values), self.tokens), "float32"))
        self.initial.assign(values)

    def fold(self) -> Tensor:
        return self.initial.value + ops.matmul(self.weights_of_tokens.value, self.sampled.value)

    def get_config(self) -> Record:
        config = super().get_config()
        rows = None if self.rows is None else tables.encode(self.rows)
        return {**config, "tokens": self.tokens, "vocabulary": self.vocabulary, "rows": rows}

    @classmethod
    def from_config(cls, config: Record) -> Self:
        rows = config["rows"]
        return cls(**{**config, "rows": tables.decode(rows) if isinstance(rows, dict) else rows})
