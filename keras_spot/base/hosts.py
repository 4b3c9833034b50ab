"""Several processes, on one host or on several, that train one model with JAX."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_spot.base import meeting
from keras_spot.base.errors import Deserted, complaint, invalid

__all__ = [
    "has_joined",
    "is_chief",
    "join",
    "largest",
    "needed",
    "of_chief",
    "part",
    "processes",
    "rows_of_this",
    "wait",
]

_PARTING = 10.0  # seconds
_LOST = ("Gloo", "closed by peer", "UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat", "NCCL")


def join() -> None:
    """Join the other processes, where the environment names them; call it before anything else.

    The variables are Keras' own: `KERAS_DISTRIBUTION_JOB_ADDRESSES` (host and port of the first
    process), `KERAS_DISTRIBUTION_NUM_PROCESSES` and `KERAS_DISTRIBUTION_PROCESS_ID`.

    Raises:
        InvalidArgument: some of them without the others, values that are none, a port that is in
            use, a process that was given another number of processes, or another backend than JAX.
        Unreachable: the first process does not answer, or another does not come, for 5 minutes.
    """
    named = meeting.named()
    if named is None:
        return
    if keras.config.backend() != "jax":
        rule = "must be of one process with TensorFlow; several train with KERAS_BACKEND=jax"
        raise invalid("devices", rule, f"{meeting.COUNT} is set")
    import jax

    if not jax.distributed.is_initialized():
        before = signal.getsignal(signal.SIGTERM)
        meeting.gather(named)
        keras.distribution.initialize()
        # JAX only notes a preemption's notice; who ends at it still shall.
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def has_joined() -> bool:
    """Return whether other processes were joined; looks at no device."""
    jax = sys.modules.get("jax")
    return jax is not None and bool(jax.distributed.is_initialized())


def part() -> None:
    """Wait some seconds, as this process fails, whether the others end as well.

    Then it may end without a word of JAX's; who goes on hears of it where it needs this one next.
    """
    import jax

    leaving = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    leaving.start()
    leaving.join(_PARTING)


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
    """Wait until every process has come to the point of that name.

    Raises:
        Deserted: one has ended.
    """
    if processes() > 1:
        from jax.experimental import multihost_utils

        with needed():
            multihost_utils.sync_global_devices(name)


def largest(number: int) -> int:
    """Return the largest of a number of each process; each must come here."""
    if processes() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def of_chief(content: bytes) -> bytes:
    """Return what the chief gives here to every process; each must come here.

    Raises:
        Deserted: one has ended.
    """
    if processes() == 1:
        return content
    from jax.experimental import multihost_utils

    with needed():
        size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
        sent = np.zeros(size, "uint8")
        if is_chief():
            sent[:] = np.frombuffer(content, "uint8")
        return np.asarray(multihost_utils.broadcast_one_to_all(sent), "uint8").tobytes()


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """Say in one line where another of the processes that train together has ended meanwhile.

    With a CPU or GPU that shows at the next step; whatever it is, JAX ends a process that has not
    heard from the first one, or the first from it, for 100 seconds.

    Raises:
        Deserted: one has ended, or does not answer.
    """
    try:
        yield
    except Exception as error:
        reason = str(error).partition("\n")[0]
        if processes() == 1 or not any(sign in reason for sign in _LOST):
            raise
        rule = "must all go on: one has ended; the same command on each of them continues"
        raise Deserted(complaint("processes", rule, reason)) from error


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
