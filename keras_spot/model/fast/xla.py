"""Functions of tensors with gradients written out, compiled by XLA into one pass over memory.

Left to itself, TensorFlow keeps every step of an activation for its gradient and goes over memory
once for each. Here gradients start from the inputs alone, and what is computed number by number is
one pass between TensorFlow's own matrix products. TensorFlow on CPU only.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_spot.base.types import Tensor

__all__ = [
    "after",
    "differentiated",
    "kept",
    "one_pass",
    "row_means",
    "row_sums",
    "transpose",
    "with_gradient",
]


def one_pass(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of tensors, compiled; it computes in float32 at least.

    It is traced once and compiled again for new shapes. Every result has the shape of the first
    tensor and its dtype.
    """

    def in_float32(*tensors):
        dtype = tensors[0].dtype
        if dtype not in (tf.bfloat16, tf.float16):
            return function(*tensors)
        results = function(*(tf.cast(tensor, tf.float32) for tensor in tensors))
        return tf.nest.map_structure(lambda result: tf.cast(result, dtype), results)

    compiled = tf.function(in_float32, jit_compile=True, reduce_retracing=True, autograph=False)

    def shaped(*tensors):
        results = compiled(*tensors)
        for result in tf.nest.flatten(results):
            result.set_shape(tensors[0].shape)
        return results

    return shaped


def with_gradient(value_and_gradient: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of tensors whose value and gradient `value_and_gradient` returns.

    The gradient takes one upstream gradient for each value and returns those of the first tensors.
    The others are frozen: asked for theirs, TensorFlow answers None.
    """

    @tf.custom_gradient
    def function(*tensors):
        value, gradient = value_and_gradient(*tensors)

        def of_tensors(*upstreams):
            results = gradient(*upstreams)
            results = results if isinstance(results, tuple) else (results,)
            return [*results, *[None] * (len(tensors) - len(results))]

        return value, of_tensors

    return function


def differentiated(value: Tensor, gradient: Callable[..., Any]) -> Callable[..., Any]:
    """Return `value` of tensors, with the gradient `gradient(upstream, *tensors)`."""

    def value_and_gradient(*tensors):
        return value(*tensors), lambda upstream: gradient(upstream, *after([upstream], tensors))

    return with_gradient(value_and_gradient)


def after(upstreams: Sequence[Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors, not to be touched before the upstream gradients are there.

    TensorFlow would otherwise notice that the backward pass begins like the forward pass, and keep
    what is to be computed again.
    """
    with tf.control_dependencies(upstreams):
        return [tf.identity(tensor) for tensor in tensors]


def kept(
    value: Tensor, limit: int, function: Callable[..., Any], *tensors: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return a function of the upstream gradient that gives `value`, `function` of the tensors.

    Up to `limit` numbers are kept for that; more are computed again. An unknown shape is decided
    as the step runs.
    """

    def again(upstream):
        return function(*after([upstream], tensors))

    if None not in value.shape:
        return again if math.prod(value.shape) > limit else lambda upstream: value
    few = tf.size(value) <= limit
    held = tf.cond(few, lambda: value, lambda: tf.zeros([0] * len(value.shape), value.dtype))

    def recall(upstream):
        inputs = after([upstream], tensors)
        result = tf.cond(few, lambda: held, lambda: function(*inputs))
        result.set_shape(value.shape)
        return result

    return recall


def row_means(x: Tensor) -> Tensor:
    """Return the means of `x` `[.., W]` over its last axis, `[.., 1]`; see `row_sums`."""
    return row_sums(x) / tf.cast(tf.shape(x)[-1], x.dtype)


def row_sums(x: Tensor) -> Tensor:
    """Return the sums of `x` `[.., W]` over its last axis, `[.., 1]`.

    XLA on CPU sums rows in windows, slowly; it multiplies at the speed of memory.
    """
    return tf.matmul(x, tf.ones((tf.shape(x)[-1], 1), x.dtype))


@functools.cache
def transpose() -> Callable[..., Tensor]:
    """Return a transposition that TensorFlow does not fold into a product."""
    return tf.function(tf.transpose, jit_compile=True, autograph=False)
