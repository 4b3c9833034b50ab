"""Cached decoding by a frozen T5's decoder, one position at a time."""

import numpy as np
from keras import ops

from keras_spot.base import devices
from keras_spot.model.fast import gradients
from keras_spot.model.fast.forward import (
    absorbed_is_cheaper,
    absorbing_kernels,
    heads_first,
    hidden,
    split_heads,
)

LARGEST_COPY = 2**29  # parameters of a decoder that is copied; a larger one takes much memory
PIECE = 2**18  # parameters of a kernel that one core multiplies by a row at memory's speed
FEW = 5  # positions for which copying kernels does not pay


class CachedDecoder:
    """The decoder for one answer of D positions to given encoder states.

    Keys and values of the decoder's own positions are kept. The encoder's are projected once, or
    never where so few positions ask that absorbed cross-attention takes less (`forward`).

    On CPU without XLA, which writes into what it has, adding a position copies all those before it:
    there the cache begins empty and grows, so that only as much is copied, and looked up, as has
    been decoded. Of a single row a position's time goes into reading weights and into beginning
    operations: kernels are copied once, `_by_pieces`, and attention is one product, `_Blocks`.

    Args:
        backbone: `T5Backbone`.
        states: encoder states `[B, P + T, H]`.
        mask: `[B, P + T]`, 1 on prompt and tokens; only where its B is known to be 1 while tracing
            is a row a single one.
        length: D, positions at most; a scalar where it is not known while tracing.
        dtype: compute dtype.
        xla: whether XLA compiles the steps. Default False.

    Attributes:
        cache: what the first `step` takes. Every array in it has the batch first, so that a
            sampler may repeat and reorder rows.
    """

    def __init__(self, backbone, states, mask, length, dtype, xla=False):
        layers = backbone.decoder_transformer_layers
        attention = layers[0].self_attention
        heads, width = attention.num_heads, attention.key_value_dim
        rows, keys = ops.shape(states)[:2]
        on_cpu = devices.on_cpu() and not xla
        single = mask.shape[0] == 1
        if single:
            # Known to be one further on, too.
            states = ops.reshape(states, (1, keys, states.shape[2]))
        # Only a size that is not known while tracing may change from step to step.
        unknown = next((size for size in (rows, keys) if not isinstance(size, int)), None)
        self.grows = on_cpu and unknown is not None
        copied = on_cpu and single and _copying_pays(layers, length)
        self.layers = [_Layer(layer, dtype, copied) for layer in layers]
        self.memory = (_Blocks if on_cpu and single else _Heads)(attention, dtype)
        self.length = length
        seen = ops.arange(length)[None, :] <= ops.arange(length)[:, None]
        bias = ops.cast(attention.compute_bias(length, length), dtype)
        self.bias = bias + hidden(seen, dtype)
        empty = self.memory.empty(rows, 0 * unknown if self.grows else length)
        own = tuple((empty, empty) for _ in layers)
        self.absorb = (
            isinstance(length, int)
            and not single
            and absorbed_is_cheaper(length, states.shape[1], backbone.hidden_dim, heads, width)
        )
        cross = states
        if self.absorb:
            self.kernels = [absorbing_kernels(layer.cross_attention, dtype) for layer in layers]
        else:
            cross = tuple(
                tuple(
                    self.memory.of_states(p(states)) for p in (a.key_projector, a.value_projector)
                )
                for a in (layer.cross_attention for layer in layers)
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
        memory = self.memory
        seen = index + 1 if self.grows else self.length
        bias = ops.slice(self.bias, (0, 0, index, 0), (1, self.bias.shape[1], 1, seen))
        x, kept = x[:, 0], []
        for number, layer in enumerate(self.layers):
            query, *new = layer.own_heads(x)
            new = map(memory.of_position, new)
            kept.append(tuple(self._with(y, z, index) for y, z in zip(own[number], new)))
            x = x + layer.own_output(memory.look_up(query, *kept[-1], bias))
            query = layer.cross_query(x)
            if self.absorb:
                query = split_heads(layer.cross, query[:, None])
                kernels, dropout = self.kernels[number], layer.cross.dropout_layer
                mixed = gradients.absorbed(query, cross, *kernels, across[:, 0], dropout)
                mixed = ops.reshape(mixed, (-1, layer.cross.inner_dim))
            else:
                mixed = memory.look_up(query, *cross[number], across)
            x = x + layer.cross_output(mixed)
            x = x + layer.feed_forward(x)
        return x[:, None], (tuple(kept), cross, across)

    def _with(self, kept, new, index):
        """Return keys or values of D positions with those of the position `index`."""
        axis = self.memory.axis
        if self.grows:
            return ops.concatenate([kept, new], axis=axis)
        start = [0] * len(kept.shape)
        start[axis] = index
        return ops.slice_update(kept, start, new)


class _Heads:
    """Keys and values of K positions by heads, `[B, n, K, d]`.

    Args:
        attention: `T5MultiHeadAttention`, any of the decoder's.
        dtype: of the keys and values.
    """

    axis = 2

    def __init__(self, attention, dtype):
        self.attention, self.dtype = attention, dtype

    def empty(self, rows, length):
        """Return keys or values of `length` positions, all 0."""
        attention = self.attention
        shape = rows, attention.num_heads, length, attention.key_value_dim
        return ops.zeros(shape, self.dtype)

    def of_states(self, x):
        """Return keys or values, given those of encoder states `[B, K, n d]`."""
        return heads_first(self.attention, x)

    def of_position(self, x):
        """Return keys or values of one position, given `[B, n d]`."""
        return ops.reshape(x, (-1, self.attention.num_heads, 1, self.attention.key_value_dim))

    def look_up(self, query, keys, values, bias):
        """Return attention `[B, n d]` of one position, its query `[B, n d]`.

        Bias `[1 or B, 1 or n, 1, K]`.
        """
        query = self.of_position(query)
        scores = ops.einsum("bnqd,bnkd->bnqk", query, keys) + bias
        mixed = ops.einsum("bnqk,bnkd->bnqd", ops.softmax(scores, axis=-1), values)
        return ops.reshape(mixed, (-1, self.attention.inner_dim))


class _Blocks(_Heads):
    """Keys and values as they are projected, `[B, K, n d]`.

    A query is spread over n rows, in each what belongs to one head, and one product looks up for
    all heads. Most of it multiplies by 0, but of a single row a product's size does not matter as
    much as the number of products.
    """

    axis = 1

    def __init__(self, attention, dtype):
        super().__init__(attention, dtype)
        heads = np.eye(attention.num_heads)
        self.blocks = ops.cast(np.repeat(heads, attention.key_value_dim, axis=1), dtype)

    def empty(self, rows, length):
        return ops.zeros((rows, length, self.attention.inner_dim), self.dtype)

    def of_states(self, x):
        return x

    def of_position(self, x):
        return x[:, None]

    def look_up(self, query, keys, values, bias):
        query, bias = query[:, None], bias[:, :, 0]
        if keys.shape[0] == 1:
            # TensorFlow takes longer to begin a product with more axes.
            query, keys, values, bias = (ops.squeeze(x, 0) for x in (query, keys, values, bias))
        scores = ops.matmul(query * self.blocks, ops.swapaxes(keys, -1, -2)) + bias
        # A quarter of the time that the softmax of so few numbers takes.
        scores = ops.cast(scores, "float32")
        weights = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        weights = ops.cast(weights / ops.sum(weights, axis=-1, keepdims=True), self.dtype)
        mixed = ops.sum(ops.matmul(weights, values) * self.blocks, axis=-2)
        return ops.reshape(mixed, (-1, self.attention.inner_dim))


class _Layer:
    """A decoder layer's parts, for one position: states `[B, H]`; by heads `[B, n d]`.

    Args:
        layer: `T5TransformerLayer`.
        dtype: compute dtype.
        copied: whether kernels are copied, `_by_pieces`.
    """

    def __init__(self, layer, dtype, copied):
        def product(projector):
            return _by_pieces(projector, dtype) if copied else projector

        own, cross = layer.self_attention, layer.cross_attention
        self.layer, self.cross = layer, cross
        heads = own.query_projector, own.key_projector, own.value_projector
        self._own_heads = [product(projector) for projector in heads]
        self.own_output = product(own.output_projector)
        self._cross_query = product(cross.query_projector)
        self.cross_output = product(cross.output_projector)
        self._inner = product(layer.input_projector)
        self._gate = product(layer.gate_projector) if layer.use_gated_activation else None
        self._outer = product(layer.output_projector)

    def own_heads(self, x):
        """Return query, key and value of the self-attention."""
        x = self.layer.self_attention_layer_norm(x)
        return [project(x) for project in self._own_heads]

    def cross_query(self, x):
        """Return the query of the cross-attention."""
        return self._cross_query(self.layer.cross_attention_layer_norm(x))

    def feed_forward(self, x):
        """Return the feed-forward block's output."""
        x = self.layer.layer_norm(x)
        y = self._inner(x)
        return self._outer(y * self._gate(x) if self._gate else y)


def _by_pieces(projector, dtype):
    """Return what projects `[B, I]`, of few rows, by some columns of the kernel at a time.

    A core reads them at memory's speed, and the cores share them out; of the whole kernel each
    would read a part of every line.
    """
    kernel = ops.cast(projector.kernel, dtype)
    rows, columns = kernel.shape
    width = max(16, min(128, PIECE // rows // 16 * 16))
    pieces = [kernel[:, start : start + width] for start in range(0, columns, width)]
    return lambda x: projector.activation(
        ops.concatenate([ops.matmul(x, piece) for piece in pieces], axis=1)
    )


def _copying_pays(layers, length):
    # Without oneDNN the cores share out the pieces as well.
    if not devices.by_onednn() or (isinstance(length, int) and length < FEW):
        return False
    quantized = any(layer.input_projector.quantization_mode for layer in layers)
    return not quantized and sum(layer.count_params() for layer in layers) <= LARGEST_COPY
