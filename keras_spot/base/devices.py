"""Where training runs: the choice of a tf.distribute strategy and what is right under one."""

from __future__ import annotations

import contextlib
import functools
import warnings
from typing import TYPE_CHECKING, Any

import keras

from keras_spot.base.errors import invalid, unknown
from keras_spot.base.quiet import quiet_logger, without_start_up_notes

if TYPE_CHECKING:
    import tensorflow as tf

CHOICES = ("auto", "tpu", "mirrored", "one_device")
LARGE, MANY = 20_000_000, 2_000  # parameters and steps from which on XLA pays on CPU


def strategy(choice: str = "auto", tpu: str = "local") -> tf.distribute.Strategy:
    """Return a tf.distribute strategy and print what was picked.

    Args:
        choice: `"auto"` takes a TPU that can really be initialised, else several GPUs, else
            one device; `"tpu"`, `"mirrored"` and `"one_device"` insist.
        tpu: name or address of the TPU, `"local"` on a TPU VM.

    Raises:
        InvalidArgument: an unknown choice, or a TPU that cannot be initialised under `"tpu"`.
    """
    if choice not in CHOICES:
        raise unknown("choice", choice, CHOICES)
    import tensorflow as tf

    if choice in ("auto", "tpu"):
        try:
            picked = _tpu_strategy(tpu)
            print(f"strategy: TPUStrategy, {picked.num_replicas_in_sync} cores")
            return picked
        except (ValueError, tf.errors.OpError) as error:
            if choice == "tpu":
                reason = str(error).splitlines()[0]
                raise invalid("choice", "must be a TPU that initialises", reason) from None
    gpus = tf.config.list_logical_devices("GPU")
    if choice == "mirrored" or (choice == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        # Hierarchical and NCCL reductions only exist between GPUs.
        reduction = None if gpus else tf.distribute.ReductionToOneDevice()
        names = [device.name for device in devices]
        picked = tf.distribute.MirroredStrategy(names, cross_device_ops=reduction)
        print(f"strategy: MirroredStrategy, {picked.num_replicas_in_sync} devices")
        return picked
    print(f"strategy: one device, {'GPU' if gpus else 'CPU'}")
    return tf.distribute.get_strategy()


def _tpu_strategy(tpu: str) -> tf.distribute.TPUStrategy:
    import tensorflow as tf

    # The resolver is content without a TPU; only initialising tells.
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu)
    if tpu != "local":
        tf.config.experimental_connect_to_cluster(resolver)
    with quiet_logger("tensorflow"):  # it tells of a TPU system also where there is none
        tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)


def current() -> tf.distribute.Strategy | None:
    """Return the tf.distribute strategy whose scope this is, or None."""
    if keras.config.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_strategy() if tf.distribute.has_strategy() else None


def replicas() -> int:
    """Return the number of replicas of the current strategy, 1 without one."""
    distributed = current()
    return distributed.num_replicas_in_sync if distributed else 1


def on_tpu() -> bool:
    """Return whether the current strategy is a TPUStrategy."""
    return type(current()).__name__.startswith("TPUStrategy")


def scope(picked: Any) -> contextlib.AbstractContextManager:
    """Return the scope of a strategy; the default one has none worth entering."""
    import tensorflow as tf

    default = type(picked).__name__ == "_DefaultDistributionStrategy"
    return contextlib.nullcontext() if picked is None or default else _scoped(tf, picked)


def _scoped(tf: Any, picked: Any) -> contextlib.AbstractContextManager:
    inside = tf.distribute.has_strategy() and tf.distribute.get_strategy() is picked
    return contextlib.nullcontext() if inside else picked.scope()


def global_sum(value: Any) -> Any:
    """Return a scalar summed over the replicas of the running step."""
    if keras.config.backend() != "tensorflow":
        return value
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


@functools.cache
def start() -> None:
    """Let TensorFlow look for its devices, once, without what it prints where there is no GPU."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        with without_start_up_notes():
            tf.config.list_logical_devices()


def default_jit() -> str | bool:
    """Return Keras' `"auto"` where XLA pays by default: one GPU, or another backend.

    On CPU compiling every bucket costs more than it saves; TPUStrategy compiles by itself,
    and a function jitted beside it dies.
    """
    if keras.config.backend() != "tensorflow":
        return "auto"
    import tensorflow as tf

    gpu = bool(tf.config.list_logical_devices("GPU"))
    return "auto" if gpu and not tf.distribute.has_strategy() else False


def on_cpu() -> bool:
    """Return whether TensorFlow runs on one CPU alone."""
    if keras.config.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU") and not tf.distribute.has_strategy()


def by_onednn() -> bool:
    """Return whether oneDNN computes TensorFlow's products on CPU."""
    from tensorflow.python.util import _pywrap_util_port  # the only place that tells

    return bool(_pywrap_util_port.IsMklEnabled())


def jit_pays(parameters: int, dtype: str, steps: int) -> bool:
    """Return whether XLA pays for a training run on CPU, where `default_jit` says no.

    It makes a float32 step of a large backbone a tenth faster and takes seconds to compile each
    length of the batches; its bfloat16 products are slower than TensorFlow's.
    """
    return on_cpu() and parameters >= LARGE and steps >= MANY and dtype == "float32"


def check(optimizer: Any, loss: Any, options: dict[str, Any], dropout: float) -> None:
    """Refuse what is silently wrong, or crashes late, with several replicas.

    Clipping and accumulation act before the gradients are summed, a mean taken in each
    replica is not the mean over the batch, and the rest does not run at all.

    Raises:
        InvalidArgument: such an optimiser, loss or option. Dropout is only warned of.
    """
    count = replicas()
    if options.get("jit_compile") and (on_tpu() or count > 1):
        rule = "must be False under TPUStrategy or with several replicas"
        raise invalid("jit_compile", rule, f"jit_compile={options['jit_compile']}")
    if count == 1:
        return
    reason = f"with {count} replicas"
    for name in ("clipnorm", "global_clipnorm", "gradient_accumulation_steps", "use_ema"):
        value = getattr(optimizer, name, None)
        if value:
            raise invalid("optimizer", f"must not use {name} {reason}", f"{name}={value}")
    if getattr(loss, "reduction", None) == "mean_with_sample_weight":
        rule = f"must not average in each replica {reason}; use TokenCrossEntropy"
        raise invalid("loss", rule, "reduction='mean_with_sample_weight'")
    if options.get("steps_per_execution", 1) > 1:
        value = options["steps_per_execution"]
        raise invalid("steps_per_execution", f"must be 1 {reason}", f"{value}")
    if dropout:
        warnings.warn(f"`dropout` draws the same mask on all {count} replicas.", stacklevel=3)
