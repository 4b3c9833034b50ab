"""A prompt as a product of two thin matrices."""

import warnings
from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
from keras import ops

from keras_spot.base.errors import invalid
from keras_spot.base.types import Record, Tensor
from keras_spot.model.reparameterizations.base import (
    Reparameterization,
    check_flag,
    check_whole,
)

__all__ = ["SAID", "LowRank"]

SAID = 1e-3
"""Share of a trained prompt's norm from which on a start that misses it is warned of."""


@keras.saving.register_keras_serializable("keras_spot")
class LowRank(Reparameterization):
    """A prompt `[P, H]` from a product of rank r.

    With `frozen="random"` (Wu et al. 2025, "ULPT", arXiv 2502.04501, section 3):

        fold = offset + (Z R) * scale + shift

    `Z` `[P, r]`, `scale` and `shift` `[H]` are trained, P r + 2 H numbers; `R` `[r, H]` is drawn
    from N(0, 1/r) and never changes. With `frozen=None` `R` is trained, too, and there is neither
    scale nor shift.

    With an offset, the initial prompt stays as a summand that is not trained and `Z` starts at 0:
    `fold` is then the initial prompt exactly, as SPoT's transfer needs it. Without one, as in
    the paper, the product itself is fitted to the initial prompt by least squares (by the largest
    singular values where `R` is trained); `start_error` is what that misses.

    Args:
        rank: r. Default 64, the paper's best on T5-base.
        frozen: `"random"` (default) or None.
        offset: whether the initial prompt stays as a summand. Default True.
        rate_multiplier: factor on the learning rate. Default 1.
        seed: of `R`, see `Reparameterization`. Default 0.

    Attributes:
        start_error: share of the initial prompt's norm that the start missed, 0 with an offset; a
            trained prompt that is missed by more than 0.1% is warned of.

    Raises:
        InvalidArgument: a value that breaks its rule, or another `frozen`.
    """

    name_in_records = "low-rank"

    def __init__(
        self,
        rank: int = 64,
        frozen: Literal["random"] | None = "random",
        offset: bool = True,
        rate_multiplier: float = 1.0,
        seed: int = 0,
        **kwargs: object,
    ) -> None:
        super().__init__(rate_multiplier, seed, **kwargs)
        check_whole("rank", rank)
        if frozen not in ("random", None):
            raise invalid("frozen", "must be 'random' or None", f"{frozen=}")
        self.rank = rank
        self.frozen = frozen
        self.offset = check_flag("offset", offset)
        self.start_error = 0.0

    def build(self, shape: Sequence[int]) -> None:
        length, width = shape
        is_frozen = self.frozen is not None
        self.left = self.add("left", (length, self.rank))
        self.right = self.add("right", (self.rank, width), trainable=not is_frozen)
        if is_frozen:
            self.scale = self.add("scale", (width,), 1.0)
            self.shift = self.add("shift", (width,))
        if self.offset:
            self.initial = self.add("initial", shape, trainable=False)
        self.built = True

    def start(self, values: np.ndarray, trained: bool = False, by: int = 0) -> None:
        rng = np.random.default_rng(self.seed + by)
        right = rng.normal(0.0, self.rank**-0.5, tuple(self.right.shape))
        left, shift = np.zeros(tuple(self.left.shape)), np.zeros(values.shape[1])
        if self.offset:
            self.initial.assign(values)
        elif self.frozen is not None:
            shift = values.mean(axis=0, dtype="float64")
            left = (values - shift) @ np.linalg.pinv(right)
        else:
            left, right = _halves(values, self.rank, right)
        self.left.assign(left.astype("float32"))
        self.right.assign(right.astype("float32"))
        if self.frozen is not None:
            self.scale.assign(np.ones(values.shape[1], "float32"))
            self.shift.assign(shift.astype("float32"))
        self.start_error = 0.0
        if not self.offset:
            missed = float(np.linalg.norm(values - (left @ right + shift)))
            self.start_error = missed / max(float(np.linalg.norm(values)), 1e-30)
        if trained and self.start_error > SAID:
            warnings.warn(
                f"a prompt of rank {self.rank} misses {self.start_error:.1%} of the trained prompt "
                "it starts from; offset=True keeps all of it",
                stacklevel=2,
            )

    def fold(self) -> Tensor:
        x = ops.matmul(self.left.value, self.right.value)
        if self.frozen is not None:
            x = x * self.scale.value + self.shift.value
        return self.initial.value + x if self.offset else x

    def get_config(self) -> Record:
        config = super().get_config()
        return {**config, "rank": self.rank, "frozen": self.frozen, "offset": self.offset}


def _halves(values: np.ndarray, rank: int, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the `[P, r]` and `[r, H]` whose product is nearest to `[P, H]`.

    Where the prompt has fewer singular values than r, the rest of the left one is 0 and of the
    right one as it was drawn.
    """
    u, s, v = np.linalg.svd(values.astype("float64"), full_matrices=False)
    kept = min(rank, len(s))
    left, right = np.zeros((len(values), rank)), drawn.copy()
    left[:, :kept] = u[:, :kept] * np.sqrt(s[:kept])
    right[:kept] = np.sqrt(s[:kept])[:, None] * v[:kept]
    return left, right
