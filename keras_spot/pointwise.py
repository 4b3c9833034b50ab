"""What a T5 layer computes number by number, with gradients that keep little.

Left to itself, TensorFlow keeps every step of an activation for its gradient and goes over memory
once for each. In a training step (`by_hand`) the gradients are written out and start from the
inputs alone; compiled, each function and each gradient is one pass, by XLA, between TensorFlow's
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

# The tanh approximation of GELU is x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
# (Hendrycks and Gimpel 2016, section 2); the exact one is x times the normal distribution's
# integral up to x.
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR


@contextlib.contextmanager
def by_hand(compiled=False):
    """Use the gradients of this module in what is traced in here.

    Args:
        compiled: through XLA, which takes about a tenth of a second for each shape. Default False.
    """
    token = _way.set("compiled" if compiled else "plain")
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


def gated(projector, x, gate):
    """Return the activated projection of `x` `[..., H]` times `gate` `[..., F]`.

    Args:
        projector: a frozen `Dense` layer without bias, its activation included.
    """
    kind = None if _way.get() is None else _gelu(projector.activation)
    if kind is None:
        return projector(x) * gate
    return _gated(kind)(ops.matmul(x, ops.cast(projector.kernel, x.dtype)), gate)


def _gelu(activation):
    """Return the name of a GELU, `None` of another function."""
    if activation is keras.activations.gelu:
        return "exact"
    return "tanh" if activation is keras.saving.get_registered_object(TANH_GELU) else None


@functools.cache
def _norm(epsilon):
    def parts(x):
        return ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + epsilon)

    def value(x, weight):
        return x * parts(x) * weight

    def gradient(upstream, x, weight):
        inverse = parts(x)
        unit, upstream = x * inverse, upstream * weight
        along = ops.mean(upstream * unit, axis=-1, keepdims=True)
        return inverse * (upstream - unit * along), ops.zeros_like(weight)

    return _by_hand(value, gradient)


@functools.cache
def _gated(kind):
    def share(x):
        """The factor that makes `x` its GELU."""
        if kind == "tanh":
            return ops.sigmoid(x * (_LINEAR + _CUBIC * ops.square(x)))
        return 0.5 + 0.5 * ops.erf(x * math.sqrt(0.5))

    def slope(x, y, s):
        """The derivative of the GELU `y = x s`."""
        if kind == "tanh":
            return s + y * (1.0 - s) * (_LINEAR + 3 * _CUBIC * ops.square(x))
        return s + x * ops.exp(-0.5 * ops.square(x)) * (1 / math.sqrt(2 * math.pi))

    def value(x, gate):
        return x * share(x) * gate

    def gradient(upstream, x, gate):
        s = share(x)
        y = x * s
        return upstream * gate * slope(x, y, s), upstream * y

    return _by_hand(value, gradient)


def _by_hand(value, gradient):
    """Return `value` of tensors, differentiated by `gradient(upstream, *tensors)`."""
    plain = _wide(value), _wide(gradient)
    compiled = functools.cache(lambda: tuple(map(_compile, plain)))

    @ops.custom_gradient
    def function(*tensors):
        forward, backward = compiled() if _way.get() == "compiled" else plain

        def grad(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return backward(upstream, *_after(upstream, tensors))

        return forward(*tensors), grad

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
        # A value is like its first argument, gradients are like those behind `upstream`.
        alike = zip(found, tensors[1:]) if isinstance(found, tuple) else [(found, tensors[0])]
        for result, tensor in alike:
            result.set_shape(tensor.shape)
        return found

    return compiled


def _after(upstream, tensors):
    """Return the tensors, not to be touched before `upstream` is there.

    TensorFlow would else find that both ways begin alike, and keep what it could compute again.
    """
    if keras.config.backend() != "tensorflow":
        return tensors
    import tensorflow as tf

    with tf.control_dependencies([upstream]):
        return [tf.identity(tensor) for tensor in tensors]
