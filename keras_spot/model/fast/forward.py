"""The forward pass of a frozen T5 behind a soft prompt, without the work that nobody needs.

Both layers run a KerasHub backbone's own layers and weights and have none of their own:

- `PromptEncoder` computes the prompt's states once a batch where the prompt sees only itself;
- `PromptDecoder` never projects the encoder's states where few decoder positions ask for them, and
  looks at a prompt that every row has alike once a batch.
"""

import functools

import keras
import numpy as np
from keras import ops

from keras_spot.base.errors import unknown
from keras_spot.model.fast import gradients

VISIBILITIES = ("full", "prompt", "causal")
MASKED = -1e9


class _Borrowed(keras.layers.Layer):
    """A layer without weights that runs a backbone somebody else owns."""

    def __init__(self, backbone, **kwargs):
        super().__init__(dtype=backbone.dtype_policy, **kwargs)
        # In a closure, so that Keras does not track the backbone's weights a second time.
        self._borrowed = lambda: backbone
        self.built = True

    @property
    def backbone(self):
        return self._borrowed()


class PromptEncoder(_Borrowed):
    """The encoder, run over P prompt positions and T tokens.

    Args:
        backbone: `T5Backbone`.
        soft_prompt: the `SoftPrompt` layer, built.
        visibility: `"full"`: every position sees every other (Lester et al. 2021); `"prompt"`: the
            prompt sees the prompt only; `"causal"`: a prompt position sees itself and those
            before it. Tokens see everything. In the last two the prompt's states do not depend on
            the row and are computed once a prompt.
        remat: keep only what goes from layer to layer for the gradient and compute the rest
            anew on the way back: less memory, about a third more work. Default False.

    Call arguments:
        tokens: embedded tokens `[B, T, H]`.
        mask: `[B, T]`, 1 on tokens.
        prompt_index: of a bank of prompts, `[B]` int32.
        prompt_states: what `prompt_states` returned, where the prompts have not changed since.
        apart: return the states of a prompt that every row has alike once, where dropout does not
            make them differ. Default False.

    Returns:
        Encoder states `[B, P + T, H]`; apart, if all rows have the same prompt's: a prompt's
        `[1, P, H]` and the tokens' `[B, T, H]`.
    """

    def __init__(self, backbone, soft_prompt, visibility="full", remat=False, **kwargs):
        if visibility not in VISIBILITIES:
            raise unknown("prompt_attention", visibility, VISIBILITIES)
        super().__init__(backbone, **kwargs)
        self._soft_prompt = lambda: soft_prompt
        self.visibility = visibility
        self.remat = remat

    def call(self, tokens, mask, prompt_index=None, prompt_states=None, apart=False):
        if self.visibility == "full":
            return self._together(tokens, mask, prompt_index)
        seen, last = prompt_states or self.prompt_states()
        tokens = self._behind(tokens, mask, prompt_index, seen)
        dropout = self.backbone.encoder_dropout
        if apart and prompt_index is None:
            return dropout(last), dropout(tokens)
        return dropout(self._join(prompt_index, last, tokens))

    def _together(self, tokens, mask, prompt_index):
        backbone, soft_prompt = self.backbone, self._soft_prompt()
        prompts = soft_prompt.stacked(tokens.dtype)
        join = functools.partial(self._join, prompt_index)
        first, *others = backbone.encoder_transformer_layers
        # Nothing has happened to the rows yet: each prompt is projected once, and its gradient is
        # summed over the rows before it goes back through the projections.
        x, *projected = map(join, projections(first, prompts), projections(first, tokens))
        bias = first.self_attention.compute_bias(ops.shape(x)[1], ops.shape(x)[1])
        bias = bias + hidden(soft_prompt.extend_mask(mask), bias.dtype)[:, None, None, :]
        x = self._kept(behind_projections, first)(x, bias, *projected)
        for layer in others:
            x = self._kept(encoder_layer, layer)(x, bias)
        return backbone.encoder_dropout(gradients.norm(backbone.encoder_layer_norm, x))

    def _join(self, prompt_index, of_prompts, of_tokens):
        """Return what each prompt has, `[K, .., P, W]`, before what a row has, `[B, .., T, W]`."""
        rows = ops.shape(of_tokens)[0]
        of_rows = self._soft_prompt().of_rows(of_prompts, prompt_index, rows)
        return ops.concatenate([of_rows, of_tokens], axis=-2)

    def _kept(self, function, *given):
        """Return the function of a layer, its inner states kept or, with `remat`, computed anew."""
        function = functools.partial(function, *given)
        return keras.remat(function) if self.remat else function

    def prompt_states(self):
        """Return what there is to see of prompts that do not see the tokens.

        Returns:
            Keys and values `[K, n, P, d]` of every layer, and the last states `[K, P, H]`.
        """
        backbone, length = self.backbone, self._soft_prompt().length
        x, seen = self._soft_prompt().stacked(self.compute_dtype), []
        attention = backbone.encoder_transformer_layers[0].self_attention
        bias = attention.compute_bias(length, length)
        if self.visibility == "causal":
            bias = bias + ops.cast(np.triu(np.full((length, length), MASKED), 1), bias.dtype)
        for layer in backbone.encoder_transformer_layers:
            x, *projected = projections(layer, x)
            seen.append(projected[1:])
            x = behind_projections(layer, x, bias, *projected)
        return seen, gradients.norm(backbone.encoder_layer_norm, x)

    def _behind(self, tokens, mask, prompt_index, seen):
        """Return the tokens' states `[B, T, H]` behind all layers, given what prompts are seen."""
        backbone, soft_prompt = self.backbone, self._soft_prompt()
        layers, length = backbone.encoder_transformer_layers, soft_prompt.length
        rows = ops.shape(tokens)[1]
        bias = layers[0].self_attention.compute_bias(rows, length + rows, length)
        unseen = hidden(soft_prompt.extend_mask(mask), bias.dtype)
        if prompt_index is None and soft_prompt.num_prompts is None:
            run, bias = encoder_layer_alike, bias[0][:, None] + unseen[:, None, :]
        else:
            join = functools.partial(self._join, prompt_index)
            run, bias = functools.partial(encoder_layer_apart, join), bias + unseen[:, None, None]
        for layer, of_prompts in zip(layers, seen):
            tokens = self._kept(run, layer)(tokens, bias, *of_prompts)
        return gradients.norm(backbone.encoder_layer_norm, tokens)


