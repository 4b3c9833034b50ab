"""Backbones that are made without numbers and given them one weight at a time.

Keras draws random numbers for every weight that it makes. Where a file holds the weights, that
would be most of the time of loading and as much memory again.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

from keras_spot.backbones import quantized
from keras_spot.backbones.blanks import blank_weights, put, without_numbers
from keras_spot.backbones.untraced import untraced
from keras_spot.base.types import Sliceable

__all__ = ["Put", "assigning", "blank", "file_follows", "filled", "revived"]

Put = Callable[[Any, Sliceable], None]
_FILE_FOLLOWS: contextvars.ContextVar[bool] = contextvars.ContextVar("file_follows", default=False)


@contextlib.contextmanager
def blank() -> Iterator[None]:
    """Make a backbone inside whose weights have shapes and no numbers; none are drawn."""
    with without_numbers(), untraced():
        yield


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
    from keras_spot.base import hosts, layouts

    layouts.check_even(blank_weights(backbone))
    with hosts.needed():
        with quantized.one_by_one(backbone, quantize) as put_quantized:
            yield put if put_quantized is None else put_quantized
        for weight in blank_weights(backbone):
            weight._deferred_initialize()


@contextlib.contextmanager
def assigning(backbone: Any, put: Put) -> Iterator[None]:
    """Let `assign` give blank weights their numbers inside, where Keras' own loading calls it."""
    weights = blank_weights(backbone)
    for weight in weights:
        weight.assign = functools.partial(put, weight)
    try:
        yield
    finally:
        for weight in weights:
            del weight.assign


@contextlib.contextmanager
def file_follows(is_so: bool = True) -> Iterator[None]:
    """Let `revived` know that all weights of a backbone come from a file."""
    token = _FILE_FOLLOWS.set(is_so)
    try:
        yield
    finally:
        _FILE_FOLLOWS.reset(token)


def revived(record: dict[str, Any], facts: dict[str, str] | None) -> Any:
    """Return the backbone of a model's config.

    Where its weights come from a file, such as that of `keras.saving.load_model`, none are drawn:
    each gets its numbers when they are assigned.

    Args:
        record: as Keras serialises a `T5Backbone`.
        facts: of `quantized.record`.

    Raises:
        InvalidArgument: a weight that the devices cannot share evenly.
    """
    import keras
    from keras.src.backend.common import global_state

    def make() -> Any:
        if facts is None:
            return keras.layers.deserialize(record)
        return quantized.build(record["config"], facts)

    # Keras has such a list only while it reads or writes a `.keras` file.
    is_read = global_state.get_global_attribute("shared_objects/id_to_obj_map") is not None
    if not (is_read or _FILE_FOLLOWS.get()):
        return make()
    from keras_spot.base import layouts

    with blank():
        backbone = make()
    layouts.check_even(blank_weights(backbone))
    for weight in blank_weights(backbone):
        if weight.path.endswith("seed_generator_state"):  # in no file
            weight._deferred_initialize()
        else:
            weight.assign = functools.partial(_first, weight)
    return backbone


def _first(weight: Any, values: Sliceable) -> None:
    del weight.assign
    put(weight, values)
