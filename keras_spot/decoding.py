"""Cached decoding by a frozen T5's decoder, one position at a time."""

from keras import ops

from keras_spot.forward import (
    absorbed,
    absorbed_is_cheaper,
    absorbing_kernels,
    feed_forward,
    heads_first,
    hidden,
)


class CachedDecoder:
    """The decoder for one answer of D positions to given encoder states.

    Keys and values of the decoder's own positions are kept. The encoder's are projected once, or
    never where so few positions ask that absorbed cross-attention takes less (`forward`); of a
    single row they are always projected, for there each position's time goes into reading weights.

    Args:
        backbone: `T5Backbone`.
        states: encoder states `[B, P + T, H]`.
        mask: `[B, P + T]`, 1 on prompt and tokens.
        length: D, positions at most; a scalar where it is not known while tracing.
        dtype: compute dtype.

    Attributes:
        cache: what the first `step` takes. Every array in it has the batch first, so that a
            sampler may repeat and reorder rows.
    """

    def __init__(self, backbone, states, mask, length, dtype):
        self.layers = backbone.decoder_transformer_layers
        attention = self.layers[0].self_attention
        heads, width = attention.num_heads, attention.key_value_dim
        self.length = length
        earlier = ops.arange(length)[None, :] <= ops.arange(length)[:, None]
        bias = attention.compute_bias(length, length)
        self.bias = ops.cast(bias, dtype) + hidden(earlier, dtype)
        empty = ops.zeros((ops.shape(states)[0], heads, length, width), dtype)
        own = tuple((empty, empty) for _ in self.layers)
        self.absorb = (
            isinstance(length, int)
            and mask.shape[0] != 1
            and absorbed_is_cheaper(length, states.shape[1], backbone.hidden_dim, heads, width)
        )
        cross = states
        if self.absorb:
            self.kernels = [
                absorbing_kernels(layer.cross_attention, dtype) for layer in self.layers
            ]
        else:
            cross = tuple(
                tuple(heads_first(a, p(states)) for p in (a.key_projector, a.value_projector))
                for a in (layer.cross_attention for layer in self.layers)
            )
        self.cache = own, cross, hidden(mask, dtype)[:, None, None, :]

    def step(self, x, cache, index):
        """Return the decoder's output `[B, 1, H]` before the last norm, and the new cache.

        Args:
            x: the embedded token `[B, 1, H]` at position `index`.
            cache: of the step before.
            index: a scalar, from 0.
        """
        own, cross, across = cache
        bias = ops.slice(self.bias, (0, 0, index, 0), (1, self.bias.shape[1], 1, self.length))
        kept = []
        for number, (layer, (keys, values)) in enumerate(zip(self.layers, own)):
            attention, y = layer.self_attention, layer.self_attention_layer_norm(x)
            at = (0, 0, index, 0)
            keys = ops.slice_update(keys, at, heads_of_one(attention, attention.key_projector(y)))
            new = heads_of_one(attention, attention.value_projector(y))
            values = ops.slice_update(values, at, new)
            kept.append((keys, values))
            x = x + look_up(attention, y, keys, values, bias)
            attention, y = layer.cross_attention, layer.cross_attention_layer_norm(x)
            if self.absorb:
                x = x + absorbed(attention, y, cross, across[:, 0], self.kernels[number])
            else:
                x = x + look_up(attention, y, *cross[number], across)
            x = feed_forward(layer, x)
        return x, (tuple(kept), cross, across)


def look_up(attention, y, keys, values, bias):
    """Return attention of one position `y` `[B, 1, H]` over `[B, n, K, d]` keys and values."""
    query = heads_of_one(attention, attention.query_projector(y))
    scores = ops.einsum("bnqd,bnkd->bnqk", query, keys) + bias
    mixed = ops.einsum("bnqk,bnkd->bnqd", ops.softmax(scores, axis=-1), values)
    return attention.output_projector(ops.reshape(mixed, (-1, 1, attention.inner_dim)))


def heads_of_one(attention, x):
    """`[B, 1, n d]` -> `[B, n, 1, d]`: of one position, the heads are in order as they are."""
    return ops.reshape(x, (-1, attention.num_heads, 1, attention.key_value_dim))
