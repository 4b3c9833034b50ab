"""Adafactor as the prompt-tuning recipe needs it."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_spot.base.errors import invalid
from keras_spot.base.recipe import Recipe
from keras_spot.base.types import Record, Tensor

__all__ = ["Adafactor"]


@keras.saving.register_keras_serializable("keras_spot")
class Adafactor(keras.optimizers.Optimizer):
    """T5X's Adafactor with a constant learning rate and no parameter scaling.

    For a variable `x` with gradient `g` at step `t = 1, 2, ...` (Shazeer & Stern 2018, in
    the form of T5X's `adafactor.py`):

        beta = 1 - t ** -decay_rate
        v = beta * v + (1 - beta) * (g ** 2 + 1e-30)
        u = g / sqrt(v)
        u = u / max(1, rms(u) / clipping_threshold)
        x = x - learning_rate * u - weight_decay * x

    `keras.optimizers.Adafactor` is another algorithm under the same name: it caps the rate
    at `1 / sqrt(t)`, multiplies it by the scale of the variable, factors every matrix, and
    multiplies weight decay by the rate. Here weight decay is absolute, as in T5X. Two
    largest dimensions of at least `min_dim_size_to_factor` share row and column averages
    instead of a full `v`; a prompt of fewer than 128 tokens is never factored, which is
    the paper's recipe. State and arithmetic are float32 whatever the variable's dtype.

    Args:
        learning_rate: float or schedule. Default 0.3.
        learning_rates: constant rates instead, one for each variable in their order, as for the
            prompts of a bank. Default: none, `learning_rate` for all.
        rate_multipliers: factors on the rate, one for each variable in their order, as
            reparameterizations have them. Default: none.
        decay_rate: exponent of the second-moment decay, in (0, 1]. Default 0.8.
        weight_decay: absolute rate a step. Default 1e-5, the published value; 0 for none.
        clipping_threshold: bound on the root mean square of an update. Default 1.0.
        factored: whether large matrices may be factored. Default `True`.
        min_dim_size_to_factor: both dimensions must be this large. Default 128.
        name: name of the optimiser.
        **kwargs: as for every Keras optimiser.

    Raises:
        InvalidArgument: a rate out of range, or rates of another number than variables.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.3,
        decay_rate: float = 0.8,
        weight_decay: float | None = 1e-5,
        clipping_threshold: float = 1.0,
        factored: bool = True,
        min_dim_size_to_factor: int = 128,
        name: str = "adafactor",
        learning_rates: Sequence[float] | None = None,
        rate_multipliers: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        # The base class would multiply weight decay by the rate: it is told of none.
        super().__init__(learning_rate=learning_rate, weight_decay=None, name=name, **kwargs)
        if not 0 < decay_rate <= 1:
            raise invalid("decay_rate", "must be in (0, 1]", f"{decay_rate=}")
        if not 0 <= (weight_decay or 0) < 1:
            raise invalid("weight_decay", "must be in [0, 1)", f"{weight_decay=}")
        if clipping_threshold <= 0:
            raise invalid("clipping_threshold", "must be positive", f"{clipping_threshold=}")
        self.learning_rates = None if learning_rates is None else tuple(learning_rates)
        self.rate_multipliers = None if rate_multipliers is None else tuple(rate_multipliers)
        self.decay_rate = decay_rate
        self.absolute_weight_decay = weight_decay or 0.0
        self.clipping_threshold = clipping_threshold
        self.factored = factored
        self.min_dim_size_to_factor = min_dim_size_to_factor

    def _factored_axes(self, shape):
        """Return (second largest, largest) axis of a factored variable, else `None`."""
        if not self.factored or len(shape) < 2:
            return None
        order = sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))
        if shape[order[-2]] < self.min_dim_size_to_factor:
            return None
        return order[-2], order[-1]

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        for name in ("learning_rates", "rate_multipliers"):
            given = getattr(self, name)
            if given is not None and len(given) != len(variables):
                rule = f"must be {len(variables)}, one for each variable"
                raise invalid(name, rule, f"{len(given)}")
        super().build(variables)
        self._moments = []
        for variable in variables:
            axes = self._factored_axes(variable.shape)
            # One full second moment, or its averages over the largest and second largest axis.
            dropped = [None] if axes is None else [axes[1], axes[0]]
            self._moments.append(
                [
                    self.add_variable(
                        shape=[n for axis, n in enumerate(variable.shape) if axis != gone],
                        dtype="float32",
                        name="second_moment",
                    )
                    for gone in dropped
                ]
            )

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        value = ops.cast(variable, "float32")
        gradient = ops.cast(gradient, "float32")
        index = self._get_variable_index(variable)
        own = learning_rate if self.learning_rates is None else self.learning_rates[index]
        rate = ops.cast(own, "float32")
        if self.rate_multipliers is not None:
            rate = rate * self.rate_multipliers[index]
        step = ops.cast(self.iterations + 1, "float32")
        # 1 - t^-d directly: 1 - beta is then exact at the first step, where beta is 0.
        fresh = ops.power(step, -self.decay_rate)
        squared = ops.square(gradient) + 1e-30
        moments = self._moments[index]
        axes = self._factored_axes(variable.shape)
        if axes is None:
            (moment,) = moments
            second = (1.0 - fresh) * moment + fresh * squared
            self.assign(moment, second)
            update = gradient * ops.rsqrt(second)
        else:
            update = gradient * self._factored_scale(moments, axes, squared, fresh)
        rms = ops.sqrt(ops.mean(ops.square(update)))
        update = update / ops.maximum(1.0, rms / self.clipping_threshold)
        # One small subtraction: (1 - weight_decay) rounds to float32 off by a part in 10^7 a step.
        value = value - (rate * update + self.absolute_weight_decay * value)
        self.assign(variable, ops.cast(value, variable.dtype))

    def _factored_scale(self, moments, axes, squared, fresh):
        """Return `1 / sqrt(v)` from row and column averages (Shazeer & Stern 2018, section 3)."""
        row_axis, column_axis = axes
        row = (1.0 - fresh) * moments[0] + fresh * ops.mean(squared, axis=column_axis)
        column = (1.0 - fresh) * moments[1] + fresh * ops.mean(squared, axis=row_axis)
        self.assign(moments[0], row)
        self.assign(moments[1], column)
        # Without its largest axis the row average may have moved one place to the left.
        reduced = row_axis - (row_axis > column_axis)
        row = row / ops.mean(row, axis=reduced, keepdims=True)
        return ops.expand_dims(ops.rsqrt(row), column_axis) * ops.expand_dims(
            ops.rsqrt(column), row_axis
        )

    def get_config(self) -> Record:
        config = super().get_config()
        config.update(
            decay_rate=self.decay_rate,
            weight_decay=self.absolute_weight_decay,
            clipping_threshold=self.clipping_threshold,
            factored=self.factored,
            min_dim_size_to_factor=self.min_dim_size_to_factor,
            learning_rates=self.learning_rates,
            rate_multipliers=self.rate_multipliers,
        )
        return config


def from_recipe(
    recipe: Recipe,
    learning_rates: Sequence[float] | None = None,
    rate_multipliers: Sequence[float] | None = None,
) -> Adafactor:
    """Return the `Adafactor` of a `Recipe`, perhaps with rates or factors of each variable."""
    return Adafactor(
        recipe.learning_rate,
        decay_rate=recipe.decay_rate,
        weight_decay=recipe.weight_decay,
        learning_rates=learning_rates,
        rate_multipliers=rate_multipliers,
    )


def warn_of_lost_multipliers(optimizer: keras.optimizers.Optimizer | str) -> None:
    """Warn of an optimiser that does not have the `rate_multiplier` of a reparameterization."""
    if getattr(optimizer, "rate_multipliers", None) is None:
        name = optimizer if isinstance(optimizer, str) else type(optimizer).__name__
        warnings.warn(
            f"{name} has one rate for all that is trained: the reparameterization's "
            "rate_multiplier has no effect; keras_spot.optimizers.Adafactor takes "
            "rate_multipliers=model.rate_multipliers()",
            stacklevel=3,
        )
