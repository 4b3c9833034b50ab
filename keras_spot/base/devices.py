"""Where training runs: the choice of devices, and what is right on several of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from typing import TYPE_CHECKING, Any

import keras

from keras_spot.base import hosts, layouts, meshes
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.quiet import quiet_logger, without_start_up_notes

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "FEW",
    "WORDS",
    "Devices",
    "by_onednn",
    "check",
    "current",
    "default_jit",
    "devices",
    "few_lengths",
    "global_sum",
    "here",
    "hide_from_tensorflow",
    "jit_pays",
    "on_accelerator",
    "on_cpu",
    "on_tpu",
    "replicas",
    "start",
    "static_width",
]

WORDS = ("auto", "one_device", "mirrored", "tpu", "data", "fsdp", "model")
FEW = (64, 128, 256)  # input tokens
LARGE, MANY = 20_000_000, 2_000  # parameters and steps from which on XLA pays on CPU


@dataclasses.dataclass(frozen=True)
class Devices:
    """Where a model is built and trained.

    Attributes:
        name: what was picked, such as `"one_device"`, `"mirrored:2"` or `"data:2,model:4"`.
        strategy: the tf.distribute strategy, None for one device and on other backends.
        distribution: the `keras.distribution.Distribution`, None for one device.
    """

    name: str
    strategy: Any = None
    distribution: Any = None

    def scope(self) -> contextlib.AbstractContextManager:
        """Return the context to build and to train in."""
        if self.distribution is not None:
            return self.distribution.scope()
        return contextlib.nullcontext() if self.strategy is None else _scoped(self.strategy)


def devices(
    choice: str
    | Devices
    | tf.distribute.Strategy
    | keras.distribution.DataParallel
    | keras.distribution.ModelParallel = "auto",
    tpu: str = "local",
) -> Devices:
    """Pick the devices that a model lives on, and print what was picked.

    Build the model inside the `scope()` of what is returned.

    Args:
        choice: `"auto"` takes a TPU that can really be initialised, else several GPUs, else
            one device; `"tpu"`, `"mirrored"` and `"one_device"` insist. With JAX also `"model:8"`,
            which spreads every matrix of the backbone over 8 devices, `"data:2,model:4"`, which
            besides deals each batch out to 2 such groups, and `"fsdp:8"`, which deals out both
            matrices and batches to the same 8, or `"fsdp:4,model:2"`; `"data"` deals batches out
            to all devices, which with TensorFlow is `"mirrored"`. A tf.distribute strategy and a
            `keras.distribution` are taken as they are.
        tpu: with TensorFlow, name or address of the TPU, `"local"` on a TPU VM.

    Raises:
        InvalidArgument: an unknown choice, one that the backend or the present devices cannot
            do, or a TPU that cannot be initialised under `"tpu"`.
    """
    if isinstance(choice, Devices):
        return choice
    if isinstance(choice, (keras.distribution.DataParallel, keras.distribution.ModelParallel)):
        return Devices(layouts.name_of(choice), distribution=choice)
    if not isinstance(choice, str):
        return _of_strategy(choice)
    axes = meshes.parse(choice)
    if axes is None and choice not in WORDS:
        raise unknown("devices", choice, WORDS)
    backend = keras.config.backend()
    if backend == "jax":
        picked = _on_jax(choice, axes)
    elif backend == "tensorflow":
        hosts.join()  # refuses
        picked = _on_tensorflow(choice, axes, tpu)
    elif choice in ("auto", "one_device"):
        picked = Devices("one_device")
    else:
        rule = f"must be 'auto' or 'one_device' with the {backend} backend"
        raise invalid("devices", rule, repr(choice))
    print(f"devices: {picked.name}, {_described()}")
    return picked


def hide_from_tensorflow() -> None:
    """Let TensorFlow, which only reads data beside JAX, leave the accelerators alone."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # it has begun already
        tf.config.set_visible_devices([], "GPU")


def here() -> Devices:
    """Return the devices of the scope that this is called in."""
    if keras.config.backend() == "jax":
        present = keras.distribution.distribution()
        return Devices("one_device") if present is None else devices(present)
    return Devices("one_device") if current() is None else _of_strategy(current())


def _described() -> str:
    """Return how many devices of which kind there are."""
    if keras.config.backend() == "jax":
        import jax

        return f"{jax.device_count()} {jax.devices()[0].platform.upper()}"
    import tensorflow as tf

    for kind in ("TPU", "GPU", "CPU"):
        present = tf.config.list_logical_devices(kind)
        if present:
            return f"{len(present)} {kind}"
    return "none"


def _of_strategy(strategy: Any) -> Devices:
    name = type(strategy).__name__
    if not hasattr(strategy, "num_replicas_in_sync"):
        rule = "must be the words of a layout, a tf.distribute strategy or a keras.distribution"
        raise invalid("devices", rule, name)
    if keras.config.backend() != "tensorflow":
        rule = f"must not be a tf.distribute strategy with the {keras.config.backend()} backend"
        raise invalid("devices", rule, name)
    if "MultiWorker" in name:
        rule = "must not be of several hosts, for which Keras' `fit` breaks; use JAX with 'data'"
        raise invalid("devices", rule, name)
    if name == "_DefaultDistributionStrategy":
        return Devices("one_device")
    return Devices(f"{name}:{strategy.num_replicas_in_sync}", strategy)


