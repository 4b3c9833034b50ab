"""Gradients written out are those that TensorFlow derives, plain, compiled and in bfloat16."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy

from keras_spot import PromptedT5
from keras_spot.base import devices
from keras_spot.model import losses
from keras_spot.model.fast import gradients, passes

TANH = keras.saving.get_registered_object("keras_hub>gelu_approximate")
WAYS = {
    "Keras": contextlib.nullcontext,
    "by hand": passes.by_hand,
    "compiled": lambda: passes.by_hand("compiled"),
    "whole": lambda: passes.by_hand("whole"),
}


def numbers(shape, dtype, seed=0, scale=2.0):
    return tf.constant(np.random.default_rng(seed).normal(0.0, scale, shape), dtype)


def found(function, inputs, way):
    """Return the value of `function` and its gradients against fixed numbers, in one graph."""

    @tf.function
    def graph(*inputs):
        with WAYS[way](), tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        return value, *tape.gradient(value, inputs, numbers(value.shape, value.dtype, seed=9))

    return [np.asarray(part, "float64") for part in graph(*inputs)]


def norm_layer(dtype):
    from keras_hub.src.models.t5.t5_layer_norm import T5LayerNorm

    layer = T5LayerNorm(dtype=dtype)
    layer.build((None, None, 6))
    layer.weight.assign(np.linspace(0.5, 2.0, 6))
    layer.trainable = False
    return layer


NAMES = ["norm", "residual norm", "tanh", "exact", "attention", "absorbed"]
NAMES += ["attention behind a prompt", "absorbed behind a prompt"]


def case(name, dtype):
    if "norm" in name:
        layer, inputs = norm_layer(dtype), [numbers((3, 5, 6), dtype)]
        if name == "norm":
            return lambda x: gradients.norm(layer, x), inputs
        return lambda x: keras.ops.concatenate(gradients.residual_norm(layer, x, 2)), inputs
    drop = keras.layers.Dropout(0, dtype=dtype)
    if name == "attention":
        bias = numbers((3, 1, 4, 5), dtype, seed=3)
        query, *others = [(3, 2, 4, 6), (3, 2, 5, 6), (3, 2, 5, 6)]
        inputs = [numbers(query, dtype), *(numbers(o, dtype, seed=4) for o in others)]
        return lambda *inputs: gradients.attention(*inputs, bias, drop), inputs
    rows = 48  # of few the mean rounding error is chance, which differs between processors
    if name == "attention behind a prompt":
        bias = numbers((2, rows, 4, 10), dtype, seed=3)
        own, prompt = (2, rows, 5, 6), (2, 5, 6)
        inputs = [numbers((2, rows, 4, 6), dtype)]
        inputs += [numbers(size, dtype, seed=4) for size in (own, own, prompt, prompt)]
        return lambda q, k, v, *p: gradients.attention(q, k, v, bias, drop, *p), inputs
    if "absorbed" in name:
        kernels = [numbers((2, 7, 6), dtype, seed, 0.5) for seed in (4, 5)]
        bias = numbers((rows, 1, 5), dtype, seed=3)
        inputs = [numbers((rows, 4, 2, 6), dtype), numbers((rows, 5, 7), dtype, seed=1)]
        if name == "absorbed behind a prompt":
            bias = numbers((rows, 1, 8), dtype, seed=3)
            inputs += [numbers((2, 3, 6), dtype, seed) for seed in (6, 7)]
        return lambda q, s, *p: gradients.absorbed(q, s, *kernels, bias, drop, *p), inputs
    activation = {"exact": "gelu", "tanh": TANH, "relu": "relu"}[name]
    projectors = [keras.layers.Dense(1024, f, False, dtype=dtype) for f in (activation, None)]
    for number, projector in enumerate(projectors):
        projector.build((None, None, 6))
        projector.kernel.assign(numbers((6, 1024), "float32", seed=number + 1, scale=0.5))
    return lambda x: gradients.gated(*projectors, x, x), [numbers((3, 5, 6), dtype)]


@pytest.mark.parametrize("way", ["by hand", "compiled", "whole"])
@pytest.mark.parametrize("name", [*NAMES, "relu"])
def test_values_and_gradients_are_those_derived(name, way):
    function, inputs = case(name, "float64")
    for ours, derived in zip(found(function, inputs, way), found(function, inputs, "Keras")):
        np.testing.assert_allclose(ours, derived, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (None, 3)])
@pytest.mark.parametrize("way", ["by hand", "compiled", "whole"])
def test_few_numbers_are_kept_for_the_way_back_and_many_computed_again(way, shape):
    @tf.function(input_signature=[tf.TensorSpec(shape)])
    def graph(x):
        with WAYS[way]():
            # What is computed again differs here, to be told from what was kept.
            return [passes.kept(x, n, lambda y: -y, x)(x[0, 0]) for n in (6, 5)]

    x = numbers((2, 3), "float32")
    few, many = graph(x)
    unknown = None in shape and way != "compiled"
    np.testing.assert_array_equal(few, -x if unknown else x)
    np.testing.assert_array_equal(many, -x)


@pytest.mark.parametrize("kept", [0, 10**6])
@pytest.mark.parametrize("way", ["by hand", "compiled"])
def test_attention_of_unknown_lengths_has_the_gradients_derived(way, kept, monkeypatch):
    monkeypatch.setattr(gradients, "KEPT", kept)
    function, inputs = case("attention", "float64")
    unknown = [tf.TensorSpec([None] * 4, tf.float64) for _ in inputs]

    @tf.function(input_signature=unknown)
    def graph(*inputs):
        with WAYS[way](), tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        return value, *tape.gradient(value, inputs, numbers((3, 2, 4, 6), "float64", seed=9))

    for ours, derived in zip(graph(*inputs), found(function, inputs, "Keras")):
        np.testing.assert_allclose(ours, derived, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{"tie_weights": False}, {"tie_weights": True}])
def test_logits_have_the_gradient_derived(options):
    embedding = keras.layers.ReversibleEmbedding(9, 6, dtype="float64", **options)
    embedding.build()
    embedding.trainable = False
    inputs = [numbers((3, 5, 6), "float64")]
    sides = [
        found(lambda x: gradients.logits(embedding, x), inputs, w) for w in ("compiled", "Keras")
    ]
    for ours, derived in zip(*sides):
        np.testing.assert_allclose(ours, derived, rtol=1e-6, atol=1e-6)


def test_float32_products_with_a_turned_kernel_are_products():
    function, inputs = case("tanh", "float32")
    for ours, derived in zip(found(function, inputs, "compiled"), found(function, inputs, "Keras")):
        np.testing.assert_allclose(ours, derived, rtol=1e-4, atol=1e-4)
    assert gradients._turned_back.cache_info().currsize == 1


@pytest.mark.parametrize("way", ["by hand", "compiled"])
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_loses_no_more_than_derived_gradients_do(name, way):
    function, inputs = case(name, "bfloat16")
    exactly = [tf.cast(x, "float32") for x in inputs]
    truth = found(case(name, "float32")[0], exactly, "Keras")
    for ours, derived, true in zip(
        found(function, inputs, way), found(function, inputs, "Keras"), truth
    ):
        assert abs(ours - true).mean() <= 1.05 * abs(derived - true).mean()


@pytest.mark.parametrize("way", ["by hand", "compiled"])
@pytest.mark.parametrize("low", [0.0, 0.01])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_of_logits_has_the_gradient_derived(dtype, low, way):
    targets = np.array([[3, 0, 8], [1, 1, 5]])
    inputs = [numbers((2, 3, 9), dtype, scale=5.0)]
    sides = [
        found(lambda x: losses.log_partition(x, targets, low), inputs, w) for w in (way, "Keras")
    ]
    for ours, derived in zip(*sides):
        np.testing.assert_allclose(ours, derived, rtol=1e-5, atol=1e-5)


def test_what_is_compiled_serves_every_shape():
    layer = norm_layer("float32")
    with passes.by_hand("compiled"):
        for rows in (2, 3, 5):
            x = numbers((rows, 4, 6), "float32")
            np.testing.assert_allclose(gradients.norm(layer, x), layer(x), rtol=1e-5)


def test_steps_of_large_backbones_are_compiled_between_products_on_cpu(monkeypatch):
    x, y, weight = toy.batch()
    backbone, prompts, ways = toy.backbone(gain=None, dtype="float64"), [], []
    true = passes.by_hand
    monkeypatch.setattr(passes, "by_hand", lambda way: ways.append(way) or true(way))
    for large in (10**9, 1):
        monkeypatch.setattr(devices, "LARGE", large)
        model = PromptedT5(backbone, prompt_length=5)
        # Adafactor would divide the float32 loss' rounding by small gradients.
        model.compile(keras.optimizers.SGD(10.0))
        model.soft_prompt.prompt.assign(numbers(model.prompt.shape, "float32"))
        model.fit(x, y, 4, sample_weight=weight, epochs=3, verbose=0)
        prompts.append(model.prompt)
    assert ways == sorted(ways, reverse=True)
    assert set(ways) == {"plain", "compiled"}
    assert not np.allclose(prompts[0], numbers(prompts[0].shape, "float32"), atol=1e-2)
    np.testing.assert_allclose(*prompts, rtol=1e-5, atol=1e-6)
