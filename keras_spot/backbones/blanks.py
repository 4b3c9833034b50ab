"""Weights that have a shape and a dtype, and no numbers yet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from keras_spot.base.errors import invalid
from keras_spot.base.types import Sliceable

__all__ = ["blank_weights", "put", "without_numbers"]


@contextlib.contextmanager
def without_numbers() -> Iterator[None]:
    """Let weights that are made inside have no numbers; none are drawn."""
    import keras
    from keras.src.backend.common import global_state

    with keras.StatelessScope(initialize_variables=False):
        try:
            yield
        finally:
            # Else the next such scope of Keras' own would give them their numbers.
            global_state.set_global_attribute("uninitialized_variables", [])


def blank_weights(owner: Any) -> list[Any]:
    """Return the variables of a layer or backbone that have no numbers."""
    return [weight for weight in owner.variables if weight._value is None]


def put(weight: Any, values: Sliceable) -> None:
    """Give a blank weight its numbers; each device of a layout gets its own part alone.

    Args:
        weight: a Keras variable without numbers.
        values: of its shape, in any dtype; of several hosts each reads what its devices hold.

    Raises:
        InvalidArgument: values of another shape.
    """
    from keras_spot.base import layouts

    if tuple(values.shape) != tuple(weight.shape):
        rule = f"must hold {weight.path} in the shape {tuple(weight.shape)}"
        raise invalid("backbone", rule, f"shape={tuple(values.shape)}")
    weight._initialize(layouts.dealt_out(values, weight))
    weight._initializer = None
