"""Several processes, on one host or on several, that train one model with JAX."""

from __future__ import annotations

import os
from typing import Any

import keras

from keras_spot.base.errors import invalid

__all__ = ["is_chief", "join", "processes", "rows_of_this", "wait"]

_VARIABLE = "KERAS_DISTRIBUTION_"
_NAMES = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")


def join() -> None:
    """Join the other processes, where the environment names them; call it before anything else.

    The variables are Keras' own: `KERAS_DISTRIBUTION_JOB_ADDRESSES` (host and port of the first
    process), `KERAS_DISTRIBUTION_NUM_PROCESSES` and `KERAS_DISTRIBUTION_PROCESS_ID`.

    Raises:
        InvalidArgument: some of them without the others, or another backend than JAX.
    """
    given = [name for name in _NAMES if os.environ.get(_VARIABLE + name)]
    if not given:
        return
    if len(given) < len(_NAMES):
        rule = f"must be set together: {', '.join(_VARIABLE + name for name in _NAMES)}"
        raise invalid("devices", rule, f"{_VARIABLE}{given[0]} alone")
    if keras.config.backend() != "jax":
        rule = "must be of one process with TensorFlow; several train with KERAS_BACKEND=jax"
        raise invalid("devices", rule, f"{_VARIABLE}NUM_PROCESSES is set")
    import jax

    if not jax.distributed.is_initialized():
        keras.distribution.initialize()


def processes() -> int:
    """Return how many processes train together, 1 for this one alone."""
    if keras.config.backend() != "jax":
        return 1
    import jax

    return int(jax.process_count())


def is_chief() -> bool:
    """Return whether this process writes what all of them make."""
    if keras.config.backend() != "jax":
        return True
    import jax

    return int(jax.process_index()) == 0


def wait(name: str) -> None:
    """Wait until every process has come to the point of that name."""
    if processes() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def rows_of_this(dataset: Any, distribution: Any) -> Any:
    """Return a `tf.data.Dataset` with the rows of each batch that are this process' own.

    Args:
        dataset: of whole batches, the same on every process.
        distribution: which deals batches out; None or one process: the whole of them.
    """
    if distribution is None or processes() == 1:
        return dataset
    mesh = distribution.device_mesh
    over = dict(zip(mesh.axis_names, mesh.shape))[distribution.batch_dim_name]
    shares, own = min(over, processes()), distribution.data_shard_id

    import tensorflow as tf

    def part(value: Any) -> Any:
        rows = tf.shape(value)[0]
        fair = tf.debugging.Assert(rows % shares == 0, [f"rows that {shares} hosts share:", rows])
        with tf.control_dependencies([fair]):
            return value[own * rows // shares : (own + 1) * rows // shares]

    return dataset.map(lambda *batch: keras.tree.map_structure(part, batch))
