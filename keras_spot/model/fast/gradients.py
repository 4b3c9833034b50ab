"""Norms, gates, products and attention of a frozen T5, with gradients that keep little.

In a training step (`passes.by_hand`) the gradients are written out; elsewhere the backbone's layers
do as they always do.
"""

import functools
import math

import keras
from keras import ops

from keras_spot.backbones.converters.architecture import TANH_GELU
from keras_spot.model.fast import passes

# The tanh approximation of GELU is x (1 + tanh(u)) / 2, u = sqrt(2 / pi) (x + 0.044715 x^3)
# (Hendrycks and Gimpel 2016, section 2); the exact one is x times the normal distribution's
# integral up to x.
_LINEAR = math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR

KEPT = 2**21  # attention weights of a layer that are kept for the way back


def norm(layer, x):
    """Return `x` `[..., H]` behind a frozen `T5LayerNorm`.

    `x w / sqrt(mean(x^2) + epsilon)` (Zhang and Sennrich 2019); by hand in float32 at least.
    """
    if passes.way() is None:
        return layer(x)
    return _norm(layer.epsilon)(x, ops.cast(layer.weight, x.dtype))


def residual_norm(layer, x, uses):
    """Return `x` `[..., H]` as it is, and `uses` times behind a frozen `T5LayerNorm`.

    By hand the gradients of all that is returned are added up within the norm's own.
    """
    if passes.way() is None:
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
    kind = None if passes.way() is None else _gelu(projector.activation)
    if kind is None or projector.quantization_mode:
        return projector(x) * gate_projector(gate)
    sides = (projector, x), (gate_projector, gate)
    return _gated(kind)(*(_product(y, ops.cast(p.kernel, y.dtype)) for p, y in sides))


def attention(query, key, value, bias, dropout, *prompt):
    """Return the values' rows in sum `[B, n, Q, d]` as `softmax(query key^T + bias)` has them.

    By hand no more than `KEPT` weights `[B, n, Q, K]` are kept: of everything in a layer they alone
    grow with the square of the length. The way back takes one more product to have others again.

    Args:
        query: `[B, n, Q, d]`.
        key: `[B, n, K, d]`.
        value: `[B, n, K, d]`.
        bias: `[1 or B, 1 or n, Q, K]`, which by hand has no gradient.
        dropout: a layer through which the weights go.
        *prompt: keys and values `[n, P, d]` of what all rows have before their own, if anything.
            The heads come before the rows then, `[n, B, Q, d]` and `[n, B, K, d]`, so that the
            rows' queries are one matrix a head; bias `[n, B, Q, P + K]`.
    """
    if passes.way() is not None and not dropout.rate:
        return _lean()(query, key, value, *prompt, bias)
    weights = _weights(query, key, bias, *prompt[:1])
    return _mixed(dropout(weights), value, *prompt[1:])


def absorbed(query, states, key, value, bias, dropout, *prompt):
    """Return cross-attention `[B, Q, n, d]` over states `[B, K, H]` that are never projected.

    The key projection is folded into the query and the value projection into what it finds.

    Args:
        query: `[B, Q, n, d]`.
        states: `[B, K, H]`.
        key: kernel of the projection to keys, `[n, H, d]`.
        value: kernel of the projection to values, `[n, H, d]`.
        bias: `[1 or B, 1, K]`, with a prompt `[1 or B, 1, P + K]`; by hand it has no gradient.
        dropout: a layer through which the weights go.
        *prompt: keys and values `[n, P, d]` of what all rows have before their states, if anything.
            For those the rows' queries are one matrix a head.
    """
    if passes.way() is not None and not dropout.rate:
        return _lean_absorbed()(query, states, *prompt, key, value, bias)
    rows, query = ops.shape(query)[1], _by_heads(query)
    scores = _row_products(query, rows, _folded(query, key, rows), states, *prompt[:1])
    weights = dropout(ops.softmax(scores + bias, axis=-1))
    return _with_heads(_row_mixed(weights, states, value, *prompt[1:]), rows)


