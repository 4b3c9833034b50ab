"""Cached decoding: a T5's decoder, one position at a time."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_spot.base.types import Tensor
from keras_spot.model.plain import attention as att

__all__ = ["CachedDecoder"]


class CachedDecoder:
    """The decoder for one answer of D positions to given encoder states.

    The keys and values of its own positions are kept, in a cache of D positions. The encoder's are
    projected once, or never where absorbed cross-attention is cheaper.

    Args:
        forward: `PlainT5`, whose backbone decodes.
        states: encoder states `[B, P + T, H]`.
        mask: `[B, P + T]`, 1 on prompt and tokens.
        length: D, positions at most; a scalar where it is not known while tracing.

    Attributes:
        cache: what the first `step` takes. Every array in it has the batch first, so that a
            sampler may repeat and reorder rows.
    """

    def __init__(self, forward: Any, states: Tensor, mask: Tensor, length: Any) -> None:
        self.forward, self.length = forward, length
        self.layers = forward.backbone.decoder_transformer_layers
        self.dtype = forward.backbone.compute_dtype
        attention = self.layers[0].self_attention
        self.heads, self.width = attention.num_heads, attention.key_value_dim
        earlier = ops.arange(length)[None, :] <= ops.arange(length)[:, None]
        bias = ops.cast(attention.compute_bias(length, length), self.dtype)
        self.bias = bias + att.masked(earlier, self.dtype)  # [1, n, D, D]
        self.absorb = isinstance(length, int) and self.absorbs(states)
        empty = self.empty(states)
        own = tuple((empty, empty) for _ in self.layers)
        if self.absorb:
            attentions = [layer.cross_attention for layer in self.layers]
            self.kernels = [att.kernels_by_head(each, self.dtype) for each in attentions]
            cross = states
        else:
            cross = tuple(self.cross_keys_and_values(layer, states) for layer in self.layers)
        self.cache = own, cross, att.masked(mask, self.dtype)[:, None, None, :]

    def step(self, x: Tensor, cache: Any, index: Tensor) -> tuple[Tensor, Any]:
        """Return the decoder's state `[B, H]` before its last norm, and the new cache.

        Args:
            x: the embedded token `[B, H]` at position `index`.
            cache: of the step before.
            index: a scalar, from 0.
        """
        own, cross, across = cache
        bias = self.bias_at(index)
        new = []
        for number, layer in enumerate(self.layers):
            attention = layer.self_attention
            y = layer.self_attention_layer_norm(x)
            query = self.product(attention.query_projector, y)
            key = self.append(own[number][0], self.product(attention.key_projector, y), index)
            value = self.append(own[number][1], self.product(attention.value_projector, y), index)
            new.append((key, value))
            mixed = self.look_up(query, key, value, bias)
            x = x + self.product(attention.output_projector, mixed)
            attention = layer.cross_attention
            y = layer.cross_attention_layer_norm(x)
            query = self.product(attention.query_projector, y)
            if self.absorb:
                mixed = self.look_up_states(query, cross, self.kernels[number], across)
            else:
                key, value = cross[number]
                mixed = self.look_up(query, key, value, across)
            x = x + self.product(attention.output_projector, mixed)
            x = x + self.feed_forward(layer, x)
        return x, (tuple(new), cross, across)

    def product(self, projector: Any, x: Tensor) -> Tensor:
        """Return the projection of `x` `[B, I]`."""
        return projector(x)

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        """Return the feed-forward block's output for `x` `[B, H]`, without the residual."""
        y = layer.layer_norm(x)
        inner = self.product(layer.input_projector, y)
        if layer.use_gated_activation:
            inner = inner * self.product(layer.gate_projector, y)
        return self.product(layer.output_projector, inner)

    # === Keys and values `[B, n, K, d]` ===

    def absorbs(self, states: Tensor) -> bool:
        """Return whether absorbed cross-attention is cheaper for D positions."""
        return self.forward.absorbs(self.length, states.shape[1])

    def empty(self, states: Tensor) -> Tensor:
        """Return the keys or values of a layer before the first step."""
        shape = (ops.shape(states)[0], self.heads, self.positions_at_first(), self.width)
        return ops.zeros(shape, self.dtype)

    def positions_at_first(self) -> Any:
        """Return how many positions the cache has before the first step."""
        return self.length

    def cross_keys_and_values(self, layer: Any, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values of encoder states `[B, K, H]`."""
        both = att.keys_and_values(layer.cross_attention, states)
        return tuple(ops.transpose(y, (1, 0, 2, 3)) for y in both)

    def append(self, cached: Tensor, new: Tensor, index: Tensor) -> Tensor:
        """Return cached keys or values with those of a position, `[B, n d]`."""
        return ops.slice_update(cached, (0, 0, index, 0), self.by_position(new))

    def bias_at(self, index: Tensor) -> Tensor:
        """Return the bias `[1, n, 1, D]` of a position."""
        return ops.slice(self.bias, (0, 0, index, 0), (1, self.heads, 1, self.length))

    def look_up(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Return attention `[B, n d]` of one position, given its query `[B, n d]`."""
        scores = att.attention_scores(self.by_position(query), key) + bias
        mixed = att.weighted_values(ops.softmax(scores, axis=-1), value)
        return ops.reshape(mixed, (-1, self.heads * self.width))

    def look_up_states(
        self, query: Tensor, states: Tensor, kernels: Sequence[Tensor], across: Tensor
    ) -> Tensor:
        """Return what `look_up` does, over encoder states that are never projected."""
        query = ops.transpose(self.by_position(query), (1, 0, 2, 3))
        bias = ops.transpose(across, (1, 0, 2, 3))
        mixed = att.attend_absorbed(query, states, kernels, bias, lambda weights: weights)
        return ops.reshape(ops.transpose(mixed, (1, 0, 2, 3)), (-1, self.heads * self.width))

    def by_position(self, x: Tensor) -> Tensor:
        """`[B, n d]` -> `[B, n, 1, d]`, as the cache has a position."""
        return ops.reshape(x, (-1, self.heads, 1, self.width))
