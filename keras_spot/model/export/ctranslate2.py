"""A CTranslate2 folder in which a prompt is P more words of the source vocabulary."""

import os
from typing import Any

import numpy as np

from keras_spot.model.export.merged import TOLERANCES, Merged, quantization
from keras_spot.model.export.readme import write_readme
from keras_spot.model.export.trial import Trial

__all__ = ["FORM", "export_ctranslate2", "vocabulary"]

FORM = "ctranslate2"
_NEVER = -1e9  # added to the logits of a tied head's rows that are prompts
_ACTIVATIONS = {
    "relu": "RELU",
    "gelu": "GELU",
    "gelu_python": "GELU",
    "gelu_new": "GELUTanh",
    "gelu_pytorch_tanh": "GELUTanh",
    "silu": "SWISH",
    "swish": "SWISH",
}


def export_ctranslate2(
    model: Any,
    path: str | os.PathLike,
    max_length: int | None = None,
    overwrite: bool = False,
    *,
    tasks: Any = None,
    quantize: str | None = None,
) -> None:
    """Write a folder that CTranslate2 runs, alone.

    The source vocabulary has K·P words more than the model's. A head that is a matrix of its own
    has no rows for them; a tied one, which is the embedding table, has a bias that keeps them out.

    Args:
        model: `PromptedT5`.
        path: folder to write; may be an address.
        max_length: target tokens at most. Default: the preprocessor's.
        overwrite: see `PromptedT5.export`.
        tasks: what the prompts were trained on, see `described.cards_of`.
        quantize: `"int8"`: weights of products in 8 bits, a quarter of the size; answers may
            differ. Default: float32.

    Raises:
        InvalidArgument: see `Merged`, a prompt that sees only itself, or an unknown `quantize`.
        MissingExtra: ctranslate2 is not installed.
    """
    import ctranslate2

    stored = quantization(quantize)
    merged = Merged(model, FORM, tasks)
    merged.check_attention()
    with merged.folder(path, overwrite) as folder:
        spec = _spec(merged)
        spec.validate()
        spec.optimize("int8" if stored == "int8" else None)
        spec.save(str(folder))
        facts = {"words": merged.words, "quantization": stored}
        merged.write_card(folder, max_length, **facts)
        write_readme(folder, merged, merged.target_length(max_length))
        _check(Trial(merged.model), ctranslate2.Translator(str(folder)), merged, stored, path)


def vocabulary(merged: Merged) -> list[str]:
    """Return a name for each row of the embedding table, without the prompts' words."""
    pieces = merged.tokenizer.get_vocabulary()
    rows = merged.architecture.vocabulary_size
    return pieces + [f"<spot:row:{i}>" for i in range(len(pieces), rows)]


def _spec(merged: Merged) -> Any:
    """Return CTranslate2's description of the model, with all weights."""
    from ctranslate2 import specs
    from ctranslate2.specs import common_spec

    shape, rows = merged.architecture, merged.rows
    tokens = vocabulary(merged)

    class Spec(specs.TransformerSpec):
        def get_target_vocabulary_size(self) -> int:
            return len(tokens) + (len(rows) if shape.tied else 0)

    spec = Spec.from_config(
        (shape.encoder_layers, shape.decoder_layers),
        shape.num_heads,
        pre_norm=True,
        activation=common_spec.Activation[_ACTIVATIONS[shape.activation]],
        ffn_glu=shape.gated,
        relative_attention_bias=True,
        rms_norm=True,
    )
    weights = {name: values.astype("float32") for name, values in merged.tensors()}
    table = np.concatenate([weights["shared.weight"], rows])
    spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = table
    if shape.tied:
        spec.decoder.projection.weight = table
        spec.decoder.scale_outputs = shape.hidden_dim**-0.5
        never = np.zeros(len(table), "float32")
        never[len(tokens) :] = _NEVER
        spec.decoder.projection.bias = never
    else:
        spec.decoder.projection.weight = weights["lm_head.weight"]
    for name, stack in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        _fill_stack(stack, name, weights, shape.max_distance)
    words = [word for prompt in merged.words.values() for word in prompt]
    spec.register_source_vocabulary(tokens + words)
    spec.register_target_vocabulary(tokens + words if shape.tied else tokens)
    spec.config.bos_token = spec.config.decoder_start_token = tokens[0]
    spec.config.eos_token, spec.config.unk_token = tokens[1], tokens[2]
    spec.config.layer_norm_epsilon = shape.epsilon
    return spec


def _fill_stack(stack: Any, name: str, weights: dict[str, np.ndarray], max_distance: int) -> None:
    """Give the layers of an encoder or decoder their weights."""
    stack.scale_embeddings = False
    stack.layer_norm.gamma = weights[f"{name}.final_layer_norm.weight"]
    bias = weights[f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    for number, layer in enumerate(stack.layer):
        of_layer = f"{name}.block.{number}.layer."
        own = _attention(layer.self_attention, f"{of_layer}0", "SelfAttention", "qkv", weights)
        own.relative_attention_bias = bias
        own.relative_attention_max_distance = np.dtype("int32").type(max_distance)
        last = f"{of_layer}1"
        if name == "decoder":
            _attention(layer.attention, last, "EncDecAttention", "q kv", weights)
            last = f"{of_layer}2"
        layer.ffn.layer_norm.gamma = weights[f"{last}.layer_norm.weight"]
        dense = f"{last}.DenseReluDense"
        if f"{dense}.wi.weight" in weights:
            layer.ffn.linear_0.weight = weights[f"{dense}.wi.weight"]
        else:
            layer.ffn.linear_0.weight = weights[f"{dense}.wi_0.weight"]
            layer.ffn.linear_0_noact.weight = weights[f"{dense}.wi_1.weight"]
        layer.ffn.linear_1.weight = weights[f"{dense}.wo.weight"]


def _attention(
    spec: Any, place: str, kind: str, products: str, weights: dict[str, np.ndarray]
) -> Any:
    """Fill and return an attention; `products` says which projections are made in one."""
    spec.queries_scale = 1.0  # T5 scales no scores
    spec.layer_norm.gamma = weights[f"{place}.layer_norm.weight"]
    for linear, letters in zip(spec.linear, [*products.split(), "o"]):
        kernels = [weights[f"{place}.{kind}.{letter}.weight"] for letter in letters]
        linear.weight = np.concatenate(kernels)
    return spec


def _check(trial: Trial, translator: Any, merged: Merged, stored: str, path: Any) -> None:
    """Raise RuntimeError unless the folder gives a target the model's own likelihood."""
    tokens, words = vocabulary(merged), list(merged.words.values())
    sources = [
        [*words[number], *(tokens[i] for i in row)]
        for number, row in zip(trial.prompts, trial.rows)
    ]
    targets = [[tokens[i] for i in row[1:]] for row in trial.target]
    results = translator.score_batch(sources, targets, max_input_length=0)
    scores = [result.log_probs[: len(target)] for result, target in zip(results, targets)]
    trial.check_likelihoods(np.array(scores), str(path), TOLERANCES[stored])
