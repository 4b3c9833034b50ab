"""Norms, gates, attention and the logits of a frozen T5, with gradients that keep little.

Left to itself, TensorFlow keeps every step of an activation for its gradient and goes over memory
once for each. In a training step (`by_hand`) the gradients are written out and start from the
inputs alone; compiled, what is computed number by number is one pass, by XLA, between TensorFlow's
own matrix products. Elsewhere the backbone's layers do as they always do.
"""

import contextlib
import contextvars
import functools
import math

import keras
from keras import ops

from keras_spot.converters.architecture import TANH_GELU

_way = contextvars.ContextVar("way", default=None)

# The tanh approximation of GELU is x (1 + tanh(u)) / 2, u = sqrt(2 / pi) (x + 0.044715 x^3)
# (Hendrycks and Gimpel 2016, section 2); the exact one is x times the normal distribution's
# integral up to x.
_LINEAR = math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR


@contextlib.contextmanager
def by_hand(way="plain"):
    """Use the gradients of this module in what is traced in here.

    Args:
        way: `"plain"` (default); `"compiled"`: each through XLA on CPU, which takes about a tenth
            of a second for each shape; `"whole"`: XLA compiles all of what is traced, on CPU.
    """
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)


def norm(layer, x):
    """Return `x` `[..., H]` behind a frozen `T5LayerNorm`.

    `x w / sqrt(mean(x^2) + epsilon)` (Zhang and Sennrich 2019); by hand in float32 at least.
    """
    if _way.get() is None:
        return layer(x)
    return _norm(layer.epsilon)(x, ops.cast(layer.weight, x.dtype))


def residual_norm(layer, x, uses):
    """Return `x` `[..., H]` as it is, and `uses` times behind a frozen `T5LayerNorm`.

    By hand the gradients of all that is returned are added up within the norm's own.
    """
    if _way.get() is None:
        return x, *[layer(x)] * uses
    return _residual_norm(layer.epsilon, uses)(x, ops.cast(layer.weight, x.dtype))


def gated(projector, gate_projector, x, gate):
    """Return the activated projection of `x` times the projection of `gate`, `[..., F]`.

    Args:
        projector: a frozen `Dense` layer without bias, its activation included.
        gate_projector: another, linear.
        x: `[..., H]`.
        gate: `[..., H]`; the same numbers, with a gradient of its own.
    """
    kind = None if _way.get() is None else _gelu(projector.activation)
    if kind is None:
        return projector(x) * gate_projector(gate)
    sides = (projector, x), (gate_projector, gate)
    return _gated(kind)(*(_product(y, ops.cast(p.kernel, y.dtype)) for p, y in sides))


def attention(query, key, value, bias, dropout):
    """Return the values' rows in sum `[B, n, Q, d]` as `softmax(query key^T + bias)` has them.

    By hand the weights `[B, n, Q, K]` are not kept: of everything in a layer they alone grow with
    the square of the length. The way back takes one more product to have them again.

    Args:
        query: `[B, n, Q, d]`.
        key: `[B, n, K, d]`.
        value: `[B, n, K, d]`.
        bias: `[1 or B, 1 or n, Q, K]`, which by hand has no gradient.
        dropout: a layer through which the weights go.
    """
    if _way.get() is not None and not dropout.rate:
        return _lean()(query, key, value, bias)
    return _mixed(dropout(_weights(query, key, bias)), value)


def absorbed(query, states, key, value, bias, dropout):
    """Return cross-attention `[B, Q, n, d]` over states `[B, K, H]` that are never projected.

    The key projection is folded into the query and the value projection into what it finds.

    Args:
        query: `[B, Q, n, d]`.
        states: `[B, K, H]`.
        key: kernel of the projection to keys, `[n, H, d]`.
        value: kernel of the projection to values, `[n, H, d]`.
        bias: `[1 or B, 1, K]`, which by hand has no gradient.
        dropout: a layer through which the weights go.
    """
    if _way.get() is not None and not dropout.rate:
        return _lean_absorbed()(query, states, key, value, bias)
    weights = dropout(_row_weights(_folded(query, key), states, bias))
    return _unfolded(ops.matmul(weights, states), value)


def log_partition(logits, targets, low=0.0):
    """Return the log-partition and the expected logit of every position, `[2, B, D]` in float32.

    By hand only the logits are kept, and the way back is one pass over them.

    Args:
        logits: `[B, D, V]`.
        targets: `[B, D]` int32.
        low: in the expectation, the share of each token but the target. Default 0.
    """
    if _way.get() is None:
        return _log_partition(logits, targets, low)
    value, slope = _over_logits(low, _way.get() == "compiled")

    def both(logits):
        found = value(logits, targets)
        return found, lambda upstream: slope(upstream, logits, targets, found[0])

    return _with_gradient(both)(logits)


def _log_partition(logits, targets, low):
    logits = ops.cast(logits, "float32")
    picked = ops.squeeze(ops.take_along_axis(logits, targets[..., None], axis=-1), -1)
    if low:
        picked = (1.0 - low * logits.shape[-1]) * picked + low * ops.sum(logits, axis=-1)
    return ops.stack([ops.logsumexp(logits, axis=-1), picked])


