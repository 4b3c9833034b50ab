import numpy as np
import pytest

from keras_spot import transfer


def test_weights_are_normalised():
    prompts = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    found = transfer.average(prompts, [1, 2, 5])
    expected = (prompts[0] + 2 * prompts[1] + 5 * prompts[2]) / 8
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(transfer.average(prompts), prompts.mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "`weights` must be one non-negative number a prompt. Received: weights=[1]"),
        ([1, -1], "`weights` must be one non-negative number a prompt. Received: weights=[1, -1]"),
        ([0, 0], "`weights` must not all be zero. Received: weights=[0, 0]"),
    ],
)
def test_weights_that_cannot_be(weights, message):
    with pytest.raises(ValueError) as error:
        transfer.average(np.ones((2, 1, 1)), weights)
    assert str(error.value) == message
