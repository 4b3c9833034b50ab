"""The gradient of a prompt on either backend, and whether it is the loss's own slope."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_spot.base.errors import invalid

__all__ = [
    "AGREEMENT",
    "DIRECTIONS",
    "STEP",
    "check_embedding",
    "check_gradients",
    "loss_and_gradients",
]

DIRECTIONS = 16
STEP = 0.02  # of a prompt's own size
AGREEMENT = 0.8  # cosine of the slopes; rounding within a quantised backbone leaves 0.98
_ROWS, _TOKENS, _TARGETS = 2, 8, 4


def loss_and_gradients(model: Any, data: Any) -> tuple[float, list[np.ndarray]]:
    """Return the loss of a training step and the gradients of the trainable variables.

    Args:
        model: a compiled `PromptedT5`.
        data: `(x, y, sample_weight)`.
    """
    x, y, weight = data
    if keras.config.backend() == "jax":
        loss, gradients = _compiled(model, data, gradients=True)()
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True), weight, training=True)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return float(loss), [np.asarray(gradient) for gradient in gradients]


def check_embedding(backbone: Any) -> None:
    """Raise InvalidArgument for a quantised token embedding, behind which nothing can train."""
    mode = backbone.token_embedding.quantization_mode
    if mode:
        rule = "must keep its token embedding in float to train: Keras' quantised one has no "
        raise invalid("backbone", f"{rule}gradient", f"quantization_mode={mode!r}")


def check_gradients(model: Any) -> None:
    """Raise where the prompt's gradient is not the slope of the loss.

    The loss is taken a little to both sides of the prompt along random directions; its slopes must
    be those that the gradient promises. It takes some dozens of steps on two short rows.

    Raises:
        InvalidArgument: they are not: the backbone computes something without a gradient.
    """
    check_embedding(model.backbone)
    data, rng = _batch(model), np.random.default_rng(0)
    (variable, *_) = model.trainable_variables
    values = keras.ops.convert_to_numpy(variable)
    _, (gradient, *_) = loss_and_gradients(model, data)
    size = STEP * float(np.sqrt(np.mean(np.square(values)))) or STEP
    directions = rng.normal(size=(DIRECTIONS, *values.shape)).astype("float32")
    slopes, promised, loss_at = [], [], _loss_function(model, data)
    try:
        for direction in directions:
            losses = []
            for side in (1, -1):
                variable.assign(values + side * size * direction)
                losses.append(float(loss_at()))
            slopes.append((losses[0] - losses[1]) / (2 * size))
            promised.append(float(np.sum(gradient * direction)))
    finally:
        variable.assign(values)
    agreement = _cosine(np.asarray(slopes), np.asarray(promised))
    if not agreement >= AGREEMENT:
        rule = "must have a gradient, which what it is quantised with has not; use `quantize`"
        received = f"the loss's slopes and the gradient have a cosine of {agreement:.2f}"
        raise invalid("backbone", rule, received)


def _loss_function(model: Any, data: Any) -> Callable[[], Any]:
    """Return what computes the loss with the present values of the trainable variables."""
    if keras.config.backend() == "jax":
        return _compiled(model, data, gradients=False)
    x, y, weight = data
    return lambda: model.compute_loss(x, y, model(x, training=True), weight, training=True)


def _compiled(model: Any, data: Any, gradients: bool) -> Callable[[], Any]:
    """Return the loss, or the loss and the gradients, as a program that JAX compiles once.

    It takes the weights as arguments: constants would be held a second time.
    """
    import jax

    def loss_of(trainable: Any, others: Any, x: Any, y: Any, weight: Any) -> Any:
        outputs, _ = model.stateless_call(trainable, others, x, training=True)
        with keras.StatelessScope():
            return model.compute_loss(x, y, outputs, weight, training=True)

    program = jax.jit(jax.value_and_grad(loss_of) if gradients else loss_of)

    def compute() -> Any:
        kinds = model.trainable_variables, model.non_trainable_variables
        return program(*([variable.value for variable in kind] for kind in kinds), *data)

    return compute


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-30))


def _batch(model: Any) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    ids = rng.integers(3, model.backbone.vocabulary_size, (_ROWS, _TOKENS)).astype("int32")
    y = rng.integers(3, model.backbone.vocabulary_size, (_ROWS, _TARGETS)).astype("int32")
    x = {
        "encoder_token_ids": ids,
        "encoder_padding_mask": np.ones_like(ids),
        "decoder_token_ids": np.pad(y[:, :-1], [[0, 0], [1, 0]]),
        "decoder_padding_mask": np.ones_like(y),
    }
    if model.num_prompts is not None:
        x["prompt_index"] = np.zeros(_ROWS, "int32")
    return x, y, np.ones(y.shape, "float32")
