"""Backbones that are made without numbers and given them one weight at a time.

Keras draws random numbers for every weight that it makes. Where a file holds the weights, that
would be most of the time of loading and as much memory again.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_spot.backbones import quantized
from keras_spot.backbones.untraced import untraced
from keras_spot.base.errors import invalid

__all__ = ["Put", "assigning", "blank", "filled"]

Put = Callable[[Any, np.ndarray], None]


@contextlib.contextmanager
def blank() -> Iterator[None]:
    """Make a backbone inside whose weights have shapes and no numbers; none are drawn."""
    import keras
    from keras.src.backend.common import global_state

    with keras.StatelessScope(initialize_variables=False), untraced():
        try:
            yield
        finally:
            # Else the next such scope of Keras' own would give them their numbers.
            global_state.set_global_attribute("uninitialized_variables", [])


@contextlib.contextmanager
def filled(backbone: Any, quantize: str | None = None) -> Iterator[Put]:
    """Give a blank backbone its numbers inside, by the function that this gives.

    It takes a weight and its values `[...]` of the weight's shape. Each device of a layout gets its
    own part alone. What has no values at the end, such as seeds, begins as Keras lets it.

    Args:
        backbone: a `T5Backbone` made in `blank`.
        quantize: `"int8"` or `"int4"`: keep each projection in so many bits before the next weight
            comes, so that they are never all there in float. Default None.

    Raises:
        InvalidArgument: a weight that the devices cannot share evenly; none has numbers then.
    """
    from keras_spot.base import layouts

    layouts.check_even(_blanks(backbone))
    with quantized.one_by_one(backbone, quantize) as begin:

        def put(weight: Any, values: np.ndarray) -> None:
            begin(weight)
            _put(weight, values)

        yield put
    for weight in _blanks(backbone):
        weight._deferred_initialize()


@contextlib.contextmanager
def assigning(backbone: Any, put: Put) -> Iterator[None]:
    """Let `assign` give blank weights their numbers inside, where Keras' own loading calls it."""
    weights = _blanks(backbone)
    for weight in weights:
        weight.assign = functools.partial(put, weight)
    try:
        yield
    finally:
        for weight in weights:
            del weight.assign


def _blanks(backbone: Any) -> list[Any]:
    return [weight for weight in backbone.variables if weight._value is None]


def _put(weight: Any, values: np.ndarray) -> None:
    from keras_spot.base import layouts

    if values.shape != tuple(weight.shape):
        rule = f"must hold {weight.path} in the shape {tuple(weight.shape)}"
        raise invalid("backbone", rule, f"shape={values.shape}")
    weight._initialize(layouts.dealt_out(values, weight))
    weight._initializer = None
