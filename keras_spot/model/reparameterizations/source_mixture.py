"""A prompt as a learned mixture of trained ones."""

import hashlib
from collections.abc import Sequence
from typing import Literal, Self

import keras
import numpy as np
from keras import ops

from keras_spot.base.errors import invalid
from keras_spot.base.types import Array, Record, Tensor
from keras_spot.model.reparameterizations.base import Reparameterization, check_flag
from keras_spot.prompts.initializers import base as encoding

__all__ = ["SourceMixture"]


@keras.saving.register_keras_serializable("keras_spot")
class SourceMixture(Reparameterization):
    """Learned weights of k trained prompts `S_i` `[P, H]`, which themselves do not change.

        fold = initial + sum_i (w_i - 1/k) S_i
        w = softmax(z), or w = z

    Started from the sources' plain average it is their weighted sum, k trained numbers in place of
    the P H of a prompt: what the fixed similarities of Vu et al. 2022, section 3.3, guess is
    learned, as Asai et al. 2022 (ATTEMPT, arXiv 2205.11961) do for every input anew. All `w_i`
    start at 1/k, so that `fold` is then the initial prompt exactly.

    Args:
        sources: k prompts of one shape, `[k, P, H]`.
        weights: `"softmax"` (default): positive and of sum 1; `"free"`: any.
        joint: whether the initial prompt is trained, too. Default False.
        rate_multiplier: factor on the learning rate of the weights. Default 1.
        seed: has no effect; there for the common form.

    Raises:
        InvalidArgument: no source, another kind of weights, a `joint` that is no boolean, or a
            prompt of another shape.
    """

    name_in_records = "source-mixture"

    def __init__(
        self,
        sources: Array | Sequence[np.ndarray],
        weights: Literal["softmax", "free"] = "softmax",
        joint: bool = False,
        rate_multiplier: float = 1.0,
        seed: int = 0,
        **kwargs: object,
    ) -> None:
        super().__init__(rate_multiplier, seed, **kwargs)
        self.sources = np.asarray(sources, "float32")
        if self.sources.ndim != 3 or not self.sources.size:
            raise invalid("sources", "must have the shape [k, P, H]", f"{self.sources.shape}")
        if weights not in ("softmax", "free"):
            raise invalid("weights", "must be 'softmax' or 'free'", f"{weights=}")
        self.kind = weights
        self.joint = check_flag("joint", joint)

    def build(self, shape: Sequence[int]) -> None:
        if tuple(shape) != self.sources.shape[1:]:
            raise invalid("sources", f"must be prompts of shape {shape}", f"{self.sources.shape}")
        count = len(self.sources)
        self.scores = self.add("scores", (count,), 0.0 if self.kind == "softmax" else 1 / count)
        self.initial = self.add("initial", shape, trainable=self.joint)
        self.fixed = self.add("sources", self.sources.shape, trainable=False)
        self.fixed.assign(self.sources)
        self.built = True

    def start(self, values: np.ndarray, trained: bool = False, by: int = 0) -> None:
        count = len(self.sources)
        first = 0.0 if self.kind == "softmax" else 1 / count
        self.scores.assign(np.full(count, first, "float32"))
        self.initial.assign(values)

    def shares(self) -> np.ndarray:
        """Return the weights as they are now, float32 `[k]`."""
        return np.asarray(ops.convert_to_numpy(self._shares(self.scores.value)))

    def _shares(self, scores: Tensor) -> Tensor:
        if self.kind == "free":
            return scores
        return ops.exp(scores - ops.logsumexp(scores))  # Keras' softmax warns of a single one

    def fold(self) -> Tensor:
        scores = self.scores.value
        first = ops.full_like(scores, 0.0 if self.kind == "softmax" else 1 / len(self.sources))
        moved = self._shares(scores) - self._shares(first)
        return self.initial.value + ops.tensordot(moved, self.fixed.value, axes=1)

    def multipliers(self) -> list[tuple[keras.Variable, float]]:
        return [
            (variable, 1.0 if variable is self.initial else multiplier)
            for variable, multiplier in super().multipliers()
        ]

    def describe(self) -> dict[str, dict[str, object]]:
        digest = hashlib.sha256(self.sources.tobytes()).hexdigest()[:16]
        settings = super().describe()[self.name_in_records]
        return {self.name_in_records: {**settings, "sources": f"array {digest}"}}

    def get_config(self) -> Record:
        config = super().get_config()
        sources = encoding.encode(self.sources)
        return {**config, "sources": sources, "weights": self.kind, "joint": self.joint}

    @classmethod
    def from_config(cls, config: Record) -> Self:
        sources = config["sources"]
        decoded = encoding.decode(sources) if isinstance(sources, dict) else sources
        return cls(**{**config, "sources": decoded})
