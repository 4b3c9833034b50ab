"""Functions of tensors with gradients written out, each one pass over memory where that is asked.

Left to itself, TensorFlow keeps every step of an activation for its gradient and goes over memory
once for each. In a training step (`by_hand`) the gradients are written out and start from the
inputs alone; compiled, what is computed number by number is one pass, by XLA, between TensorFlow's
own matrix products. Elsewhere everything does as it always does.
"""

import contextlib
import contextvars
import functools
import math

import keras
from keras import ops

_way = contextvars.ContextVar("way", default=None)


@contextlib.contextmanager
def by_hand(way="plain"):
    """Use gradients written out in what is traced in here.

    Args:
        way: `"plain"` (default); `"compiled"`: each through XLA on CPU, which takes about a tenth
            of a second for each shape; `"whole"`: XLA compiles all of what is traced, on CPU.
    """
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)


def way():
    """Return the way that is used here, see `by_hand`; None outside."""
    return _way.get()


def one_pass(function):
    """Return the function of tensors, number by number, as one pass where that is asked for.

    Everything that it returns has the shape of its first tensor.
    """
    plain = _wide(function)
    compiled = functools.cache(lambda: _compile(plain))
    return lambda *tensors: (compiled() if _way.get() == "compiled" else plain)(*tensors)


def differentiated(value, gradient):
    """Return `value` of tensors, with the gradient `gradient(upstream, *tensors)`."""

    def both(*tensors):
        return value(*tensors), lambda upstream: gradient(upstream, *after([upstream], tensors))

    return with_gradient(both)


def with_gradient(both):
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


def after(upstreams, tensors):
    """Return the tensors, not to be touched before `upstreams` are there.

    TensorFlow would else find that both ways begin alike, and keep what it could compute again.
    """
    if keras.config.backend() != "tensorflow":
        return tensors
    import tensorflow as tf

    with tf.control_dependencies(upstreams):
        return [tf.identity(tensor) for tensor in tensors]


def kept(value, limit, function, *tensors):
    """Return a function of an upstream that returns `value`, which is `function` of the tensors.

    No more than `limit` numbers are kept for that; others are computed again. Of an unknown shape
    that is seen as it runs where the way is `"compiled"`; elsewhere it is computed again.
    """

    def again(upstream):
        return function(*after([upstream], tensors))

    if None not in value.shape:
        return again if math.prod(value.shape) > limit else lambda upstream: value
    # XLA, which compiles a GPU's plain steps, wants both sides of a choice to have one shape.
    if _way.get() != "compiled":
        return again
    import tensorflow as tf

    few = tf.size(value) <= limit
    held = tf.cond(few, lambda: value, lambda: tf.zeros([0] * len(value.shape), value.dtype))

    def recall(upstream):
        found = after([upstream], tensors)
        result = tf.cond(few, lambda: held, lambda: function(*found))
        result.set_shape(value.shape)
        return result

    return recall


def row_means(x):
    """Return the means of `x` `[..., n]` over its last axis, `[..., 1]`; see `row_sums`."""
    return row_sums(x) / ops.cast(ops.shape(x)[-1], x.dtype)


def row_sums(x):
    """Return the sums of `x` `[..., n]` over its last axis, `[..., 1]`.

    XLA on CPU sums rows in windows, slowly; it multiplies at the speed of memory.
    """
    if _way.get() not in ("compiled", "whole"):
        return ops.sum(x, axis=-1, keepdims=True)
    return ops.matmul(x, ops.ones((ops.shape(x)[-1], 1), x.dtype))


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
