"""The forward pass of a T5 with a soft prompt in front of its encoder.

Letters: B rows, T input tokens, P prompt tokens, D decoder positions, H hidden width, V vocabulary,
K prompts of a bank, n heads of width d. What has heads is `[n, B, ...]`, see `attention`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_spot.base import layouts
from keras_spot.base.choices import PROMPT_ATTENTION
from keras_spot.base.errors import unknown
from keras_spot.base.types import Tensor
from keras_spot.model import losses
from keras_spot.model.plain import attention as att
from keras_spot.model.plain.cached import CachedDecoder
from keras_spot.model.plain.layers import T5Layers
from keras_spot.model.soft_prompt import SoftPrompt

__all__ = ["PlainT5"]


class PlainT5(T5Layers):
    """A T5 backbone behind a soft prompt, over the layers of KerasHub.

    It owns no weights. `model/fast` has a subclass that computes some parts otherwise.

    Args:
        backbone: `T5Backbone`.
        soft_prompt: the `SoftPrompt` layer, built.
        prompt_attention: `"full"`: every position sees every other (Lester et al. 2021);
            `"prompt"`: the prompt sees the prompt only; `"causal"`: a prompt position sees itself
            and those before it. Tokens see everything. In the last two the prompt's states do
            not depend on the row and are computed once a prompt, not once a row.
        remat: keep only what goes from layer to layer for the gradient and compute the rest
            again in the backward pass: less memory, about a third more work. Default False.

    Raises:
        InvalidArgument: an unknown `prompt_attention`.
    """

    def __init__(
        self,
        backbone: Any,
        soft_prompt: SoftPrompt,
        prompt_attention: str = "full",
        remat: bool = False,
    ) -> None:
        if prompt_attention not in PROMPT_ATTENTION:
            raise unknown("prompt_attention", prompt_attention, PROMPT_ATTENTION)
        self.backbone = backbone
        self.soft_prompt = soft_prompt
        self.prompt_attention = prompt_attention
        self.remat = remat
        self.lay_out(layouts.current_mesh())

    # === Encoder ===

    def encode(
        self,
        token_ids: Tensor,
        padding_mask: Tensor,
        prompt_index: Tensor | None = None,
        prompt_states: Any = None,
        joined: bool = True,
    ) -> tuple[Any, Tensor]:
        """Embed, put the prompt in front and run the encoder.

        Args:
            token_ids: `[B, T]` integers.
            padding_mask: `[B, T]`, 1 on tokens.
            prompt_index: of a bank, `[B]` integers, the number of each row's prompt.
            prompt_states: what `prompt_states` returned, where the prompts have not changed since.
            joined: repeat a prompt's states for every row. Default True. Otherwise a prompt
                whose states all rows share stays apart, and `decode` projects it once.

        Returns:
            States `[B, P + T, H]`, or apart the prompt's `[1, P, H]` and the tokens' `[B, T, H]`;
            and the mask `[B, P + T]`.
        """
        backbone = self.backbone
        tokens = backbone.encoder_embedding_dropout(backbone.token_embedding(token_ids))
        tokens = self.by_rows(tokens)
        mask = self.soft_prompt.extend_mask(padding_mask)
        if self.prompt_attention == "full":
            return self._encode_together(tokens, mask, prompt_index), mask
        keys_and_values, prompts = prompt_states or self.prompt_states()
        tokens = self._encode_tokens(tokens, mask, prompt_index, keys_and_values)
        dropout = backbone.encoder_dropout
        if not joined and prompt_index is None and not dropout.rate:
            return (prompts, tokens), mask
        return dropout(self._in_front(prompt_index, prompts, tokens)), mask

    def _encode_together(self, tokens: Tensor, mask: Tensor, prompt_index: Tensor | None) -> Tensor:
        """Return the states `[B, P + T, H]` where every position sees every other."""
        prompts = self.soft_prompt.stacked(tokens.dtype)
        first, *others = self.backbone.encoder_transformer_layers
        # Before the first layer a prompt is the same in every row: it is projected once, and its
        # gradient is summed over the rows before it goes back through the projections.
        project = self._resharded(self.project, first)
        both = project(prompts), project(tokens)
        heads = [self._in_front(prompt_index, *each, rows_axis=1) for each in zip(*both)]
        x = self.between(self._in_front(prompt_index, prompts, tokens))
        length = ops.shape(x)[1]
        bias = att.position_bias(first.self_attention, length, length)
        bias = bias + att.masked(mask, bias.dtype)[None, :, None, :]
        x = self._layer(self.after_projections, first)(x, bias, *heads)
        for layer in others:
            x = self._layer(self.encoder_layer, layer)(x, bias)
        return self.backbone.encoder_dropout(self.norm(self.backbone.encoder_layer_norm, x))

    def prompt_states(self) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Return what prompts are that see no tokens: computed once for all rows.

        Returns:
            Keys and values `[n, K, P, d]` of every encoder layer, and the last states `[K, P, H]`.
        """
        x, length = self.soft_prompt.stacked(self.backbone.compute_dtype), self.soft_prompt.length
        layers = self.backbone.encoder_transformer_layers
        bias = att.position_bias(layers[0].self_attention, length, length)
        if self.prompt_attention == "causal":
            bias = bias + att.masked(_earlier(length), bias.dtype)
        keys_and_values = []
        for layer in layers:
            x, key, value = self._resharded(self.prompt_layer, layer)(x, bias)
            keys_and_values.append((key, value))
        return keys_and_values, self.norm(self.backbone.encoder_layer_norm, x)

    def prompt_layer(self, layer: Any, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return prompts `x` `[K, P, H]` behind a layer, and their keys and values in it."""
        query, key, value = self.project(layer, x)
        return self.after_projections(layer, x, bias, query, key, value), key, value

    def _encode_tokens(
        self,
        x: Tensor,
        mask: Tensor,
        prompt_index: Tensor | None,
        keys_and_values: Sequence[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Return the tokens' states `[B, T, H]`, given the prompts' keys and values."""
        layers, length = self.backbone.encoder_transformer_layers, self.soft_prompt.length
        x, tokens = self.between(x), ops.shape(x)[1]
        bias = att.position_bias(layers[0].self_attention, tokens, length + tokens, length)
        bias = bias + att.masked(mask, bias.dtype)[None, :, None, :]
        for layer, (key, value) in zip(layers, keys_and_values):
            if self.soft_prompt.num_prompts is None and not self.joins_keys:
                x = self._layer(self.layer_sharing_keys, layer)(x, bias, key[:, 0], value[:, 0])
            else:
                x = self._layer(self.layer_joining_keys, layer)(x, bias, prompt_index, key, value)
        return self.norm(self.backbone.encoder_layer_norm, x)

    def encoder_layer(self, layer: Any, x: Tensor, bias: Tensor) -> Tensor:
        """Return `x` `[B, S, H]` behind a layer in which positions see each other."""
        query, key, value = self.project(layer, x)
        return self.after_projections(layer, x, bias, query, key, value)

    def layer_sharing_keys(
        self, layer: Any, x: Tensor, bias: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """Return tokens `x` behind a layer, with one prompt's keys and values `[n, P, d]`."""
        query, *own = self.project(layer, x)
        return self.after_projections(layer, x, bias, query, own[0], own[1], (key, value))

    def layer_joining_keys(
        self,
        layer: Any,
        x: Tensor,
        bias: Tensor,
        prompt_index: Tensor | None,
        key: Tensor,
        value: Tensor,
    ) -> Tensor:
        """Return tokens `x` behind a layer, with the keys and values `[n, K, P, d]` of prompts.

        Each row's are put before its own.
        """
        query, *own = self.project(layer, x)
        key, value = (
            self._in_front(prompt_index, *each, rows_axis=1) for each in zip((key, value), own)
        )
        return self.after_projections(layer, x, bias, query, key, value)

    def _layer(self, function: Callable[..., Any], layer: Any) -> Callable[..., Tensor]:
        """Return the function of a layer, its inner values kept or, with `remat`, forgotten."""
        if not self.remat:
            return self._resharded(function, layer)
        again = keras.remat(functools.partial(function, layer))
        return self._resharded(lambda layer, *inputs: again(*inputs), layer)

    def _resharded(self, function: Callable[..., Any], layer: Any) -> Callable[..., Any]:
        """Return the function of a layer, whose matrices it gathers and lets go, see `reshard`."""
        function = functools.partial(function, layer)
        # Dropout's random state cannot leave what is differentiated by itself.
        dropout = self.backbone.encoder_dropout.rate
        return function if dropout else self.reshard(function, layer)

    def _in_front(
        self, prompt_index: Tensor | None, of_prompts: Tensor, of_tokens: Tensor, rows_axis: int = 0
    ) -> Tensor:
        """Put what each of K prompts has before what each of B rows has, by position (axis -2)."""
        rows = ops.shape(of_tokens)[rows_axis]
        of_rows = self.soft_prompt.of_rows(of_prompts, prompt_index, rows, rows_axis)
        return ops.concatenate([of_rows, of_tokens], axis=-2)

    # === Decoder ===

    def decode(
        self, token_ids: Tensor, padding_mask: Tensor, states: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the logits `[B, D, V]` of decoder inputs.

        Args:
            token_ids: `[B, D]` integers, shifted right behind a 0.
            padding_mask: `[B, D]`, 1 on tokens.
            states: encoder states from `encode`, joined or not.
            mask: `[B, P + T]` from `encode`.
        """
        return self.logits(self.decoder_states(token_ids, padding_mask, states, mask))

    def decoder_states(
        self, token_ids: Tensor, padding_mask: Tensor, states: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the decoder's last states `[B, D, H]`, before their norm; see `decode`."""
        backbone = self.backbone
        shared, states = states if isinstance(states, (list, tuple)) else (None, states)
        absorb = self.absorbs(token_ids.shape[1], states.shape[1])
        layers = backbone.decoder_transformer_layers
        bias = self._causal_bias(layers[0].self_attention, padding_mask)
        across = att.masked(mask, backbone.compute_dtype)[None, :, None, :]
        x = self.by_rows(backbone.decoder_embedding_dropout(backbone.token_embedding(token_ids)))
        for layer in layers:
            decode = self._resharded(functools.partial(self.decoder_layer, absorb), layer)
            x = decode(x, bias, states, across, shared)
        return x

    def decoder_layer(
        self,
        absorb: bool,
        layer: Any,
        x: Tensor,
        bias: Tensor,
        states: Tensor,
        across: Tensor,
        shared: Sequence[Tensor] | None,
    ) -> Tensor:
        """Return `x` `[B, D, H]` behind a layer: self-attention, cross-attention, feed-forward."""
        attention = layer.self_attention
        query, key, value = self.project(layer, x)
        mixed = self.attend(query, key, value, bias, attention.dropout_layer)
        mixed = attention.output_projector(att.merge_heads(mixed))
        x = self.by_rows(x + layer.self_attention_dropout(mixed))
        attention = layer.cross_attention
        query = attention.query_projector(self.norm(layer.cross_attention_layer_norm, x))
        query = att.split_heads(attention, query)
        if shared is not None:
            shared = [y[:, 0] for y in att.keys_and_values(attention, shared)]
        dropout = attention.dropout_layer
        if absorb:
            kernels = att.kernels_by_head(attention, x.dtype)
            mixed = att.attend_absorbed(query, states, kernels, across, dropout, shared)
        else:
            key, value = att.keys_and_values(attention, states)
            mixed = self.attend(query, key, value, across, dropout, shared)
        mixed = attention.output_projector(att.merge_heads(mixed))
        x = self.by_rows(x + layer.cross_attention_dropout(mixed))
        return self.feed_forward(layer, x)

    def absorbs(self, queries: int | None, keys: int | None) -> bool:
        """Return whether cross-attention is cheaper on the encoder's states themselves."""
        attention = self.backbone.decoder_transformer_layers[0].cross_attention
        sizes = self.backbone.hidden_dim, attention.num_heads, attention.key_value_dim
        return att.absorbed_is_cheaper(queries, keys, *sizes)

    def _causal_bias(self, attention: Any, padding_mask: Tensor) -> Tensor:
        """Return the relative bias with causal and padding mask, `[n, B, D, D]`."""
        length = ops.shape(padding_mask)[1]
        bias = att.position_bias(attention, length, length)
        given = ops.cast(padding_mask, "bool")[:, None, :]
        visible = ops.logical_and(_earlier(length)[None], given)
        return bias + att.masked(visible, bias.dtype)[None]

    def cached_decoder(self, states: Tensor, mask: Tensor, length: Any) -> CachedDecoder:
        """Return a decoder of one position at a time, see `cached.CachedDecoder`."""
        return CachedDecoder(self, states, mask, length)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits `[.., V]` of the decoder's states `[.., H]`."""
        backbone = self.backbone
        x = backbone.decoder_dropout(self.norm(backbone.decoder_layer_norm, x))
        if backbone.tie_embedding_weights:
            x = x * ops.cast(backbone.hidden_dim**-0.5, x.dtype)

        def product(x: Tensor) -> Tensor:
            return backbone.token_embedding(x, reverse=True)

        return self.reshard(product, backbone.token_embedding)(x)

    def log_partition(self, logits: Tensor, targets: Tensor, low: float = 0.0) -> Tensor:
        """Return what the loss needs of the logits, see `losses.log_partition`."""

        def log_partition(logits: Tensor) -> Tensor:
            return losses.log_partition(logits, targets, low)

        return self.again(log_partition, logits)


def _earlier(length: Any) -> Tensor:
    """Return for each of `length` positions which ones it may see, `[length, length]`."""
    places = ops.arange(length)
    return places[None, :] <= places[:, None]
