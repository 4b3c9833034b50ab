"""Compile the training step before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_spot.base import layouts
from keras_spot.base.errors import invalid

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_spot.model.prompted_t5 import PromptedT5

__all__ = ["warm_up"]


def warm_up(model: PromptedT5, data: tf.data.Dataset, batches: int = 256) -> int:
    """Compile the training step for the lengths of batches in the data, before it is trained.

    Without it the first batch of each length takes that much longer, through XLA seconds. A step
    is made on one batch of each length; prompts and optimiser are as before when this is done.

    Args:
        model: a compiled `PromptedT5`.
        data: what it will be trained on, e.g. of `load_task`. Without `repeat` that uses up an
            epoch's order.
        batches: how many batches at the beginning to look at. Default 256.

    Returns:
        The number of different shapes.

    Raises:
        InvalidArgument: no batches.
    """
    import tensorflow as tf

    one_each: dict[Any, Any] = {}
    for batch in data.take(batches):
        shapes = tuple(tuple(tensor.shape) for tensor in tf.nest.flatten(batch))
        one_each.setdefault(shapes, batch)
    if not one_each:
        raise invalid("data", "must have batches", f"{batches=}")
    examples = tf.data.Dataset.from_generator(
        lambda: iter(one_each.values()), output_signature=data.element_spec
    )
    with layouts.scope(model.distribution):
        model.optimizer.build(model.trainable_variables)
    kept = [(v, v.numpy()) for v in (*model.trainable_variables, *model.optimizer.variables)]
    try:
        model.fit(examples, steps_per_epoch=len(one_each), shuffle=False, verbose=0)
    finally:
        for variable, value in kept:
            variable.assign(value)
    return len(one_each)
