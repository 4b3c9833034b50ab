"""Batches that a tf.distribute strategy's replicas answer together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["by_replicas"]


def by_replicas(
    strategy: tf.distribute.Strategy, function: Callable[..., Any], autograph: bool = False
) -> Callable[..., Any]:
    """Return a function of a batch that each replica runs on its own rows, traced once a shape.

    Args:
        strategy: with any number of replicas.
        function: of a batch, a structure of arrays `[B, ...]`, and of what is the same for all
            rows; returns a structure of tensors `[B, ...]`.
        autograph: see `tf.function`. Default False.

    Returns:
        A function of the same, which returns NumPy arrays.
    """
    import tensorflow as tf

    count = strategy.num_replicas_in_sync
    traced = tf.function(
        lambda batch, same: strategy.run(function, args=(batch, *same)), autograph=autograph
    )

    def run(batch: Any, *same: Any) -> Any:
        rows = len(keras.tree.flatten(batch)[0])
        # A replica without rows would crash; the filling rows are cut off again.
        fill = np.minimum(np.arange(-(-rows // count) * count), rows - 1)

        def deal(values: Any) -> Any:
            parts = np.split(np.asarray(values)[fill], count)
            return strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(parts[context.replica_id_in_sync_group])
            )

        def gather(value: Any) -> np.ndarray:
            parts = map(np.asarray, strategy.experimental_local_results(value))
            return np.concatenate(list(parts))[:rows]

        return keras.tree.map_structure(gather, traced(keras.tree.map_structure(deal, batch), same))

    return run