class PromptDecoder(_Borrowed):
    """The decoder over D positions, its cross-attention absorbed where that is cheaper.

    With the key projection folded into the query and the value projection into the output,
    cross-attention works on the encoder's states themselves: exact, and for few decoder
    positions (labels have 2 to 8 tokens) much less work than projecting P + T states a layer.

    Args:
        backbone: `T5Backbone`.

    Call arguments:
        embedded: embedded decoder inputs `[B, D, H]`.
        padding_mask: `[B, D]`, 1 on tokens.
        states: encoder states `[B, P + T, H]`, or a prompt's `[1, P, H]` that all rows have alike
            and the tokens' `[B, T, H]`.
        mask: `[B, P + T]`, 1 on prompt and tokens.

    Returns:
        `[B, D, H]`, before the last normalisation.
    """

    def call(self, embedded, padding_mask, states, mask):
        layers = self.backbone.decoder_transformer_layers
        attention = layers[0].cross_attention
        *prompt, of_rows = states if isinstance(states, (list, tuple)) else [states]
        absorb = absorbed_is_cheaper(
            embedded.shape[1],
            of_rows.shape[1],
            self.backbone.hidden_dim,
            attention.num_heads,
            attention.key_value_dim,
        )
        if not (absorb or prompt):
            return self._as_always(embedded, padding_mask, states, mask)
        look_up = absorbed if absorb else projected
        bias = causal_bias(layers[0].self_attention, padding_mask)
        across = hidden(mask, self.compute_dtype)[:, None]
        x = embedded
        for layer in layers:
            y = gradients.norm(layer.self_attention_layer_norm, x)
            y, _, _ = layer.self_attention(y, position_bias=bias)
            x = x + layer.self_attention_dropout(y)
            y = gradients.norm(layer.cross_attention_layer_norm, x)
            y = look_up(layer.cross_attention, y, of_rows, across, *prompt)
            x = x + layer.cross_attention_dropout(y)
            x = feed_forward(layer, x)
        return x

    def _as_always(self, x, padding_mask, states, mask):
        bias = None
        for layer in self.backbone.decoder_transformer_layers:
            x, bias = layer(
                x,
                attention_mask=padding_mask[:, None, :],
                position_bias=bias,
                encoder_hidden_states=states,
                encoder_attention_mask=mask[:, None, :],
                use_causal_mask=True,
            )
        return x


