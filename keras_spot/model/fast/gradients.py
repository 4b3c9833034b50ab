"""A frozen T5's feed-forward blocks, attention and loss, their gradients written out.

The gradients of weights are left out: nothing here may stand before a weight that trains.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_spot.backbones.converters.architecture import TANH_GELU
from keras_spot.base.types import Tensor
from keras_spot.model import losses
from keras_spot.model.fast import xla
from keras_spot.model.plain import attention as att

__all__ = [
    "KEPT",
    "attend",
    "gated_gelu",
    "gelu_kind",
    "log_partition",
    "product",
    "residual_and_norms",
]

# The tanh approximation of GELU is x (1 + tanh(u)) / 2, u = sqrt(2 / pi) (x + 0.044715 x^3)
# (Hendrycks and Gimpel 2016, section 2); the exact one is x times the normal distribution's
# integral up to x.
_LINEAR = math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR

KEPT = 2**21  # attention weights of a layer that are kept for the backward pass


# === Norm ===


def residual_and_norms(layer: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return `x` for the residual, and twice `x` `[.., H]` behind a frozen `T5LayerNorm`.

    That is `x w / sqrt(mean(x^2) + epsilon)`. The gradients of all three are added up within the
    norm's own pass over memory.
    """
    return _residual_and_norms(layer.epsilon)(x, tf.cast(layer.weight, x.dtype))


@functools.cache
def _residual_and_norms(epsilon: float) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def inverse(x):
        return tf.math.rsqrt(xla.row_means(tf.square(x)) + epsilon)

    @xla.one_pass
    def norm(x, weight):
        return x * inverse(x) * weight

    @xla.one_pass
    def total(x, weight, of_residual, of_norm, of_other_norm):
        # With r = 1 / sqrt(mean(x^2) + epsilon) and unit = x r, for the norms' upstream gradient g:
        # r (g w - unit mean(g w unit)).
        r = inverse(x)
        unit, along = x * r, (of_norm + of_other_norm) * weight
        return of_residual + r * (along - unit * xla.row_means(along * unit))

    def value_and_gradient(x, weight):
        def gradient(*upstreams):
            return total(*xla.after(upstreams, (x, weight)), *upstreams)

        y = norm(x, weight)
        return (x, y, y), gradient

    return xla.with_gradient(value_and_gradient)


# === Gated GELU ===


def gelu_kind(activation: Any) -> str | None:
    """Return `"exact"` or `"tanh"` of a GELU, None of another function."""
    if activation is keras.activations.gelu:
        return "exact"
    return "tanh" if activation is keras.saving.get_registered_object(TANH_GELU) else None


@functools.cache
def gated_gelu(kind: str) -> Callable[..., Tensor]:
    """Return the function `gelu(x) gate` of two `[.., F]`."""

    def share(x):
        """The factor that makes `x` its GELU."""
        if kind == "tanh":
            return 0.5 + 0.5 * tf.tanh(x * (_LINEAR + _CUBIC * tf.square(x)))
        return 0.5 + 0.5 * tf.math.erf(x * math.sqrt(0.5))

    def slope(x, gelu, share):
        """The derivative of the GELU."""
        if kind == "tanh":
            inner = _LINEAR + 3 * _CUBIC * tf.square(x)
            return share + 2.0 * gelu * (1.0 - share) * inner
        return share + x * tf.exp(-0.5 * tf.square(x)) * (1 / math.sqrt(2 * math.pi))

    def value(x, gate):
        return x * share(x) * gate

    def gradient(upstream, x, gate):
        s = share(x)
        gelu = x * s
        return upstream * gate * slope(x, gelu, s), upstream * gelu

    return xla.differentiated(xla.one_pass(value), xla.one_pass(gradient))


