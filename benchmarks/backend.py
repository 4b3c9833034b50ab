"""The worker on either backend, JAX or TensorFlow, and on accelerators: `-m benchmarks.backend`.

Requests as in `protocol`. A process has one model, so that the peak of its memory is its own.
"""

import time
from typing import Any

from benchmarks import process, workload
from benchmarks.protocol import Skip, serve

process.threads()

import keras  # noqa: E402  after the cores are chosen
import numpy as np  # noqa: E402

import keras_spot  # noqa: E402
from keras_spot.backbones.converters.architecture import Architecture  # noqa: E402
from keras_spot.base import devices  # noqa: E402
from keras_spot.model.prompted_t5 import PromptedT5  # noqa: E402

BACKEND = keras.config.backend()
MODES = ("plain", "recomputed", "kept", "remat")
"""`"plain"` kernels as compiled by default; or compiled whole by XLA, and what a step does with a
layer's inner values: see `T5Layers.recomputes` and `build(remat=)`."""

models: dict[str, Any] = {}


def hello(kinds: list[str]) -> dict[str, str]:
    """Return the chip's kind and name; without one of these kinds the case is skipped."""
    if BACKEND == "jax":
        import jax

        devices.hide_from_tensorflow()
        kind, name = jax.devices()[0].platform, jax.devices()[0].device_kind
    else:
        import tensorflow as tf

        present = tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("CPU")
        details = tf.config.experimental.get_device_details(present[0])
        kind = present[0].device_type.lower()
        name = details.get("device_name", kind)
    if kind not in kinds:
        raise Skip(f"{BACKEND} sees no accelerator, only {kind.upper()}")
    return {"kind": kind, "name": name}


def gemm(size: int) -> float:
    """Return the chip's GFLOP/s of a bfloat16 product of square matrices."""
    if BACKEND == "jax":
        import jax

        a = jax.random.normal(jax.random.key(0), (size, size), "bfloat16")
        product = jax.jit(lambda a: a @ a)
        return process.gemm_rate(lambda: product(a).block_until_ready(), size, 2.0)
    import tensorflow as tf

    a = tf.cast(tf.random.normal((size, size)), "bfloat16")
    return process.gemm_rate(lambda: tf.matmul(a, a)[0, 0].numpy(), size, 2.0)


def load(shape: dict[str, int], prompt: int, mode: str, dtype: str) -> float:
    """Build a model of random weights, and return the seconds that took.

    Args:
        shape: fields of `workload.Shape`.
        prompt: P.
        mode: of `MODES`.
        dtype: of the weights and of what is computed.
    """
    began = time.perf_counter()
    keras.utils.set_random_seed(0)
    sizes = workload.Shape(**shape)
    backbone = Architecture(
        vocabulary_size=sizes.vocabulary,
        hidden_dim=sizes.width,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        num_heads=sizes.heads,
        head_dim=sizes.head_width,
        intermediate_dim=sizes.inner,
        activation="gelu_new",
        gated=True,
        tied=False,
    ).build(dtype)
    recipe = keras_spot.Recipe(z_loss=0.0)
    model = PromptedT5(backbone, prompt_length=prompt, recipe=recipe, remat=mode == "remat")
    if mode == "plain":
        model.compile(kernels="plain")
    else:
        model.compile(jit_compile=True)
        model.forward_pass.plain.suit(accelerator=mode != "kept")
    models["model"] = model
    return time.perf_counter() - began


def step(rows: int, tokens: int, targets: int, count: int) -> dict[str, Any]:
    """Make training steps on one batch as `fit` does; return their mean as one lap.

    The first call compiles.
    """
    import tensorflow as tf

    model = models["model"]
    inputs, y = workload.batch(rows, tokens, targets, model.backbone.vocabulary_size)
    x = {
        "encoder_token_ids": inputs,
        "encoder_padding_mask": np.ones_like(inputs),
        "decoder_token_ids": np.pad(y[:, :-1], [[0, 0], [1, 0]]),
        "decoder_padding_mask": np.ones_like(y),
    }
    data = tf.data.Dataset.from_tensors((x, y, np.ones(y.shape, "float32"))).repeat(count)
    history: list[Any] = []
    samples = process.repeated(lambda: history.append(model.fit(data, verbose=0)), 1)
    means = {name: [values[0] / count] for name, values in samples.items()}
    return {**means, "loss": history[0].history["loss"]}


def memory() -> int:
    """Return the peak of the chip's memory in bytes, of this process' on a CPU."""
    if BACKEND == "jax":
        import jax

        stats = jax.devices()[0].memory_stats() or {}
        return int(stats.get("peak_bytes_in_use", 0)) or process.memory()["peak"]
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    return process.memory()["peak"]


if __name__ == "__main__":
    serve({function.__name__: function for function in (hello, gemm, load, step, memory)})