def projections(layer, x, split=None):
    """Return `x` `[B, S, H]` and a layer's queries, keys and values of it, split by heads.

    Args:
        split: default `heads_first`.
    """
    attention = layer.self_attention
    projectors = attention.query_projector, attention.key_projector, attention.value_projector
    x, *normed = gradients.residual_norm(layer.self_attention_layer_norm, x, len(projectors))
    split = split or heads_first
    return x, *(split(attention, project(y)) for project, y in zip(projectors, normed))


def encoder_layer(layer, x, bias):
    """Return `x` `[B, S, H]` behind a layer of the encoder; bias `[B, n, S, S]`."""
    x, *projected = projections(layer, x)
    return behind_projections(layer, x, bias, *projected)


def behind_projections(layer, x, bias, *projected):
    """Return `x` behind a layer, given what `attend` wants of it."""
    mixed = attend(layer.self_attention, bias, *projected)
    return feed_forward(layer, x + layer.self_attention_dropout(mixed))


def encoder_layer_alike(layer, x, bias, key, value):
    """Return tokens `x` `[B, T, H]` behind a layer, all of them with one prompt that sees itself.

    Its keys and values `[1, n, P, d]`; bias `[n, B, T, P + T]`.
    """
    x, *projected = projections(layer, x, heads_outermost)
    return behind_projections(layer, x, bias, *projected, key[0], value[0])


def encoder_layer_apart(join, layer, x, bias, key, value):
    """Return tokens `x` `[B, T, H]` behind a layer whose prompts see themselves.

    Keys and values of the prompts, put before the tokens' own by `join`; bias `[B, n, T, P + T]`.
    """
    x, query, *own = projections(layer, x)
    return behind_projections(layer, x, bias, query, *map(join, (key, value), own))


def absorbed_is_cheaper(queries, keys, width, heads, head_width):
    """Return whether absorbed cross-attention takes fewer multiplications than projecting.

    Projecting: `2 K H I + 2 D K I`; absorbed: `2 D H I + 2 D n K H`, for D queries, K keys, width
    H, n heads, I = n times their width. An unknown number of queries counts as many.

    >>> absorbed_is_cheaper(8, 164, 512, 6, 64), absorbed_is_cheaper(64, 164, 512, 6, 64)
    (True, False)
    """
    if queries is None:
        return False
    inner = heads * head_width
    keys = keys or 100
    absorbed = queries * (width * inner + heads * keys * width)
    return absorbed < keys * inner * (width + queries)


def absorbed(attention, x, states, bias, prompt=None):
    """Return cross-attention of `x` `[B, D, H]` over encoder states `[B, K, H]`.

    Args:
        bias: `[B, 1, K]`; with a prompt `[B, 1, P + K]`.
        prompt: states `[1, P, H]` that all rows have before their own.
    """
    query = split_heads(attention, attention.query_projector(x))
    kernels = absorbing_kernels(attention, x.dtype)
    shared = () if prompt is None else keys_and_values(attention, prompt)
    mixed = gradients.absorbed(
        query, states, *kernels, bias, attention.dropout_layer, *(y[:, 0] for y in shared)
    )
    return attention.output_projector(merge_heads(attention, mixed))