def _on_jax(choice: str, axes: dict[str, int | None] | None) -> Devices:
    import jax

    hosts.join()
    hide_from_tensorflow()
    try:
        present = jax.devices()
    except (RuntimeError, AssertionError) as error:  # a TPU that another process has, or none
        reason = str(error).partition("\n")[0] or "no device"
        rule = "must be of a platform that JAX can start"
        received = f"JAX_PLATFORMS={jax.config.jax_platforms or ''}: {reason}"
        raise invalid("devices", rule, received) from None
    platform = present[0].platform
    if choice == "tpu" and platform != "tpu":
        raise invalid("devices", "must be a TPU that JAX sees", f"'tpu' with {platform.upper()}")
    several = len(present) > 1 and (platform != "cpu" or jax.process_count() > 1)
    if choice == "one_device" or (choice == "auto" and not several):
        return Devices("one_device")
    sizes = meshes.resolve(choice, axes or {meshes.DATA: None}, len(present))
    made = layouts.distribution(sizes, present)
    return Devices(layouts.name_of(made), distribution=made)


def _on_tensorflow(choice: str, axes: dict[str, int | None] | None, tpu: str) -> Devices:
    import tensorflow as tf

    if axes is not None and axes != {meshes.DATA: None}:
        rule = "must be auto, one_device, mirrored, tpu or data with TensorFlow; JAX has the rest"
        raise invalid("devices", rule, repr(choice))
    if choice in ("auto", "tpu"):
        try:
            strategy = _tpu_strategy(tpu)
            return Devices(f"tpu:{strategy.num_replicas_in_sync}", strategy)
        except (ValueError, tf.errors.OpError) as error:
            if choice == "tpu":
                reason = str(error).splitlines()[0]
                raise invalid("devices", "must be a TPU that initialises", reason) from None
    gpus = tf.config.list_logical_devices("GPU")
    if choice in ("mirrored", "data") or (choice == "auto" and len(gpus) > 1):
        members = gpus or tf.config.list_logical_devices("CPU")
        # Hierarchical and NCCL reductions only exist between GPUs.
        reduction = None if gpus else tf.distribute.ReductionToOneDevice()
        names = [device.name for device in members]
        strategy = tf.distribute.MirroredStrategy(names, cross_device_ops=reduction)
        return Devices(f"mirrored:{strategy.num_replicas_in_sync}", strategy)
    return Devices("one_device")


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


def _scoped(strategy: Any) -> contextlib.AbstractContextManager:
    import tensorflow as tf

    inside = tf.distribute.has_strategy() and tf.distribute.get_strategy() is strategy
    return contextlib.nullcontext() if inside else strategy.scope()


def global_sum(value: Any) -> Any:
    """Return a scalar summed over the replicas of the running step."""
    if keras.config.backend() != "tensorflow":
        return value
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def even_shares(dataset: Any, count: int) -> Any:
    """Return a `tf.data.Dataset` whose batches can be dealt out to `count` replicas, rows alike.

    Rows of weight 0, copies of the last one, fill up the others: neither backend can add unequal
    shares, and a replica without rows crashes.

    Args:
        dataset: of `(x, y)` or `(x, y, sample_weight)`.
        count: replicas, or groups of devices; with 1 the data set stays as it is.
    """
    import tensorflow as tf

    if count == 1 or not isinstance(dataset, tf.data.Dataset):
        return dataset

    def fill(x: Any, y: Any, weight: Any = None) -> Any:
        rows = tf.shape(y)[0] if y.shape[0] is None else y.shape[0]
        missing = -rows % count
        if isinstance(missing, int) and missing == 0:
            return (x, y) if weight is None else (x, y, weight)
        weight = tf.ones_like(y, tf.float32) if weight is None else weight

        def more(value: Any) -> Any:
            return tf.concat([value, tf.repeat(value[-1:], missing, axis=0)], 0)

        x, y = tf.nest.map_structure(more, (x, y))
        return x, y, tf.concat([weight, tf.zeros_like(tf.repeat(weight[:1], missing, axis=0))], 0)

    return dataset.map(fill)


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


def on_accelerator() -> bool:
    """Return whether a GPU or TPU computes."""
    if keras.config.backend() == "jax":
        import jax

        return str(jax.devices()[0].platform) != "cpu"
    return keras.config.backend() != "tensorflow" or not on_cpu()


def by_onednn() -> bool:
    """Return whether oneDNN computes TensorFlow's products on CPU."""
    from tensorflow.python.util import _pywrap_util_port  # the only place that tells

    return bool(_pywrap_util_port.IsMklEnabled())


def few_lengths() -> tuple[int, ...] | None:
    """Return the lengths below the longest that batches are padded to where each is compiled.

    On a TPU none, on other accelerators and with JAX a few; None where any length is as good.
    """
    if on_tpu():
        return ()
    return None if default_jit() is False else FEW


def static_width(width: int, longest: int) -> int:
    """Return the length that a batch of some width is padded to where each one is compiled."""
    few = few_lengths()
    lengths = [1 << n for n in range(4, 16)] if few is None else [*few, longest]
    return next((length for length in lengths if length >= width), width)


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
