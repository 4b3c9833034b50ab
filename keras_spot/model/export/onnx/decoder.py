"""The decoder as an ONNX graph: some positions behind those that are in its cache."""

from typing import Any

from keras_spot.model.export.onnx.graph import Graph
from keras_spot.model.export.onnx.layers import Layers, numbers

__all__ = ["add_decoder"]


def add_decoder(graph: Graph, model: Any, activation: str, int8: bool = False) -> None:
    """Add the decoder of a `PromptedT5`.

    | input | shape | |
    |---|---|---|
    | `input_ids` | int64 `[B, D]` | the next inputs: one token while decoding, all to score |
    | `attention_mask` | int64 `[B, T]` | that of the encoder's text |
    | `cross_key_{i}`, `cross_value_{i}` | float32 `[B, n, P + T, d]` | the encoder's outputs |
    | `past_key_{i}`, `past_value_{i}` | float32 `[B, n, past, d]` | empty at first |

    | output | shape | |
    |---|---|---|
    | `logits` | float32 `[B, D, V]` | |
    | `next_ids` | int64 `[B, D]` | the likeliest |
    | `present_key_{i}`, `present_value_{i}` | float32 `[B, n, past + D, d]` | the next past |
    """
    backbone = model.backbone
    decoder = _Decoder(graph, backbone, activation, int8)
    ids = graph.input("input_ids", "int64", ["batch", "positions"])
    mask = graph.input("attention_mask", "int64", ["batch", "length"])
    layers = range(len(backbone.decoder_transformer_layers))
    cross, past = (
        [decoder.pair_of_inputs(kind, size, i) for i in layers]
        for kind, size in (("cross", "prompt_and_length"), ("past", "past"))
    )
    table = graph.weight("token_embedding", numbers(backbone.token_embedding.embeddings))
    x = graph.op("Gather", table, ids, axis=0)
    before, count = decoder.size(past[0][0], 2), decoder.size(ids, 1)
    bias = decoder.causal_bias(before, count)
    first = graph.op("Sub", decoder.size(cross[0][0], 2), decoder.size(mask, 1))
    across = decoder.across(mask, first)
    present = []
    for number in layers:
        x, pair = decoder.layer(number, x, bias, across, cross[number], past[number])
        present.append(pair)
    logits = decoder.logits(x, table)
    graph.output("logits", logits, "float32", ["batch", "positions", backbone.vocabulary_size])
    best = graph.op("ArgMax", logits, axis=-1, keepdims=0)
    graph.output("next_ids", best, "int64", ["batch", "positions"])
    for number, pair in enumerate(present):
        for name, value in zip(("key", "value"), pair):
            shape = ["batch", decoder.heads, "past_and_positions", decoder.width]
            graph.output(f"present_{name}_{number}", value, "float32", shape)


class _Decoder(Layers):
    def pair_of_inputs(self, kind: str, size: str, number: int) -> list[str]:
        """Add a layer's keys and values as inputs."""
        shape: list[int | str] = ["batch", self.heads, size, self.width]
        return [
            self.graph.input(f"{kind}_{name}_{number}", "float32", shape)
            for name in ("key", "value")
        ]

    def causal_bias(self, before: str, count: str) -> str:
        """Return the bias `[1, n, D, past + D]`; a position sees itself and those before."""
        g = self.graph
        queries = self.positions(before, count)
        keys = self.positions(g.constant(0), g.op("Add", before, count))
        bias = self.position_bias("decoder", queries, keys)
        visible = g.op(
            "LessOrEqual",
            g.op("Unsqueeze", keys, g.constant([0])),
            g.op("Unsqueeze", queries, g.constant([1])),
        )
        return g.op("Add", bias, self.masked(visible))

    def layer(
        self, number: int, x: str, bias: str, across: str, cross: list[str], past: list[str]
    ) -> tuple[str, list[str]]:
        """Return `x` behind a layer, and its keys and values with those of `x`."""
        g, name = self.graph, f"decoder.{number}"
        layer = self.backbone.decoder_transformer_layers[number]
        attention = layer.self_attention
        y = self.norm(f"{name}.attention.norm", layer.self_attention_layer_norm, x)
        projectors = [attention.query_projector, attention.key_projector]
        projectors.append(attention.value_projector)
        query, *own = (
            self.by_head(each) for each in self.product(f"{name}.attention.in", y, projectors)
        )
        pair = [g.op("Concat", *each, axis=2) for each in zip(past, own)]
        mixed = self.attend(query, pair[0], pair[1], bias)
        out = self.product(f"{name}.attention.out", mixed, [attention.output_projector])
        x = g.op("Add", x, out)
        attention = layer.cross_attention
        y = self.norm(f"{name}.cross.norm", layer.cross_attention_layer_norm, x)
        query = self.by_head(self.product(f"{name}.cross.query", y, [attention.query_projector]))
        mixed = self.attend(query, cross[0], cross[1], across)
        out = self.product(f"{name}.cross.out", mixed, [attention.output_projector])
        return self.feed_forward(name, layer, g.op("Add", x, out)), pair

    def logits(self, x: str, table: str) -> str:
        """Return the logits `[B, D, V]` of the last states."""
        g, backbone = self.graph, self.backbone
        x = self.norm("decoder.norm", backbone.decoder_layer_norm, x)
        if not backbone.tie_embedding_weights:
            return self.times("head", x, numbers(backbone.token_embedding.reverse_embeddings))
        x = g.op("Mul", x, g.constant(backbone.hidden_dim**-0.5, "float32"))
        if self.int8:
            return self.times("head", x, numbers(backbone.token_embedding.embeddings).T)
        flat = g.op("Reshape", x, g.constant([-1, backbone.hidden_dim]))
        product = g.op("Gemm", flat, table, transB=1)
        shape = g.op("Concat", g.op("Shape", x, end=2), g.constant([-1]), axis=0)
        return g.op("Reshape", product, shape)