def logits(embedding, x):
    """Return the logits `[B, D, V]` of `x` `[B, D, H]` by a frozen `ReversibleEmbedding`."""
    plain = not (embedding.tie_weights or embedding.quantization_mode or embedding.logit_soft_cap)
    if passes.way() != "compiled" or not plain or embedding.reverse_dtype:
        return embedding(x, reverse=True)
    return _from_the_left()(x, ops.cast(embedding.reverse_embeddings, x.dtype))


@functools.cache
def _from_the_left():
    def gradient(upstream, x, kernel):
        # The kernel is read as it lies; as a transposed right side it would be packed anew.
        rows = ops.reshape(upstream, (-1, kernel.shape[1]))
        return ops.reshape(ops.transpose(ops.matmul(kernel, ops.transpose(rows))), ops.shape(x))

    return passes.differentiated(ops.matmul, gradient)


def _product(x, kernel):
    """Return `x kernel`.

    TensorFlow's float32 product with a transposed kernel, the way back, takes a quarter longer
    where its rows are a multiple of 4 KiB apart, as most sizes' feed-forward kernels have them.
    """
    narrow = keras.backend.standardize_dtype(x.dtype) != "float32"
    if narrow or kernel.shape[1] % 1024 or passes.way() != "compiled":
        return ops.matmul(x, kernel)
    return _turned_back()(x, kernel)


@functools.cache
def _turned_back():
    import tensorflow as tf

    # Compiled, so that TensorFlow does not make one product of both again.
    transpose = tf.function(tf.transpose, jit_compile=True)

    def gradient(upstream, x, kernel):
        return ops.matmul(upstream, transpose(kernel))

    return passes.differentiated(ops.matmul, gradient)


def _products(query, key, prompt=None):
    """Return products `[.., Q, (P +) K]` of rows, before those with the rows of a prompt."""
    found = ops.matmul(query, _turned(key))
    if prompt is None:
        return found
    before = ops.matmul(_together(query), _turned(prompt))
    before = ops.reshape(before, (*ops.shape(query)[:3], prompt.shape[1]))
    return ops.concatenate([before, found], axis=-1)


def _weights(query, key, bias, prompt=None):
    return ops.softmax(_products(query, key, prompt) + bias, axis=-1)


def _mixed(weights, value, prompt=None):
    """Return the sums `[.., Q, d]` that weights have, see `_products`."""
    length = 0 if prompt is None else prompt.shape[1]
    found = ops.matmul(weights[..., length:], value)
    if prompt is None:
        return found
    before = ops.matmul(_together(weights[..., :length]), prompt)
    return found + ops.reshape(before, ops.shape(found))


def _together(x):
    """`[n, B, Q, W]` -> `[n, B Q, W]`."""
    return ops.reshape(x, (x.shape[0], -1, ops.shape(x)[3]))


def _turned(x):
    """`[.., Q, W]` -> `[.., W, Q]`."""
    *lead, last, width = range(len(x.shape))
    return ops.transpose(x, (*lead, width, last))


@functools.cache
def _lean():
    scores = passes.one_pass(_scores)

    def both(query, key, value, *others):
        *prompt, bias = others
        of_key, of_value = prompt or (None, None)
        found = _weights(query, key, bias, of_key)
        recall = passes.kept(found, KEPT, _weights, query, key, bias, *prompt[:1])

        def gradient(upstream):
            weights = recall(upstream)
            of_scores = scores(_products(upstream, value, of_value), weights)
            sides = (of_scores, query), (weights, upstream)
            length = of_key.shape[1] if prompt else 0
            return (
                _mixed(of_scores, key, of_key),
                *(ops.matmul(_turned(left[..., length:]), right) for left, right in sides),
                *(
                    ops.matmul(_turned(_together(left[..., :length])), _together(right))
                    for left, right in sides[: len(prompt)]
                ),
            )

        return _mixed(found, value, of_value), gradient

    return passes.with_gradient(both)


def _by_heads(x):
    """`[B, Q, n, d]` -> `[n, B Q, d]`."""
    return ops.reshape(ops.transpose(x, (2, 0, 1, 3)), (x.shape[2], -1, x.shape[3]))


def _with_heads(x, queries):
    """`[n, B Q, d]` -> `[B, Q, n, d]`."""
    x = ops.reshape(x, (x.shape[0], -1, queries, x.shape[2]))
    return ops.transpose(x, (1, 2, 0, 3))