def projected(attention, x, states, bias, prompt):
    """Return what `absorbed` does, by keys and values; the prompt's are projected once."""
    query = heads_outermost(attention, attention.query_projector(x))
    own, shared = (keys_and_values(attention, y) for y in (states, prompt))
    return attend(attention, bias, query, *own, *(y[:, 0] for y in shared))


def keys_and_values(attention, states):
    """Return a layer's keys and values of states `[B, K, H]`, `[n, B, K, d]`."""
    projectors = attention.key_projector, attention.value_projector
    return [heads_outermost(attention, project(states)) for project in projectors]


def absorbing_kernels(attention, dtype):
    """Return the kernels of keys and values by heads, `[n, H, d]`."""
    shape = (-1, attention.num_heads, attention.key_value_dim)
    return [
        ops.transpose(ops.reshape(_kernel(projector, dtype), shape), (1, 0, 2))
        for projector in (attention.key_projector, attention.value_projector)
    ]


def _kernel(projector, dtype):
    if projector.quantization_mode is None:
        return ops.cast(projector.kernel, dtype)
    # What it makes of the identity is its kernel, however that is stored.
    return projector(ops.eye(projector.kernel.shape[0], dtype=dtype))


def attend(attention, bias, query, key, value, *prompt):
    """Return attention of queries over keys and values.

    Args:
        bias: `[1 or B, 1 or n, Q, K]`; with a prompt `[1 or n, B, Q, P + K]`.
        query: `[B, n, Q, d]`; with a prompt `[n, B, Q, d]`, and so the others.
        key: `[B, n, K, d]`.
        value: `[B, n, K, d]`.
        *prompt: keys and values `[n, P, d]` that all rows have before their own, if any.
    """
    bias = ops.cast(bias, query.dtype)
    mixed = gradients.attention(query, key, value, bias, attention.dropout_layer, *prompt)
    mixed = ops.transpose(mixed, (1, 2, 0, 3) if prompt else (0, 2, 1, 3))
    return attention.output_projector(merge_heads(attention, mixed))


def feed_forward(layer, x):
    """Return `x` behind a T5 layer's feed-forward block, the residual added."""
    x, y, *gate = gradients.residual_norm(layer.layer_norm, x, 1 + layer.use_gated_activation)
    if gate:
        y = gradients.gated(layer.input_projector, layer.gate_projector, y, *gate)
    else:
        y = layer.input_projector(y)
    y = layer.dropout_layer(y)
    return x + layer.dropout_layer(layer.output_projector(y))


def causal_bias(attention, padding_mask):
    """Return the decoder's relative bias with causal and padding mask, `[B, n, D, D]`."""
    length = ops.shape(padding_mask)[1]
    bias = attention.compute_bias(length, length)
    earlier = ops.arange(length)[None, :] <= ops.arange(length)[:, None]
    seen = ops.logical_and(earlier[None], ops.cast(padding_mask, "bool")[:, None, :])
    return bias + hidden(seen, bias.dtype)[:, None]


def hidden(seen, dtype):
    """Return 0 where `seen`, else a large negative number."""
    return (1.0 - ops.cast(seen, dtype)) * MASKED


def split_heads(attention, x):
    """`[B, T, n d]` -> `[B, T, n, d]`."""
    return ops.reshape(x, (-1, ops.shape(x)[1], attention.num_heads, attention.key_value_dim))


def heads_first(attention, x):
    """`[B, T, n d]` -> `[B, n, T, d]`."""
    return ops.transpose(split_heads(attention, x), (0, 2, 1, 3))


def heads_outermost(attention, x):
    """`[B, T, n d]` -> `[n, B, T, d]`."""
    return ops.transpose(split_heads(attention, x), (2, 0, 1, 3))


def merge_heads(attention, x):
    """`[B, T, n, d]` -> `[B, T, n d]`."""
    return ops.reshape(x, (-1, ops.shape(x)[1], attention.inner_dim))
