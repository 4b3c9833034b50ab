import keras
import numpy as np
import pytest

from keras_spot.model.losses import TokenAccuracy, TokenCrossEntropy


def oracle(y, logits, weight, z_loss, smoothing=0.0):
    """A slow loop over positions, in float64."""
    total = 0.0
    vocabulary = logits.shape[-1]
    for b, d in np.ndindex(y.shape):
        z = logits[b, d].astype("float64")
        log_z = np.log(np.exp(z).sum())
        wanted = np.full(vocabulary, smoothing / (vocabulary - 1))
        wanted[y[b, d]] = 1 - smoothing
        entropy = -sum(w * np.log(w) for w in wanted if w > 0)
        loss = -(wanted * (z - log_z)).sum() - entropy + z_loss * log_z**2
        total += weight[b, d] * loss
    return total / weight.sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_equals_a_loop_over_target_tokens(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 7)).astype("float32") * 3
    y = rng.integers(0, 7, (3, 4))
    weight = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]], "float32")
    actual = TokenCrossEntropy(0.01, smoothing)(y, logits, weight)
    assert float(actual) == pytest.approx(oracle(y, logits, weight, 0.01, smoothing), rel=1e-5)


def test_padding_does_not_count_and_no_targets_give_zero():
    logits, y = np.ones((2, 3, 5), "float32"), np.zeros((2, 3), "int32")
    one = TokenCrossEntropy(0.0)(y, logits, np.array([[1, 0, 0], [0, 0, 0]], "float32"))
    assert float(one) == pytest.approx(np.log(5), rel=1e-6)
    assert float(TokenCrossEntropy()(y, logits, np.zeros((2, 3), "float32"))) == 0.0
    assert float(TokenCrossEntropy(0.0)(y, logits)) == pytest.approx(np.log(5), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_accuracy_counts_target_tokens(dtype):
    logits = np.zeros((2, 3, 4000), "float32")
    likely = np.array([[3000, 3001, 7], [9, 9, 9]])
    np.put_along_axis(logits, likely[..., None], 1, axis=-1)
    metric = TokenAccuracy()
    y, weight = np.array([[3003, 3001, 7], [9, 8, 9]]), np.array([[1, 1, 1], [1, 1, 0]], "float32")
    for rows in (slice(1), slice(1, 2)):
        metric.update_state(y[rows], keras.ops.cast(logits[rows], dtype), weight[rows])
    assert float(metric.result()) == pytest.approx(3 / 5)
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is TokenAccuracy
    assert again.get_config() == metric.get_config()


def test_serialisation():
    loss = TokenCrossEntropy(z_loss=0.5, label_smoothing=0.2)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is TokenCrossEntropy
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"z_loss": -1}, "`z_loss` must not be negative. Received: z_loss=-1"),
        (
            {"label_smoothing": 1.0},
            "`label_smoothing` must be in [0, 1). Received: label_smoothing=1.0",
        ),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError) as error:
        TokenCrossEntropy(**options)
    assert str(error.value) == message
