"""Cached decoding on CPU: a cache that grows, and a single row by few large products."""

from typing import Any

import numpy as np
from keras import ops

from keras_spot.base import devices
from keras_spot.base.types import Tensor
from keras_spot.model.plain.cached import CachedDecoder

__all__ = ["FEW", "LARGEST_COPY", "PIECE", "GrowingDecoder", "SingleRowDecoder"]

LARGEST_COPY = 2**29  # parameters of a decoder that is copied; a larger one takes much memory
PIECE = 2**18  # parameters of a kernel that one core multiplies by a row at memory's speed
FEW = 5  # positions for which copying kernels does not pay


class GrowingDecoder(CachedDecoder):
    """A `CachedDecoder` whose cache begins empty and grows.

    TensorFlow on CPU copies all of a cache to write a position into it. So it copies, and looks
    up, only as much as has been decoded. Only sizes that are unknown while tracing may change
    from step to step: of a batch whose sizes are known the cache is that of `CachedDecoder`.
    """

    axis = 2  # of the cache's positions

    def __init__(self, forward: Any, states: Tensor, mask: Tensor, length: Any) -> None:
        sizes = ops.shape(states)[:2]
        self.unknown = next((size for size in sizes if not isinstance(size, int)), None)
        super().__init__(forward, states, mask, length)

    def positions_at_first(self) -> Any:
        return self.length if self.unknown is None else 0 * self.unknown

    def append(self, cached: Tensor, new: Tensor, index: Tensor) -> Tensor:
        if self.unknown is None:
            return super().append(cached, new, index)
        return ops.concatenate([cached, self.by_position(new)], axis=self.axis)

    def bias_at(self, index: Tensor) -> Tensor:
        if self.unknown is None:
            return super().bias_at(index)
        return ops.slice(self.bias, (0, 0, index, 0), (1, self.heads, 1, index + 1))


class SingleRowDecoder(GrowingDecoder):
    """A `GrowingDecoder` of one row, whose time goes into reading weights and beginning operations.

    Kernels are copied once in pieces of some columns, which each core reads at memory's speed; keys
    and values stay as they are projected, `[1, K, n d]`, and attention is one product for all
    heads: a query is spread over n rows, in each what belongs to one head. Most of that product
    multiplies by 0, but of a single row a product's size matters less than the number of products.
    """

    axis = 1

    def __init__(self, forward: Any, states: Tensor, mask: Tensor, length: Any) -> None:
        states = ops.reshape(states, (1, ops.shape(states)[1], states.shape[2]))
        layers = forward.backbone.decoder_transformer_layers
        attention, dtype = layers[0].self_attention, forward.backbone.compute_dtype
        blocks = np.repeat(np.eye(attention.num_heads), attention.key_value_dim, axis=1)
        self.blocks = ops.cast(blocks, dtype)
        self.pieces = {}
        if _copying_pays(layers, length):
            for layer in layers:
                for projector in _projectors(layer):
                    self.pieces[id(projector)] = _pieces(projector, dtype)
        super().__init__(forward, states, mask, length)

    def product(self, projector: Any, x: Tensor) -> Tensor:
        if id(projector) not in self.pieces:
            return projector(x)
        parts = [ops.matmul(x, piece) for piece in self.pieces[id(projector)]]
        return projector.activation(ops.concatenate(parts, axis=1))

    def absorbs(self, states: Tensor) -> bool:
        return False

    def empty(self, states: Tensor) -> Tensor:
        return ops.zeros((1, self.positions_at_first(), self.heads * self.width), self.dtype)

    def cross_keys_and_values(self, layer: Any, states: Tensor) -> tuple[Tensor, Tensor]:
        attention = layer.cross_attention
        return attention.key_projector(states), attention.value_projector(states)

    def by_position(self, x: Tensor) -> Tensor:
        """`[1, n d]` -> `[1, 1, n d]`."""
        return x[:, None]

    def look_up(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        # TensorFlow takes longer to begin a product with more axes than two.
        key, value, bias = ops.squeeze(key, 0), ops.squeeze(value, 0), bias[0, :, 0]
        scores = ops.matmul(query * self.blocks, ops.transpose(key)) + bias
        # A quarter of the time that the softmax of so few numbers takes.
        scores = ops.cast(scores, "float32")
        weights = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        weights = ops.cast(weights / ops.sum(weights, axis=-1, keepdims=True), self.dtype)
        return ops.sum(ops.matmul(weights, value) * self.blocks, axis=0, keepdims=True)


def _projectors(layer: Any) -> list[Any]:
    """Return the layers that project a position of a `T5TransformerLayer`."""
    own, cross = layer.self_attention, layer.cross_attention
    projectors = [own.query_projector, own.key_projector, own.value_projector]
    projectors += [own.output_projector, cross.query_projector, cross.output_projector]
    projectors += [layer.input_projector, layer.output_projector]
    return projectors + ([layer.gate_projector] if layer.use_gated_activation else [])


def _pieces(projector: Any, dtype: str) -> list[Tensor]:
    """Return a kernel in pieces of some columns.

    The cores share the pieces out; of a whole kernel each would read a part of every line.
    """
    kernel = ops.cast(projector.kernel, dtype)
    rows, columns = kernel.shape
    width = max(16, min(128, PIECE // rows // 16 * 16))
    return [kernel[:, start : start + width] for start in range(0, columns, width)]


def _copying_pays(layers: Any, length: Any) -> bool:
    # Without oneDNN the cores share out a whole kernel as well.
    if not devices.by_onednn() or (isinstance(length, int) and length < FEW):
        return False
    quantized = any(layer.input_projector.quantization_mode for layer in layers)
    return not quantized and sum(layer.count_params() for layer in layers) <= LARGEST_COPY