def product(projector: Any, x: Tensor) -> Tensor:
    """Return `x kernel` of a frozen `Dense` layer without bias and activation.

    TensorFlow's float32 product with a transposed kernel, in the backward pass, takes a quarter
    longer where the kernel's rows are a multiple of 4 KiB apart, as most sizes' feed-forward
    kernels have them: such a kernel is transposed first.
    """
    kernel = tf.cast(projector.kernel, x.dtype)
    if x.dtype != tf.float32 or kernel.shape[1] % 1024:
        return tf.matmul(x, kernel)
    return _product_transposing()(x, kernel)


@functools.cache
def _product_transposing() -> Callable[..., Tensor]:
    def gradient(upstream, x, kernel):
        return tf.matmul(upstream, xla.transpose()(kernel))

    return xla.differentiated(tf.matmul, gradient)


# === Attention ===


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, shared: Sequence[Tensor] | None = None
) -> Tensor:
    """Return `attention.attend` without dropout; the bias has no gradient.

    No more than `KEPT` weights `[n, B, Q, K]` are kept: of everything in a layer they alone grow
    with the square of the length. The backward pass computes others again, by one more
    product.
    """
    return _attention()(query, key, value, *(shared or ()), tf.cast(bias, query.dtype))


@functools.cache
def _attention() -> Callable[..., Tensor]:
    def weights_of(query, key, bias, shared_key=None):
        return tf.nn.softmax(att.attention_scores(query, key, shared_key) + bias)

    def of_scores(of_weights, weights):
        """The softmax' gradient: `weights (g - sum(g weights))`."""
        return weights * (of_weights - xla.row_sums(of_weights * weights))

    softmax_gradient = xla.one_pass(of_scores)

    def value_and_gradient(query, key, value, *others):
        *shared, bias = others
        shared_key, shared_value = shared or (None, None)
        length = shared_key.shape[1] if shared else 0
        weights = weights_of(query, key, bias, shared_key)
        recall = xla.kept(weights, KEPT, weights_of, query, key, bias, *shared[:1])

        def gradient(upstream):
            weights = recall(upstream)
            of_weights = att.attention_scores(upstream, value, shared_value)
            of_scores = softmax_gradient(of_weights, weights)
            of_query = att.weighted_values(of_scores, key, shared_key)
            sides = (of_scores, query), (weights, upstream)
            own = [tf.matmul(left[..., length:], right, transpose_a=True) for left, right in sides]
            of_shared = [
                tf.matmul(_all_rows(left[..., :length]), _all_rows(right), transpose_a=True)
                for left, right in sides[: len(shared)]
            ]
            return of_query, *own, *of_shared

        return att.weighted_values(weights, value, shared_value), gradient

    return xla.with_gradient(value_and_gradient)


def _all_rows(x: Tensor) -> Tensor:
    """`[n, B, Q, W]` -> `[n, B Q, W]`."""
    return tf.reshape(x, (x.shape[0], -1, tf.shape(x)[3]))


# === Loss ===


def log_partition(logits: Tensor, targets: Tensor, low: float = 0.0) -> Tensor:
    """Return `losses.log_partition`; only the logits are kept, and the gradient is one pass."""

    def value_and_gradient(logits):
        value = losses.log_partition(logits, targets, low)
        return value, lambda upstream: _of_logits(low)(upstream, logits, targets, value[0])

    return xla.with_gradient(value_and_gradient)(logits)


@functools.cache
def _of_logits(low: float) -> Callable[..., Tensor]:
    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def gradient(upstream, logits, targets, log_z):
        """The gradients' sum: of the log-partition it is the softmax, of the rest the shares."""
        classes = logits.shape[-1]
        softmax = tf.exp(tf.cast(logits, tf.float32) - log_z[..., None])
        hit = tf.equal(tf.range(classes), tf.cast(targets, tf.int32)[..., None])
        shares = tf.where(hit, 1.0 - low * (classes - 1), low)
        result = upstream[0][..., None] * softmax + upstream[1][..., None] * shares
        return tf.cast(result, logits.dtype)

    return gradient
