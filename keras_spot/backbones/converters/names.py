"""What each weight of a T5 is called in other people's checkpoints.

Left the checkpoint's name, right the variable of KerasHub's `T5Backbone` as a path of attributes
(its own weight paths are not unique: the relative biases of encoder and decoder share
one). `{i}` stands for every layer.
"""

import dataclasses
from collections.abc import Mapping

from keras_spot.backbones.converters.architecture import Architecture

__all__ = [
    "COPIES",
    "HUGGING_FACE",
    "T5X",
    "TIED_COPIES",
    "UNUSED_HUGGING_FACE",
    "UNUSED_T5X",
    "Names",
]


@dataclasses.dataclass(frozen=True)
class Names:
    """The name table of one kind of checkpoint.

    Attributes:
        model: weights outside the layers.
        untied: the output matrix of a model with an untied head.
        encoder, decoder: weights of every layer.
        plain, gated: the dense layers of either style, for both stacks.
        stacks: prefixes of an encoder and a decoder layer's dense weights.
        transposed: last attributes whose matrices are stored the other way round.
    """

    model: Mapping[str, str]
    untied: Mapping[str, str]
    encoder: Mapping[str, str]
    decoder: Mapping[str, str]
    plain: Mapping[str, str]
    gated: Mapping[str, str]
    stacks: tuple[str, str]
    transposed: frozenset[str]

    def expand(self, architecture: Architecture) -> dict[str, str]:
        """Return name -> attribute path for every weight of one architecture."""
        table = dict(self.model)
        if not architecture.tied:
            table.update(self.untied)
        dense = self.gated if architecture.gated else self.plain
        for stack, rows, prefix, layers in (
            ("encoder", self.encoder, self.stacks[0], architecture.encoder_layers),
            ("decoder", self.decoder, self.stacks[1], architecture.decoder_layers),
        ):
            rows = {**rows, **{prefix + name: path for name, path in dense.items()}}
            for i in range(layers):
                for name, path in rows.items():
                    layer = f"{stack}_transformer_layers.{i}"
                    table[name.format(i=i)] = f"{layer}.{path}"
        return table


HUGGING_FACE = Names(
    model={
        "shared.weight": "token_embedding.embeddings",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (
            "encoder_transformer_layers.0.self_attention.relative_attention_bias"
        ),
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (
            "decoder_transformer_layers.0.self_attention.relative_attention_bias"
        ),
        "encoder.final_layer_norm.weight": "encoder_layer_norm.weight",
        "decoder.final_layer_norm.weight": "decoder_layer_norm.weight",
    },
    untied={"lm_head.weight": "token_embedding.reverse_embeddings"},
    encoder={
        "encoder.block.{i}.layer.0.layer_norm.weight": "self_attention_layer_norm.weight",
        "encoder.block.{i}.layer.0.SelfAttention.q.weight": "self_attention.query_projector.kernel",
        "encoder.block.{i}.layer.0.SelfAttention.k.weight": "self_attention.key_projector.kernel",
        "encoder.block.{i}.layer.0.SelfAttention.v.weight": "self_attention.value_projector.kernel",
        "encoder.block.{i}.layer.0.SelfAttention.o.weight": (
            "self_attention.output_projector.kernel"
        ),
        "encoder.block.{i}.layer.1.layer_norm.weight": "layer_norm.weight",
    },
    decoder={
        "decoder.block.{i}.layer.0.layer_norm.weight": "self_attention_layer_norm.weight",
        "decoder.block.{i}.layer.0.SelfAttention.q.weight": "self_attention.query_projector.kernel",
        "decoder.block.{i}.layer.0.SelfAttention.k.weight": "self_attention.key_projector.kernel",
        "decoder.block.{i}.layer.0.SelfAttention.v.weight": "self_attention.value_projector.kernel",
        "decoder.block.{i}.layer.0.SelfAttention.o.weight": (
            "self_attention.output_projector.kernel"
        ),
        "decoder.block.{i}.layer.1.layer_norm.weight": "cross_attention_layer_norm.weight",
        "decoder.block.{i}.layer.1.EncDecAttention.q.weight": (
            "cross_attention.query_projector.kernel"
        ),
        "decoder.block.{i}.layer.1.EncDecAttention.k.weight": (
            "cross_attention.key_projector.kernel"
        ),
        "decoder.block.{i}.layer.1.EncDecAttention.v.weight": (
            "cross_attention.value_projector.kernel"
        ),
        "decoder.block.{i}.layer.1.EncDecAttention.o.weight": (
            "cross_attention.output_projector.kernel"
        ),
        "decoder.block.{i}.layer.2.layer_norm.weight": "layer_norm.weight",
    },
    plain={
        "wi.weight": "input_projector.kernel",
        "wo.weight": "output_projector.kernel",
    },
    gated={
        "wi_0.weight": "input_projector.kernel",
        "wi_1.weight": "gate_projector.kernel",
        "wo.weight": "output_projector.kernel",
    },
    stacks=(
        "encoder.block.{i}.layer.1.DenseReluDense.",
        "decoder.block.{i}.layer.2.DenseReluDense.",
    ),
    transposed=frozenset({"kernel", "reverse_embeddings"}),
)

