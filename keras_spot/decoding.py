"""Cached decoding by a frozen T5's decoder, one position at a time."""

from keras import ops

from keras_spot import distribution, gradients
from keras_spot.forward import absorbed_is_cheaper, absorbing_kernels, heads_first, hidden

LARGEST_COPY = 2**29  # parameters of a decoder that is copied; a larger one takes much memory


class CachedDecoder:
    """The decoder for one answer of D positions to given encoder states.

    Keys and values of the decoder's own positions are kept. The encoder's are projected once, or
    never where so few positions ask that absorbed cross-attention takes less (`forward`); of a
    single row they are always projected, for there each position's time goes into reading weights.

    On CPU a step works on copies of the kernels that suit it (`_Layer`). There, without XLA, which
    writes into what it has, adding a position copies all those before it: the cache of several rows
    begins empty and grows, so that only as much is copied, and looked up, as has been decoded.

    Args:
        backbone: `T5Backbone`.
        states: encoder states `[B, P + T, H]`.
        mask: `[B, P + T]`, 1 on prompt and tokens.
        length: D, positions at most; a scalar where it is not known while tracing.
        dtype: compute dtype.
        xla: whether XLA compiles the steps. Default False.
        copies: whether kernels may be copied. Default True.

    Attributes:
        cache: what the first `step` takes. Every array in it has the batch first, so that a
            sampler may repeat and reorder rows.
    """

    def __init__(self, backbone, states, mask, length, dtype, xla=False, copies=True):
        layers = backbone.decoder_transformer_layers
        attention = layers[0].self_attention
        heads, width = attention.num_heads, attention.key_value_dim
        rows, several = ops.shape(states)[0], mask.shape[0] != 1
        on_cpu = distribution.on_cpu()
        # Only a size that is not known while tracing may change from step to step.
        self.grows = on_cpu and several and not xla and not isinstance(rows, int)
        copied = copies and on_cpu and _may_copy(layers)
        self.layers = [_Layer(layer, dtype, copied, turned=copied and several) for layer in layers]
        self.length = length
        seen = ops.arange(length)[None, :] <= ops.arange(length)[:, None]
        bias = ops.cast(attention.compute_bias(length, length), dtype)
        self.bias = bias + hidden(seen, dtype)
        empty = ops.zeros((rows, heads, 0 * rows if self.grows else length, width), dtype)
        own = tuple((empty, empty) for _ in layers)
        self.absorb = (
            isinstance(length, int)
            and several
            and absorbed_is_cheaper(length, states.shape[1], backbone.hidden_dim, heads, width)
        )
        cross = states
        if self.absorb:
            self.kernels = [absorbing_kernels(layer.cross_attention, dtype) for layer in layers]
        else:
            cross = tuple(
                tuple(heads_first(a, p(states)) for p in (a.key_projector, a.value_projector))
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
        flip = self.layers[0].flip
        seen = index + 1 if self.grows else self.length
        bias = ops.slice(self.bias, (0, 0, index, 0), (1, self.bias.shape[1], 1, seen))
        x, kept = flip(x[:, 0]), []
        for number, layer in enumerate(self.layers):
            query, *new = layer.own_heads(x)
            kept.append(tuple(self._with(y, z, index) for y, z in zip(own[number], new)))
            x = x + layer.own_output(look_up(query, *kept[-1], bias))
            query = layer.cross_query(x)
            if self.absorb:
                query = ops.transpose(query, (0, 2, 1, 3))
                kernels, dropout = self.kernels[number], layer.cross.dropout_layer
                mixed = gradients.absorbed(query, cross, *kernels, across[:, 0], dropout)
            else:
                mixed = look_up(query, *cross[number], across)
            x = x + layer.cross_output(mixed)
            x = x + layer.feed_forward(x)
        return flip(x)[:, None], (tuple(kept), cross, across)

    def _with(self, kept, new, index):
        """Return keys or values `[B, n, D, d]` with those of the position `index`."""
        if self.grows:
            return ops.concatenate([kept, new], axis=2)
        return ops.slice_update(kept, (0, 0, index, 0), new)


class _Layer:
    """A decoder layer's parts, for one position of B rows: states `[B, H]`, turned `[H, B]`.

    Where kernels may be copied, once for all positions, those that take the same input become one.
    Of several rows they are turned as well: a product first puts its right side in order, and the
    states are less than any kernel.

    Args:
        layer: `T5TransformerLayer`.
        dtype: compute dtype.
        copied: whether kernels may be copied.
        turned: whether states are turned; needs copied kernels.
    """

    def __init__(self, layer, dtype, copied, turned):
        self.layer, self.own, self.cross = layer, layer.self_attention, layer.cross_attention
        self.axis, self.flip = (0, ops.transpose) if turned else (1, _same)

        def product(*projectors):
            if not copied:
                return lambda x: [projector(x) for projector in projectors]
            kernels = [self.flip(ops.cast(projector.kernel, dtype)) for projector in projectors]
            kernel = ops.concatenate(kernels, axis=self.axis)
            activations = [projector.activation for projector in projectors]

            def found(x):
                y = ops.matmul(kernel, x) if turned else ops.matmul(x, kernel)
                parts = ops.split(y, len(kernels), axis=self.axis)
                return [activation(part) for activation, part in zip(activations, parts)]

            return found

        own, cross = self.own, self.cross
        self._heads = product(own.query_projector, own.key_projector, own.value_projector)
        self._own_output = product(own.output_projector)
        self._query = product(cross.query_projector)
        self._cross_output = product(cross.output_projector)
        gate = [layer.gate_projector] if layer.use_gated_activation else []
        self._inner = product(layer.input_projector, *gate)
        self._outer = product(layer.output_projector)

    def own_heads(self, x):
        """Return query, key and value `[B, n, 1, d]` of the self-attention."""
        found = self._heads(self._norm(self.layer.self_attention_layer_norm, x))
        return [self._by_heads(self.own, y) for y in found]

    def own_output(self, mixed):
        """Return the self-attention's output, given its values in sum `[B, n, 1, d]`."""
        return self._own_output(self._merged(self.own, mixed))[0]

    def cross_query(self, x):
        """Return the query `[B, n, 1, d]` of the cross-attention."""
        found = self._query(self._norm(self.layer.cross_attention_layer_norm, x))
        return self._by_heads(self.cross, found[0])

    def cross_output(self, mixed):
        """Return the cross-attention's output, given `[B, n, 1, d]` or `[B, 1, n, d]`."""
        return self._cross_output(self._merged(self.cross, mixed))[0]

    def feed_forward(self, x):
        """Return the feed-forward block's output."""
        y, *gate = self._inner(self._norm(self.layer.layer_norm, x))
        return self._outer(y * gate[0] if gate else y)[0]

    def _norm(self, layer, x):
        inverse = ops.rsqrt(ops.mean(ops.square(x), axis=self.axis, keepdims=True) + layer.epsilon)
        return ops.expand_dims(ops.cast(layer.weight, x.dtype), 1 - self.axis) * (x * inverse)

    def _by_heads(self, attention, x):
        return ops.reshape(self.flip(x), (-1, attention.num_heads, 1, attention.key_value_dim))

    def _merged(self, attention, x):
        return self.flip(ops.reshape(x, (-1, attention.inner_dim)))


def look_up(query, keys, values, bias):
    """Return attention `[B, n, 1, d]` of one position over `[B, n, K, d]` keys and values."""
    scores = ops.einsum("bnqd,bnkd->bnqk", query, keys) + bias
    return ops.einsum("bnqk,bnkd->bnqd", ops.softmax(scores, axis=-1), values)


def _may_copy(layers):
    quantized = any(layer.input_projector.quantization_mode for layer in layers)
    return not quantized and sum(layer.count_params() for layer in layers) <= LARGEST_COPY


def _same(x):
    return x
