"""The encoder as an ONNX graph: from token ids to the keys and values that the decoder looks up."""

from typing import Any

import numpy as np
from keras import ops

from keras_spot.model.export.onnx.graph import Graph
from keras_spot.model.export.onnx.layers import Layers, numbers
from keras_spot.model.plain import attention as att

__all__ = ["PROMPTS", "add_encoder"]

PROMPTS = "prompts"


def add_encoder(graph: Graph, model: Any, activation: str, int8: bool = False) -> None:
    """Add the encoder of a `PromptedT5`, and the decoder's projections of its states.

    | input | shape | |
    |---|---|---|
    | `input_ids` | int64 `[B, T]` | padded with 0 |
    | `attention_mask` | int64 `[B, T]` | 1 on tokens |
    | `prompt_index` | int64 `[B]` | the number of each row's prompt |
    | `prompts` | float32 `[K, P, H]` | may be left out: then the exported ones |

    Outputs are `cross_key_{i}` and `cross_value_{i}` of every decoder layer, `[B, n, P + T, d]`.
    A prompt that does not see the text has no `prompts` to give: its keys and values are constants.
    """
    encoder = _Encoder(graph, model.backbone, activation, int8)
    ids = graph.input("input_ids", "int64", ["batch", "length"])
    mask = graph.input("attention_mask", "int64", ["batch", "length"])
    index = graph.input("prompt_index", "int64", ["batch"])
    table = graph.weight("token_embedding", numbers(model.backbone.token_embedding.embeddings))
    tokens = graph.op("Gather", table, ids, axis=0)
    states = model.forward_pass.prompt_states()
    if states is None:
        prompts = model.prompt if model.num_prompts else model.prompt[None]
        graph.weight(PROMPTS, prompts)
        shape: list[int | str] = ["prompts", "prompt_length", model.backbone.hidden_dim]
        graph.input(PROMPTS, "float32", shape)
        first = encoder.size(PROMPTS, 1)
        rows = graph.op("Gather", PROMPTS, index, axis=0)
        x = graph.op("Concat", rows, tokens, axis=1)
        shared = None
    else:
        x, shared = tokens, [_by_prompt(pair) for pair in states[0]]
        first = graph.constant(model.prompt_length)
    x = encoder.states(x, encoder.across(mask, first), index, shared, first)
    for number, layer in enumerate(model.backbone.decoder_transformer_layers):
        attention = layer.cross_attention
        projectors = [attention.key_projector, attention.value_projector]
        pair = encoder.product(f"decoder.{number}.cross", x, projectors)
        heads = [encoder.by_head(each) for each in pair]
        if states is not None:
            constants = _by_prompt(att.keys_and_values(attention, states[1]))
            heads = encoder.behind_prompt(f"decoder.{number}.cross", constants, index, heads)
        for name, value in zip(("cross_key", "cross_value"), heads):
            shape = ["batch", encoder.heads, "prompt_and_length", encoder.width]
            graph.output(f"{name}_{number}", value, "float32", shape)


class _Encoder(Layers):
    def states(
        self, x: str, mask: str, index: str, shared: list[list[np.ndarray]] | None, first: str
    ) -> str:
        """Return the last states of `x`.

        Args:
            x: `[B, S, H]`, prompt and tokens, or tokens alone where prompts are `shared`.
            mask: what is added to scores, `[B, 1, 1, P + T]`.
            index: the number of each row's prompt.
            shared: keys and values `[K, n, P, d]` of the prompts for each layer, or None.
            first: P.
        """
        g = self.graph
        count = self.size(x, 1)
        keys = queries = self.positions(g.constant(0), count)
        if shared is not None:
            queries = self.positions(first, count)
            keys = self.positions(g.constant(0), g.op("Add", count, first))
        bias = g.op("Add", self.position_bias("encoder", queries, keys), mask)
        for number, layer in enumerate(self.backbone.encoder_transformer_layers):
            name, attention = f"encoder.{number}", layer.self_attention
            y = self.norm(f"{name}.attention.norm", layer.self_attention_layer_norm, x)
            projectors = [attention.query_projector, attention.key_projector]
            projectors.append(attention.value_projector)
            heads = [
                self.by_head(each) for each in self.product(f"{name}.attention.in", y, projectors)
            ]
            query, pair = heads[0], heads[1:]
            if shared is not None:
                pair = self.behind_prompt(f"{name}.attention", shared[number], index, pair)
            mixed = self.attend(query, pair[0], pair[1], bias)
            out = self.product(f"{name}.attention.out", mixed, [attention.output_projector])
            x = self.feed_forward(name, layer, g.op("Add", x, out))
        return self.norm("encoder.norm", self.backbone.encoder_layer_norm, x)

    def behind_prompt(
        self, name: str, constants: list[np.ndarray], index: str, heads: list[str]
    ) -> list[str]:
        """Return keys and values `[B, n, P + T, d]`: those of each row's prompt, and its own."""
        g = self.graph
        both = []
        for what, values, own in zip(("keys", "values"), constants, heads):
            rows = g.op("Gather", g.weight(f"{name}.prompt_{what}", values), index, axis=0)
            both.append(g.op("Concat", rows, own, axis=2))
        return both


def _by_prompt(pair: Any) -> list[np.ndarray]:
    """Return keys and values `[n, K, P, d]` as `[K, n, P, d]`."""
    return [numbers(ops.transpose(each, (1, 0, 2, 3))) for each in pair]
