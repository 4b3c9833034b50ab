"""The forward pass of `model/plain` with gradients and kernels for one CPU."""

from collections.abc import Sequence
from typing import Any

from keras_spot.base.types import Tensor
from keras_spot.model.fast import gradients
from keras_spot.model.fast.cached import GrowingDecoder, SingleRowDecoder
from keras_spot.model.plain.cached import CachedDecoder
from keras_spot.model.plain.forward import PlainT5

__all__ = ["FastT5"]


class FastT5(PlainT5):
    """`PlainT5` of a frozen backbone: the same numbers, with gradients for the prompt alone.

    Gated GELUs with their norms, and attention, keep only their inputs for the backward pass and go
    once over memory each; decoding keeps a cache that grows. Arguments are those of `PlainT5`.
    """

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor,
        dropout: Any,
        shared: Sequence[Tensor] | None = None,
    ) -> Tensor:
        if dropout.rate:
            return super().attend(query, key, value, bias, dropout, shared)
        return gradients.attend(query, key, value, bias, shared)

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        projector = layer.input_projector
        kind = gradients.gelu_kind(projector.activation)
        if not (kind and layer.use_gated_activation) or projector.quantization_mode:
            return super().feed_forward(layer, x)
        x, y, gate = gradients.residual_and_norms(layer.layer_norm, x)
        sides = (projector, y), (layer.gate_projector, gate)
        inner = gradients.gated_gelu(kind)(*(gradients.product(*side) for side in sides))
        return x + layer.dropout_layer(layer.output_projector(layer.dropout_layer(inner)))

    def log_partition(self, logits: Tensor, targets: Tensor, low: float = 0.0) -> Tensor:
        return gradients.log_partition(logits, targets, low)

    def cached_decoder(self, states: Tensor, mask: Tensor, length: Any) -> CachedDecoder:
        # A cache of one row only grows: where all sizes are known, as in eager mode, none does.
        grows = mask.shape[0] == 1 and mask.shape[1] is None
        return (SingleRowDecoder if grows else GrowingDecoder)(self, states, mask, length)
