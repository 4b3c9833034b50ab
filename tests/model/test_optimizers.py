import keras
import numpy as np
import pytest
from keras import ops

from keras_spot.model.optimizers import Adafactor


def oracle(x, gradients, rate, decay=0.8, weight_decay=0.0, clip=1.0, factored=False):
    """Plain float64 loop over the equations of T5X's Adafactor."""
    x = x.astype("float64")
    v = row = column = 0.0
    for t, g in enumerate(gradients, start=1):
        g = g.astype("float64")
        beta = 1.0 - t ** (-decay)
        squared = g * g + 1e-30
        if factored:
            # the row average runs over the longer axis, here the last one
            row = beta * row + (1 - beta) * squared.mean(axis=1)
            column = beta * column + (1 - beta) * squared.mean(axis=0)
            u = g / np.sqrt(row / row.mean())[:, None] / np.sqrt(column)[None, :]
        else:
            v = beta * v + (1 - beta) * squared
            u = g / np.sqrt(v)
        u = u / max(1.0, np.sqrt(np.mean(u * u)) / clip)
        x = x - rate * u - weight_decay * x
    return x


def gradients(shape, steps=200, seed=0):
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.normal(size=(steps, 1, 1)))
    return (rng.normal(size=(steps, *shape)) * scales * 1e-2 + 1e-3).astype("float32")


def trajectory(optimizer, start, grads):
    variable = keras.Variable(start)
    for g in grads:
        optimizer.apply([ops.convert_to_tensor(g)], [variable])
    return ops.convert_to_numpy(variable)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-5])
def test_two_hundred_steps_equal_the_equations(weight_decay):
    start = np.random.default_rng(1).uniform(-0.5, 0.5, (20, 32)).astype("float32")
    grads = gradients(start.shape)
    actual = trajectory(Adafactor(0.3, weight_decay=weight_decay), start, grads)
    expected = oracle(start, grads, 0.3, weight_decay=weight_decay)
    assert np.abs(actual - expected).max() / np.abs(expected).max() < 1e-6


@pytest.mark.parametrize("shape", [(128, 160), (160, 128)])
def test_large_matrices_are_factored(shape):
    start = np.random.default_rng(1).normal(size=shape).astype("float32")
    grads = gradients(shape, steps=20)
    optimizer = Adafactor(0.1, weight_decay=0.0)
    actual = trajectory(optimizer, start, grads)
    if shape[0] < shape[1]:
        expected = oracle(start, grads, 0.1, factored=True)
    else:
        expected = oracle(start.T, grads.transpose(0, 2, 1), 0.1, factored=True).T
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)
    assert sorted(v.shape[0] for v in optimizer.variables if v.ndim == 1) == [128, 160]


def test_the_papers_prompt_is_not_factored():
    optimizer = Adafactor()
    optimizer.build([keras.Variable(np.zeros((100, 768), "float32"))])
    assert [tuple(v.shape) for v in optimizer.variables if v.ndim] == [(100, 768)]


def test_without_gradient_only_weight_decay_moves():
    actual = trajectory(
        Adafactor(0.3, weight_decay=0.1), np.ones((2, 2), "float32"), np.zeros((1, 2, 2))
    )
    np.testing.assert_allclose(actual, np.full((2, 2), 0.9), rtol=1e-6)


def test_state_is_float32_for_a_bfloat16_variable():
    optimizer = Adafactor()
    variable = keras.Variable(np.ones((2, 2)), dtype="bfloat16")
    optimizer.apply([ops.ones((2, 2), "bfloat16")], [variable])
    assert {v.dtype for v in optimizer.variables if v.ndim == 2} == {"float32"}
    assert variable.dtype == "bfloat16"


def test_serialisation_keeps_every_option():
    options = dict(
        learning_rate=0.5,
        decay_rate=0.7,
        weight_decay=1e-3,
        clipping_threshold=2.0,
        factored=False,
        min_dim_size_to_factor=64,
    )
    config = keras.optimizers.serialize(Adafactor(**options))
    again = keras.optimizers.deserialize(config)
    assert type(again) is Adafactor
    assert again.get_config() == Adafactor(**options).get_config()
    start, grads = np.ones((3, 2), "float32"), gradients((3, 2), 5)
    np.testing.assert_array_equal(
        trajectory(again, start, grads), trajectory(Adafactor(**options), start, grads)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay_rate": 0}, "`decay_rate` must be in (0, 1]. Received: decay_rate=0"),
        ({"weight_decay": -1.0}, "`weight_decay` must be in [0, 1). Received: weight_decay=-1.0"),
        (
            {"clipping_threshold": 0.0},
            "`clipping_threshold` must be positive. Received: clipping_threshold=0.0",
        ),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError) as error:
        Adafactor(**options)
    assert str(error.value) == message