T5X = Names(
    model={
        "token_embedder.embedding": "token_embedding.embeddings",
        "encoder.relpos_bias.rel_embedding": (
            "encoder_transformer_layers.0.self_attention.relative_attention_bias"
        ),
        "decoder.relpos_bias.rel_embedding": (
            "decoder_transformer_layers.0.self_attention.relative_attention_bias"
        ),
        "encoder.encoder_norm.scale": "encoder_layer_norm.weight",
        "decoder.decoder_norm.scale": "decoder_layer_norm.weight",
    },
    untied={"decoder.logits_dense.kernel": "token_embedding.reverse_embeddings"},
    encoder={
        "encoder.layers_{i}.pre_attention_layer_norm.scale": "self_attention_layer_norm.weight",
        "encoder.layers_{i}.attention.query.kernel": "self_attention.query_projector.kernel",
        "encoder.layers_{i}.attention.key.kernel": "self_attention.key_projector.kernel",
        "encoder.layers_{i}.attention.value.kernel": "self_attention.value_projector.kernel",
        "encoder.layers_{i}.attention.out.kernel": "self_attention.output_projector.kernel",
        "encoder.layers_{i}.pre_mlp_layer_norm.scale": "layer_norm.weight",
    },
    decoder={
        "decoder.layers_{i}.pre_self_attention_layer_norm.scale": (
            "self_attention_layer_norm.weight"
        ),
        "decoder.layers_{i}.self_attention.query.kernel": "self_attention.query_projector.kernel",
        "decoder.layers_{i}.self_attention.key.kernel": "self_attention.key_projector.kernel",
        "decoder.layers_{i}.self_attention.value.kernel": "self_attention.value_projector.kernel",
        "decoder.layers_{i}.self_attention.out.kernel": "self_attention.output_projector.kernel",
        "decoder.layers_{i}.pre_cross_attention_layer_norm.scale": (
            "cross_attention_layer_norm.weight"
        ),
        "decoder.layers_{i}.encoder_decoder_attention.query.kernel": (
            "cross_attention.query_projector.kernel"
        ),
        "decoder.layers_{i}.encoder_decoder_attention.key.kernel": (
            "cross_attention.key_projector.kernel"
        ),
        "decoder.layers_{i}.encoder_decoder_attention.value.kernel": (
            "cross_attention.value_projector.kernel"
        ),
        "decoder.layers_{i}.encoder_decoder_attention.out.kernel": (
            "cross_attention.output_projector.kernel"
        ),
        "decoder.layers_{i}.pre_mlp_layer_norm.scale": "layer_norm.weight",
    },
    plain={
        "wi.kernel": "input_projector.kernel",
        "wo.kernel": "output_projector.kernel",
    },
    gated={
        "wi_0.kernel": "input_projector.kernel",
        "wi_1.kernel": "gate_projector.kernel",
        "wo.kernel": "output_projector.kernel",
    },
    stacks=("encoder.layers_{i}.mlp.", "decoder.layers_{i}.mlp."),
    transposed=frozenset({"relative_attention_bias"}),
)

# Copies that Hugging Face checkpoints may hold -> what they must equal. The head is one where
# it is tied.
COPIES = {
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
}
TIED_COPIES = {**COPIES, "lm_head.weight": "shared.weight"}

# Weights that no T5 uses: a bias that early Hugging Face code made and never applied.
UNUSED_HUGGING_FACE = frozenset(
    {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"}
)
# Prompt tuning's checkpoints hold the prompt beside the frozen weights.
UNUSED_T5X = frozenset({"encoder.prompt.prompt.prompt"})