@functools.cache
def _over_logits(low, compiled):
    def value(logits, targets):
        return _log_partition(logits, targets, low)

    def slope(upstream, logits, targets, log_z):
        """The gradients' sum: of the log-partition it is the softmax, of the rest the shares."""
        classes = logits.shape[-1]
        softmax = ops.exp(ops.cast(logits, "float32") - log_z[..., None])
        hit = ops.equal(ops.arange(classes, dtype="int32"), targets[..., None])
        shares = ops.where(hit, 1.0 - low * (classes - 1), low)
        found = upstream[0][..., None] * softmax + upstream[1][..., None] * shares
        return ops.cast(found, logits.dtype)

    if not compiled:
        return value, slope
    import tensorflow as tf

    return [tf.function(function, jit_compile=True) for function in (value, slope)]


def _product(x, kernel):
    """Return `x kernel`.

    TensorFlow's float32 product with a transposed kernel, the way back, takes a quarter longer
    where its rows are a multiple of 4 KiB apart, as most sizes' feed-forward kernels have them.
    """
    narrow = keras.backend.standardize_dtype(x.dtype) != "float32"
    if narrow or kernel.shape[1] % 1024 or _way.get() != "compiled":
        return ops.matmul(x, kernel)
    return _turned_back()(x, kernel)


@functools.cache
def _turned_back():
    import tensorflow as tf

    # Compiled, so that TensorFlow does not make one product of both again.
    transpose = tf.function(tf.transpose, jit_compile=True)

    def gradient(upstream, x, kernel):
        return ops.matmul(upstream, transpose(kernel))

    return _differentiated(ops.matmul, gradient)


def _weights(query, key, bias):
    return ops.softmax(ops.einsum("bnqd,bnkd->bnqk", query, key) + bias, axis=-1)


def _mixed(weights, value):
    return ops.einsum("bnqk,bnkd->bnqd", weights, value)


@functools.cache
def _lean():
    scores = _passed(_scores)

    def forward(query, key, value, bias):
        return _mixed(_weights(query, key, bias), value)

    def gradient(upstream, query, key, value, bias):
        weights = _weights(query, key, bias)
        of_scores = scores(ops.einsum("bnqd,bnkd->bnqk", upstream, value), weights)
        return (
            _mixed(of_scores, key),
            *(
                ops.matmul(ops.transpose(left, (0, 1, 3, 2)), right)
                for left, right in ((of_scores, query), (weights, upstream))
            ),
        )

    return _differentiated(forward, gradient)


def _folded(x, kernel):
    """`[B, Q, n, d]` times a kernel `[n, H, d]` -> `[B, n Q, H]`."""
    rows, heads = ops.shape(x)[1], kernel.shape[0]
    x = ops.transpose(ops.reshape(x, (-1, *kernel.shape[::2])), (1, 0, 2))
    x = ops.matmul(x, ops.transpose(kernel, (0, 2, 1)))
    x = ops.transpose(ops.reshape(x, (heads, -1, rows, kernel.shape[1])), (1, 0, 2, 3))
    return ops.reshape(x, (-1, heads * rows, kernel.shape[1]))


def _unfolded(x, kernel):
    """`[B, n Q, H]` times a kernel `[n, H, d]` -> `[B, Q, n, d]`."""
    rows, heads = ops.shape(x)[1] // kernel.shape[0], kernel.shape[0]
    x = ops.transpose(ops.reshape(x, (-1, heads, rows, kernel.shape[1])), (1, 0, 2, 3))
    x = ops.matmul(ops.reshape(x, (heads, -1, kernel.shape[1])), kernel)
    return ops.reshape(ops.transpose(x, (1, 0, 2)), (-1, rows, *kernel.shape[::2]))


def _row_weights(query, states, bias):
    return ops.softmax(ops.matmul(query, ops.transpose(states, (0, 2, 1))) + bias, axis=-1)


def _scores(upstream, weights):
    return weights * (upstream - _row_sums(upstream * weights))


def _row_means(x):
    return _row_sums(x) / ops.cast(ops.shape(x)[-1], x.dtype)


def _row_sums(x):
    """Return the sums of `x` `[..., n]` over its last axis, `[..., 1]`.

    XLA on CPU sums rows in windows, slowly; it multiplies at the speed of memory.
    """
    if _way.get() not in ("compiled", "whole"):
        return ops.sum(x, axis=-1, keepdims=True)
    return ops.matmul(x, ops.ones((ops.shape(x)[-1], 1), x.dtype))


@functools.cache
def _lean_absorbed():
    scores = _passed(_scores)

    def both(query, states, key, value, bias):
        query = _folded(query, key)
        weights = _row_weights(query, states, bias)

        def gradient(upstream):
            upstream = _folded(upstream, value)
            of_weights = ops.matmul(upstream, ops.transpose(states, (0, 2, 1)))
            of_scores = scores(of_weights, weights)
            # The states are looked up twice, as keys and as values: one product for both.
            left = ops.concatenate([of_scores, weights], axis=1)
            right = ops.concatenate([query, upstream], axis=1)
            return (
                _unfolded(ops.matmul(of_scores, states), key),
                ops.matmul(ops.transpose(left, (0, 2, 1)), right),
            )

        return _unfolded(ops.matmul(weights, states), value), gradient

    return _with_gradient(both)


