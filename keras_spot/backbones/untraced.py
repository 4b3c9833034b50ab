"""T5 layers that tell what they need and what they return, instead of being traced for it.

KerasHub's have no `build`: Keras traces their `call` to find their weights, and once more for the
shapes that they return. For a large T5 that takes many seconds and a tenth of a gigabyte.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["untraced"]

_ALONE = threading.Lock()  # the classes are everybody's


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Let the layers of a `T5Backbone` that is made inside build themselves."""
    from keras_hub.src.models.t5.t5_multi_head_attention import T5MultiHeadAttention
    from keras_hub.src.models.t5.t5_transformer_layer import T5TransformerLayer

    with _ALONE, contextlib.ExitStack() as stack:
        for owner, method in (
            (T5MultiHeadAttention, _build_attention),
            (T5TransformerLayer, _build_layer),
            (T5TransformerLayer, _layer_output_spec),
        ):
            name = "compute_output_spec" if method is _layer_output_spec else "build"
            setattr(owner, name, method)
            stack.callback(delattr, owner, name)
        yield


def _build_attention(self: Any, input_shape: Any) -> None:
    for part in (self.query_projector, self.key_projector, self.value_projector):
        part.build(input_shape)
    self.dropout_layer.build(None)
    self.output_projector.build((*input_shape[:-1], self.inner_dim))


def _build_layer(self: Any, input_shape: Any) -> None:
    blocks = ["self_attention", "cross_attention"] if self.is_decoder else ["self_attention"]
    for block in blocks:
        getattr(self, f"{block}_layer_norm").build(input_shape)
        getattr(self, block).build(input_shape)
        getattr(self, f"{block}_dropout").build(input_shape)
    self.layer_norm.build(input_shape)
    self.input_projector.build(input_shape)
    if self.use_gated_activation:
        self.gate_projector.build(input_shape)
    self.dropout_layer.build(input_shape)
    self.output_projector.build((*input_shape[:-1], self.input_projector.units))


def _layer_output_spec(self: Any, hidden_states: Any, *_: Any, **__: Any) -> Any:
    import keras

    rows, tokens, _ = hidden_states.shape
    bias = rows, self.self_attention.num_heads, tokens, tokens
    return tuple(
        keras.KerasTensor(shape, self.compute_dtype) for shape in (hidden_states.shape, bias)
    )
