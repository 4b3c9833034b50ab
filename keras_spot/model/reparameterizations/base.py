"""What the reparameterizations of a soft prompt have in common."""

from collections.abc import Sequence
from typing import Self

import keras
import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.base.types import Array, Record, Tensor

__all__ = ["Reparameterization", "check_flag", "check_whole"]


class Reparameterization(keras.layers.Layer):
    """What is trained in a prompt's place; `fold` gives the prompt `[P, H]`.

    A subclass adds its variables in `build` (with `add`), gives them values in `start` and
    overrides `fold` and `get_config`. Variables and arithmetic are float32 whatever the backbone
    computes in.

    Args:
        rate_multiplier: factor on the learning rate of what is trained. Default 1.
        seed: of what is drawn; a run adds its own seed, the k-th prompt of a bank k. Default 0.

    Attributes:
        name_in_records: what command lines and records call it.
        needs_embeddings: whether it must be `completed` with a backbone's token embeddings.

    Raises:
        InvalidArgument: a number that breaks its rule.
    """

    name_in_records = ""
    needs_embeddings = False

    def __init__(self, rate_multiplier: float = 1.0, seed: int = 0, **kwargs: object) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not isinstance(rate_multiplier, (int, float)) or not 0 < rate_multiplier < float("inf"):
            raise invalid("rate_multiplier", "must be a positive number", f"{rate_multiplier=}")
        check_whole("seed", seed, 0)
        self.rate_multiplier = float(rate_multiplier)
        self.seed = seed

    # === What a subclass defines ===

    def build(self, shape: Sequence[int]) -> None:
        """Add the variables of a prompt of the shape `[P, H]`."""
        raise NotImplementedError(f"{type(self).__name__} must define build(shape)")

    def start(self, values: np.ndarray, trained: bool = False, by: int = 0) -> None:
        """Set the variables so that `fold` gives a prompt, or what comes nearest to it.

        Args:
            values: the initial prompt, `[P, H]` float32.
            trained: whether it is a trained prompt (SPoT's transfer).
            by: what a run adds to the seed. Default 0.
        """
        raise NotImplementedError(f"{type(self).__name__} must define start(values)")

    def fold(self) -> Tensor:
        """Return the prompt `[P, H]`, float32."""
        raise NotImplementedError(f"{type(self).__name__} must define fold()")

    def completed(self, embeddings: Array) -> "Reparameterization":
        """Return this one with what it takes of a backbone's token embeddings `[V, H]`."""
        return self

    # === What it can do ===

    def for_prompts(self, count: int) -> "list[Reparameterization]":
        """Return one for each of so many prompts, each with variables of its own."""
        return [self.copied(f"{self.name_in_records.replace('-', '_')}_{k}") for k in range(count)]

    def copied(self, name: str) -> Self:
        """Return one of the same settings, not yet built."""
        return type(self).from_config({**self.get_config(), "name": name})

    def reseeded(self, by: int) -> Self:
        """Return one with a seed `by` larger, not yet built."""
        config = self.get_config()
        return type(self).from_config({**config, "seed": config["seed"] + by})

    def multipliers(self) -> list[tuple[keras.Variable, float]]:
        """Return every trained variable with the factor on its learning rate."""
        return [(variable, self.rate_multiplier) for variable in self.trainable_variables]

    def describe(self) -> dict[str, dict[str, object]]:
        """Return what a run's record says of it: its name and settings."""
        left_out = ("name", "trainable", "dtype", "rows")
        settings = {k: v for k, v in self.get_config().items() if k not in left_out}
        return {self.name_in_records: settings}

    def add(
        self, name: str, shape: Sequence[int], value: float = 0.0, trainable: bool = True
    ) -> keras.Variable:
        """Add a float32 variable that no dtype policy casts."""
        return self.add_weight(
            name=name,
            shape=tuple(shape),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            autocast=False,
            trainable=trainable,
        )

    def get_build_config(self) -> None:
        """Nothing: a layer that is read from a config is copied and built by its `SoftPrompt`."""

    def get_config(self) -> Record:
        config = super().get_config()
        return {**config, "rate_multiplier": self.rate_multiplier, "seed": self.seed}


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raise InvalidArgument for anything but an integer from `least` on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        rule = "must be a positive integer" if least == 1 else f"must be an integer from {least} on"
        raise invalid(name, rule, f"{name}={value!r}")


def check_flag(name: str, value: object) -> bool:
    """Return True or False; raise InvalidArgument for anything else, such as the text "no"."""
    if not isinstance(value, bool):
        raise invalid(name, "must be true or false", f"{name}={value!r}")
    return value
