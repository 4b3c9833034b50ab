"""A prompt with a shared network beside it."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_spot.base.types import Record, Tensor
from keras_spot.model.reparameterizations.base import (
    Reparameterization,
    check_flag,
    check_whole,
)

__all__ = ["EPSILON", "Residual"]

EPSILON = 1e-5
"""Of the layer norm, as in the authors' code."""


@keras.saving.register_keras_serializable("keras_spot")
class Residual(Reparameterization):
    """Residual prompt tuning (Razdaibiedina et al. 2023, arXiv 2305.03937, section 3).

    For a prompt `P` `[P, H]` and a network that all its rows share:

        fold = P + norm(relu(P A + a) B + b)
        norm(x) = gain * (x - mean(x)) / sqrt(var(x) + 1e-5) + shift

    with `A` `[H, M]`, `B` `[M, H]`. `P` and the network are trained. The network's part starts at
    0: the norm's gain and shift do, or without a norm `B` and `b`; so `fold` is then the
    initial prompt exactly, whichever that is. `A` and `B` are drawn evenly between
    -1/sqrt(n) and 1/sqrt(n) of their n inputs.

    Args:
        bottleneck: M. Default 800, the paper's for its larger models; 400 for small ones.
        layer_norm: whether the network ends in a layer norm. Default True.
        rate_multiplier: factor on the learning rate of the network; the prompt has the rate itself.
            Default 1: the authors' code has one rate, 0.3, for both.
        seed: of `A` and `B`, see `Reparameterization`. Default 0.

    Raises:
        InvalidArgument: a value that breaks its rule.

    >>> layer = Residual(bottleneck=4)
    >>> layer.build((2, 3))
    >>> layer.start(np.ones((2, 3), "float32"))
    >>> keras.ops.convert_to_numpy(layer.fold()).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    name_in_records = "residual"

    def __init__(
        self,
        bottleneck: int = 800,
        layer_norm: bool = True,
        rate_multiplier: float = 1.0,
        seed: int = 0,
        **kwargs: object,
    ) -> None:
        super().__init__(rate_multiplier, seed, **kwargs)
        check_whole("bottleneck", bottleneck)
        self.bottleneck = bottleneck
        self.layer_norm = check_flag("layer_norm", layer_norm)

    def build(self, shape: Sequence[int]) -> None:
        _, width = shape
        self.prompt = self.add("prompt", shape)
        self.down = self.add("down", (width, self.bottleneck))
        self.down_bias = self.add("down_bias", (self.bottleneck,))
        self.up = self.add("up", (self.bottleneck, width))
        self.up_bias = self.add("up_bias", (width,))
        if self.layer_norm:
            self.gain = self.add("gain", (width,))
            self.shift = self.add("shift", (width,))
        self.built = True

    def start(self, values: np.ndarray, trained: bool = False, by: int = 0) -> None:
        rng = np.random.default_rng(self.seed + by)
        self.prompt.assign(values)
        for weights, inputs in (
            ((self.down, self.down_bias), values.shape[1]),
            ((self.up, self.up_bias), self.bottleneck),
        ):
            for weight in weights:
                drawn = rng.uniform(-(inputs**-0.5), inputs**-0.5, tuple(weight.shape))
                weight.assign(drawn.astype("float32"))
        ends = (self.gain, self.shift) if self.layer_norm else (self.up, self.up_bias)
        for end in ends:
            end.assign(np.zeros(tuple(end.shape), "float32"))

    def fold(self) -> Tensor:
        hidden = ops.relu(ops.matmul(self.prompt.value, self.down.value) + self.down_bias.value)
        x = ops.matmul(hidden, self.up.value) + self.up_bias.value
        if self.layer_norm:
            centred = x - ops.mean(x, axis=-1, keepdims=True)
            variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
            x = centred * ops.rsqrt(variance + EPSILON) * self.gain.value + self.shift.value
        return self.prompt.value + x

    def multipliers(self) -> list[tuple[keras.Variable, float]]:
        return [
            (variable, 1.0 if variable is self.prompt else multiplier)
            for variable, multiplier in super().multipliers()
        ]

    def get_config(self) -> Record:
        config = super().get_config()
        return {**config, "bottleneck": self.bottleneck, "layer_norm": self.layer_norm}