def _to_rows(x, queries):
    """`[n, B Q, W]` -> `[B, n Q, W]`."""
    heads, _, width = x.shape
    x = ops.transpose(ops.reshape(x, (heads, -1, queries, width)), (1, 0, 2, 3))
    return ops.reshape(x, (-1, heads * queries, width))


def _to_heads(x, heads):
    """`[B, n Q, W]` -> `[n, B Q, W]`."""
    queries, width = ops.shape(x)[1] // heads, ops.shape(x)[2]
    x = ops.transpose(ops.reshape(x, (-1, heads, queries, width)), (1, 0, 2, 3))
    return ops.reshape(x, (heads, -1, width))


def _folded(x, kernel, queries):
    """`[n, B Q, d]` times a kernel `[n, H, d]` -> `[B, n Q, H]`."""
    return _to_rows(ops.matmul(x, _turned(kernel)), queries)


def _row_products(x, queries, folded, states, prompt=None):
    """Return products of `x` `[n, B Q, d]`, folded `[B, n Q, H]`, `[B, n Q, (P +) K]`.

    With states `[B, K, H]`, and before those of a prompt `[n, P, d]`.
    """
    found = ops.matmul(folded, _turned(states))
    if prompt is None:
        return found
    before = _to_rows(ops.matmul(x, _turned(prompt)), queries)
    return ops.concatenate([before, found], axis=-1)


def _row_mixed(weights, states, kernel, prompt=None):
    """Return the sums `[n, B Q, d]` that weights `[B, n Q, (P +) K]` have, see `_row_products`."""
    heads, length = kernel.shape[0], 0 if prompt is None else prompt.shape[1]
    of_states = ops.matmul(weights[..., length:], states)
    found = ops.matmul(_to_heads(of_states, heads), kernel)
    if prompt is None:
        return found
    return found + ops.matmul(_to_heads(weights[..., :length], heads), prompt)


def _scores(upstream, weights):
    return weights * (upstream - passes.row_sums(upstream * weights))


@functools.cache
def _lean_absorbed():
    scores = passes.one_pass(_scores)

    def both(query, states, *others):
        *prompt, key, value, bias = others
        of_key, of_value = prompt or (None, None)
        rows, heads = ops.shape(query)[1], key.shape[0]
        query = _by_heads(query)
        folded = _folded(query, key, rows)
        weights = ops.softmax(_row_products(query, rows, folded, states, of_key) + bias, axis=-1)

        def gradient(upstream):
            upstream = _by_heads(upstream)
            found = _folded(upstream, value, rows)
            of_scores = scores(_row_products(upstream, rows, found, states, of_value), weights)
            of_query = _with_heads(_row_mixed(of_scores, states, key, of_key), rows)
            # The states are looked up twice, as keys and as values: one product for both.
            left = ops.concatenate([of_scores, weights], axis=1)
            right = ops.concatenate([folded, found], axis=1)
            if not prompt:
                return of_query, ops.matmul(_turned(left), right)
            length = of_key.shape[1]
            of_states = ops.matmul(_turned(left[..., length:]), right)
            of_prompt = [
                ops.matmul(_turned(_to_heads(x[..., :length], heads)), y)
                for x, y in ((of_scores, query), (weights, upstream))
            ]
            return of_query, of_states, *of_prompt

        return _with_heads(_row_mixed(weights, states, value, of_value), rows), gradient

    return passes.with_gradient(both)


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
    value = passes.one_pass(value)
    total = passes.one_pass(lambda x, weight, own, *others: own + gradient(x, weight, *others))

    def both(x, weight):
        return (x, *[value(x, weight)] * uses), lambda *upstreams: total(
            *passes.after(upstreams, (x, weight)), *upstreams
        )

    return passes.with_gradient(both)


def _of_norm(epsilon):
    def parts(x):
        return ops.rsqrt(passes.row_means(ops.square(x)) + epsilon)

    def value(x, weight):
        return x * parts(x) * weight

    def gradient(x, weight, *upstreams):
        inverse = parts(x)
        unit, upstream = x * inverse, sum(upstreams[1:], upstreams[0]) * weight
        along = passes.row_means(upstream * unit)
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
    return passes.differentiated(passes.one_pass(value), passes.one_pass(gradient))
