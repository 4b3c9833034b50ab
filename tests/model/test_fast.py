"""Gradients written out are those that TensorFlow derives, in bfloat16 and of any shape."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy
from keras_hub.src.models.t5.t5_layer_norm import T5LayerNorm

from keras_spot import PromptedT5
from keras_spot.base import devices
from keras_spot.model import losses
from keras_spot.model.fast import gradients, xla
from keras_spot.model.plain import attention as att

TANH = keras.saving.get_registered_object("keras_hub>gelu_approximate")
NAMES = ["residual and norms", "tanh", "exact", "attention", "attention behind a prompt"]


def numbers(shape, dtype, seed=0, scale=2.0):
    return tf.constant(np.random.default_rng(seed).normal(0.0, scale, shape), dtype)


def run(function, inputs):
    """Return the value of `function` and its gradients against fixed numbers, in one graph."""

    @tf.function
    def graph(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        return value, *tape.gradient(value, inputs, numbers(value.shape, value.dtype, seed=9))

    return [np.asarray(part, "float64") for part in graph(*inputs)]


def norm_layer(dtype):
    layer = T5LayerNorm(dtype=dtype)
    layer.build((None, None, 6))
    layer.weight.assign(np.linspace(0.5, 2.0, 6))
    layer.trainable = False
    return layer


def projectors(activation, dtype):
    made = [keras.layers.Dense(1024, f, False, dtype=dtype) for f in (activation, None)]
    for number, projector in enumerate(made):
        projector.build((None, None, 6))
        projector.kernel.assign(numbers((6, 1024), "float32", seed=number + 1, scale=0.5))
    return made


def case(name, dtype):
    """Return the fast function, the plain one and their inputs."""
    if name == "residual and norms":
        layer = norm_layer(dtype)
        return (
            lambda x: keras.ops.concatenate(gradients.residual_and_norms(layer, x)),
            lambda x: keras.ops.concatenate([x, layer(x), layer(x)]),
            [numbers((3, 5, 6), dtype)],
        )
    if "attention" in name:
        drop = keras.layers.Dropout(0, dtype=dtype)
        rows = 48  # of few the mean rounding error is chance, which differs between processors
        own, shared = (2, rows, 5, 6), (2, 5, 6)
        behind = "prompt" in name
        bias = numbers((2, rows, 4, 10 if behind else 5), dtype, seed=3)
        sizes = (own, own, shared, shared) if behind else (own, own)
        inputs = [numbers((2, rows, 4, 6), dtype)]
        inputs += [numbers(size, dtype, seed=4 + place) for place, size in enumerate(sizes)]
        return (
            lambda q, k, v, *p: gradients.attend(q, k, v, bias, p or None),
            lambda q, k, v, *p: att.attend(q, k, v, bias, drop, p or None),
            inputs,
        )
    activation = {"exact": "gelu", "tanh": TANH}[name]
    made = projectors(activation, dtype)
    kind = gradients.gelu_kind(made[0].activation)
    assert kind == name

    def fast(x):
        return gradients.gated_gelu(kind)(*(gradients.product(p, x) for p in made))

    return fast, lambda x: made[0](x) * made[1](x), [numbers((3, 5, 6), dtype)]


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_those_derived(name):
    fast, plain, inputs = case(name, "float64")
    for ours, derived in zip(run(fast, inputs), run(plain, inputs), strict=True):
        np.testing.assert_allclose(ours, derived, rtol=1e-6, atol=1e-6)


def test_other_activations_are_left_to_plain():
    assert gradients.gelu_kind(keras.activations.relu) is None


@pytest.mark.parametrize("shape", [(2, 3), (None, 3)])
def test_few_numbers_are_kept_for_the_backward_pass_and_many_computed_again(shape):
    @tf.function(input_signature=[tf.TensorSpec(shape)])
    def graph(x):
        # What is computed again differs here, to be told from what was kept.
        return [xla.kept(x, n, lambda y: -y, x)(x[0, 0]) for n in (6, 5)]

    x = numbers((2, 3), "float32")
    few, many = graph(x)
    np.testing.assert_array_equal(few, x)
    np.testing.assert_array_equal(many, -x)


@pytest.mark.parametrize("kept", [0, 10**6])
def test_attention_of_unknown_lengths_has_the_gradients_derived(kept, monkeypatch):
    monkeypatch.setattr(gradients, "KEPT", kept)
    fast, plain, inputs = case("attention", "float64")
    unknown = [tf.TensorSpec([None] * 4, tf.float64) for _ in inputs]

    @tf.function(input_signature=unknown)
    def graph(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = fast(*inputs)
        upstream = numbers((2, 48, 4, 6), "float64", seed=9)
        return value, *tape.gradient(value, inputs, upstream)

    for ours, derived in zip(graph(*inputs), run(plain, inputs), strict=True):
        np.testing.assert_allclose(ours, derived, rtol=1e-6, atol=1e-6)


def test_float32_products_with_a_transposed_kernel_are_products():
    gradients._product_transposing.cache_clear()
    fast, plain, inputs = case("tanh", "float32")
    for ours, derived in zip(run(fast, inputs), run(plain, inputs), strict=True):
        np.testing.assert_allclose(ours, derived, rtol=1e-4, atol=1e-4)
    assert gradients._product_transposing.cache_info().currsize == 1


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_loses_no_more_than_derived_gradients_do(name):
    fast, plain, inputs = case(name, "bfloat16")
    truth = run(case(name, "float32")[1], [tf.cast(x, "float32") for x in inputs])
    for ours, derived, true in zip(run(fast, inputs), run(plain, inputs), truth, strict=True):
        assert abs(ours - true).mean() <= 1.05 * abs(derived - true).mean()


@pytest.mark.parametrize("low", [0.0, 0.01])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_of_logits_has_the_gradient_derived(dtype, low):
    targets = np.array([[3, 0, 8], [1, 1, 5]])
    inputs = [numbers((2, 3, 9), dtype, scale=5.0)]
    sides = [
        run(functools.partial(function, targets=targets, low=low), inputs)
        for function in (gradients.log_partition, losses.log_partition)
    ]
    for ours, derived in zip(*sides, strict=True):
        np.testing.assert_allclose(ours, derived, rtol=1e-5, atol=1e-5)


def test_a_frozen_weight_asked_for_its_gradient_gets_none_not_0():
    layer = norm_layer("float32")
    x = numbers((2, 4, 6), "float32")
    with tf.GradientTape() as tape:
        tape.watch([x, layer.weight.value])
        _, value, _ = gradients.residual_and_norms(layer, x)
    of_x, of_weight = tape.gradient(value, [x, layer.weight.value])
    assert np.abs(of_x).max() > 0
    assert of_weight is None


def test_what_is_compiled_serves_every_shape():
    layer = norm_layer("float32")
    for rows in (2, 3, 5):
        x = numbers((rows, 4, 6), "float32")
        _, value, _ = gradients.residual_and_norms(layer, x)
        np.testing.assert_allclose(value, layer(x), rtol=1e-5)


def test_steps_of_large_frozen_backbones_are_fast_on_cpu(monkeypatch):
    x, y, weight = toy.batch()
    backbone, prompts, used = toy.backbone(gain=None, dtype="float64"), [], []
    for large in (10**9, 1):
        monkeypatch.setattr(devices, "LARGE", large)
        model = PromptedT5(backbone, prompt_length=5)
        # Adafactor would divide the float32 loss' rounding by small gradients.
        model.compile(keras.optimizers.SGD(10.0))
        model.soft_prompt.prompt.assign(numbers(model.prompt.shape, "float32"))
        model.fit(x, y, 4, sample_weight=weight, epochs=3, verbose=0)
        prompts.append(model.prompt)
        used.append(model.kernels_used)
    assert used == ["plain", "fast"]
    assert not np.allclose(prompts[0], numbers(prompts[0].shape, "float32"), atol=1e-2)
    np.testing.assert_allclose(*prompts, rtol=1e-5, atol=1e-6)