def _gelu(activation):
    """Return the name of a GELU, `None` of another function."""
    if activation is keras.activations.gelu:
        return "exact"
    return "tanh" if activation is keras.saving.get_registered_object(TANH_GELU) else None


@functools.cache
def _norm(epsilon):
    value, gradient = _of_norm(epsilon)
    return _by_hand(value, lambda upstream, *tensors: gradient(*tensors, upstream))


@functools.cache
def _residual_norm(epsilon, uses):
    value, gradient = _of_norm(epsilon)
    value = _passed(value)
    total = _passed(lambda x, weight, own, *others: own + gradient(x, weight, *others))

    def both(x, weight):
        return (x, *[value(x, weight)] * uses), lambda *upstreams: total(
            *_after(upstreams, (x, weight)), *upstreams
        )

    return _with_gradient(both)


def _of_norm(epsilon):
    def parts(x):
        return ops.rsqrt(_row_means(ops.square(x)) + epsilon)

    def value(x, weight):
        return x * parts(x) * weight

    def gradient(x, weight, *upstreams):
        inverse = parts(x)
        unit, upstream = x * inverse, sum(upstreams[1:], upstreams[0]) * weight
        along = _row_means(upstream * unit)
        return inverse * (upstream - unit * along)

    return value, gradient


@functools.cache
def _gated(kind):
    def share(x):
        """The factor that makes `x` its GELU."""
        if kind == "tanh":
            return 0.5 + 0.5 * ops.tanh(x * (_LINEAR + _CUBIC * ops.square(x)))
        return 0.5 + 0.5 * ops.erf(x * math.sqrt(0.5))

    def slope(x, y, s):
        """The derivative of the GELU `y = x s`."""
        if kind == "tanh":
            return s + 2.0 * y * (1.0 - s) * (_LINEAR + 3 * _CUBIC * ops.square(x))
        return s + x * ops.exp(-0.5 * ops.square(x)) * (1 / math.sqrt(2 * math.pi))

    def value(x, gate):
        return x * share(x) * gate

    def gradient(upstream, x, gate):
        s = share(x)
        y = x * s
        return upstream * gate * slope(x, y, s), upstream * y

    return _by_hand(value, gradient)


def _by_hand(value, gradient):
    """Return `value` of tensors, differentiated by `gradient(upstream, *tensors)`, both passes."""
    return _differentiated(_passed(value), _passed(gradient))


def _passed(function):
    """Return the function of tensors, number by number, as one pass where that is asked for.

    Everything that it returns has the shape of its first tensor.
    """
    plain = _wide(function)
    compiled = functools.cache(lambda: _compile(plain))
    return lambda *tensors: (compiled() if _way.get() == "compiled" else plain)(*tensors)


def _differentiated(value, gradient):
    def both(*tensors):
        return value(*tensors), lambda upstream: gradient(upstream, *_after([upstream], tensors))

    return _with_gradient(both)


def _with_gradient(both):
    """Return the function of tensors whose value and gradient `both` returns.

    The gradient takes one upstream for each value and has the gradients of the first tensors; the
    others', frozen, are 0.
    """

    @ops.custom_gradient
    def function(*tensors):
        value, gradient = both(*tensors)

        def grad(*args, upstream=None):
            found = gradient(*keras.tree.flatten(args if upstream is None else upstream))
            found = found if isinstance(found, tuple) else (found,)
            found = (*found, *map(ops.zeros_like, tensors[len(found) :]))
            return found if len(tensors) > 1 else found[0]

        return value, grad

    return function


def _wide(function):
    """Return the function of tensors, computed in float32 at least; results have their dtype."""

    def wide(*tensors):
        dtype = tensors[0].dtype
        narrow = keras.backend.standardize_dtype(dtype) in ("bfloat16", "float16")
        found = function(*(ops.cast(t, "float32") for t in tensors) if narrow else tensors)
        return keras.tree.map_structure(lambda y: ops.cast(y, dtype), found) if narrow else found

    return wide


def _compile(function):
    """Return the function through XLA, compiled anew for new shapes but traced once."""
    import tensorflow as tf

    jitted = tf.function(function, jit_compile=True, reduce_retracing=True)

    def compiled(*tensors):
        found = jitted(*tensors)
        for result in keras.tree.flatten(found):
            result.set_shape(tensors[0].shape)
        return found

    return compiled


def _after(upstreams, tensors):
    """Return the tensors, not to be touched before `upstreams` are there.

    TensorFlow would else find that both ways begin alike, and keep what it could compute again.
    """
    if keras.config.backend() != "tensorflow":
        return tensors
    import tensorflow as tf

    with tf.control_dependencies(upstreams):
        return [tf.identity(tensor) for tensor in tensors]
