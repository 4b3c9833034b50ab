"""What the layers of a T5 are made of."""

from collections.abc import Sequence
from typing import Any

from keras_spot.base.types import Tensor
from keras_spot.model.plain import attention as att


class T5Layers:
    """Norms, projections, attention and feed-forward blocks of KerasHub's `T5TransformerLayer`."""

    def norm(self, layer: Any, x: Tensor) -> Tensor:
        """Return `x` `[.., H]` behind a `T5LayerNorm`."""
        return layer(x)

    def project(self, layer: Any, x: Tensor) -> list[Tensor]:
        """Return `x` as it is, and queries, keys and values `[n, B, S, d]` of the normed `x`.

        `x` goes on as the residual: `fast` adds up the gradients of all four in one pass.
        """
        attention, y = layer.self_attention, self.norm(layer.self_attention_layer_norm, x)
        projectors = attention.query_projector, attention.key_projector, attention.value_projector
        return [x, *(att.split_heads(attention, project(y)) for project in projectors)]

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor,
        dropout: Any,
        shared: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return attention `[n, B, Q, d]`, see `attention.attend`."""
        return att.attend(query, key, value, bias, dropout, shared)

    def after_projections(
        self,
        layer: Any,
        x: Tensor,
        bias: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        shared: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return `x` behind a layer, given its queries, keys and values; see `attention.attend`."""
        attention = layer.self_attention
        mixed = self.attend(query, key, value, bias, attention.dropout_layer, shared)
        mixed = attention.output_projector(att.merge_heads(mixed))
        return self.feed_forward(layer, x + layer.self_attention_dropout(mixed))

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        """Return `x` `[.., H]` behind a layer's feed-forward block."""
        y = self.norm(layer.layer_norm, x)
        inner = layer.input_projector(y)
        if layer.use_gated_activation:
            inner = inner * layer.gate_projector(y)
        return x + layer.dropout_layer(layer.output_projector(layer.dropout_layer(inner)))
