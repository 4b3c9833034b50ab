"""What the layers of a T5 are made of."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_spot.base import layouts
from keras_spot.base.types import Tensor
from keras_spot.model.plain import attention as att

__all__ = ["T5Layers"]


class T5Layers:
    """Norms, projections, attention and feed-forward blocks of KerasHub's `T5TransformerLayer`.

    Attributes:
        remat: whether whole layers are computed again in the backward pass.
        recomputes: whether norms, gated activations and attention weights are computed again in
            the backward pass, from what goes into them: on accelerators, whose compiler keeps
            them otherwise, less memory for a few per cent more work. Default False.
        joins_keys: whether keys that all rows share are repeated for every row, where the scores of
            shared and own keys would be joined otherwise, which are many more numbers: on
            accelerators, which multiply many small matrices as fast as one. Default False.
        between: lays states `[.., H]` out over devices, as they go from layer to layer.
        by_rows: the same, without their columns.
        reshard: takes a function of tensors and the layer whose weights it uses, and lets it go of
            what devices gather for it.
    """

    remat = recomputes = joins_keys = False
    between: Callable[[Tensor], Tensor]
    by_rows: Callable[[Tensor], Tensor]
    reshard: Callable[[Callable[..., Any], Any], Callable[..., Any]]

    def lay_out(self, mesh: Any) -> None:
        """Compute over the devices of a `jax.sharding.Mesh`, None for one device."""
        self.between = layouts.between_layers(mesh)
        self.by_rows = layouts.between_layers(mesh, columns=False)
        self.reshard = layouts.reshard_after_forward(mesh)

    def suit(self, accelerator: bool) -> None:
        """Compute as suits an accelerator, whose compiler gets whole steps, or a CPU."""
        self.joins_keys, self.recomputes = accelerator, accelerator and not self.remat

    def again(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Return `function` of the inputs, whose inner values are kept or computed again."""
        if not self.recomputes:
            return function(*inputs)
        # JAX remembers what it has traced of a function, variables' values included: a new one.
        return keras.remat(lambda *tensors: function(*tensors))(*inputs)

    def norm(self, layer: Any, x: Tensor) -> Tensor:
        """Return `x` `[.., H]` behind a `T5LayerNorm`."""
        return self.again(layer, x)

    def project(self, layer: Any, x: Tensor) -> list[Tensor]:
        """Return queries, keys and values `[n, B, S, d]` of the normed `x` `[B, S, H]`."""
        attention, y = layer.self_attention, self.norm(layer.self_attention_layer_norm, x)
        projectors = attention.query_projector, attention.key_projector, attention.value_projector
        return [att.split_heads(attention, project(y)) for project in projectors]

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
        if dropout.rate:  # would draw another mask
            return att.attend(query, key, value, bias, dropout, shared)

        def attend(query, key, value, bias, *shared):
            return att.attend(query, key, value, bias, dropout, shared or None)

        return self.again(attend, query, key, value, bias, *(shared or ()))

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
        x = self.between(x + layer.self_attention_dropout(mixed))
        return self.between(self.feed_forward(layer, x))

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        """Return `x` `[.., H]` behind a layer's feed-forward block."""
        y = self.norm(layer.layer_norm, x)
        inner = layer.dropout_layer(self.inner(layer, y))
        return self.by_rows(x + layer.dropout_layer(layer.output_projector(inner)))

    def inner(self, layer: Any, y: Tensor) -> Tensor:
        """Return the feed-forward block's inner values `[.., F]` of a normed `[.., H]`."""
        projector, gated = layer.input_projector, layer.use_gated_activation
        if not self.recomputes:
            return projector(y) * layer.gate_projector(y) if gated else projector(y)
        sides = [_not_activated(projector, y)]
        if gated:
            sides.append(layer.gate_projector(y))

        def activate(y: Tensor, *gate: Tensor) -> Tensor:
            y = projector.activation(y)
            return y * gate[0] if gate else y

        return self.again(activate, *sides)


def _not_activated(projector: Any, y: Tensor) -> Tensor:
    """Return what a `Dense` layer without bias gives, before its activation."""
    if projector.quantization_mode is None:
        return ops.matmul(y, ops.cast(projector.kernel, y.dtype))
    activation = projector.activation
    projector.activation = None
    try:
        return projector(y)
    finally:
        projector.activation = activation
