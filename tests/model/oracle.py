"""The long way: KerasHub's layers called whole over P + T positions, visibility by a mask.

What the package computes by short cuts is compared with this. It never uses the package's own
forward pass.
"""

import keras
import numpy as np
import tensorflow as tf


def logits(model, x):
    """Return the logits `[B, D, V]` of a `PromptedT5` for its call arguments."""
    backbone = model.backbone
    tokens = backbone.token_embedding(x["encoder_token_ids"])
    prompts = tf.stack([tf.convert_to_tensor(prompt) for prompt in model.soft_prompt.prompts])
    index = x.get("prompt_index", np.zeros(len(tokens), "int32"))
    length = prompts.shape[1]
    h = tf.concat([tf.gather(tf.cast(prompts, tokens.dtype), index), tokens], axis=1)
    seen = np.pad(x["encoder_padding_mask"], [[0, 0], [length, 0]], constant_values=1)
    at = np.arange(seen.shape[1])
    allowed = {
        "full": at[:, None] >= 0,
        "prompt": (at[:, None] >= length) | (at < length),
        "causal": (at[:, None] >= length) | (at <= at[:, None]),
    }[model.prompt_attention]
    mask, bias = seen[:, None] * allowed[None].astype("int32"), None
    for layer in backbone.encoder_transformer_layers:
        h, bias = layer(h, attention_mask=mask, position_bias=bias)
    states = backbone.encoder_layer_norm(h)
    h, bias = backbone.token_embedding(x["decoder_token_ids"]), None
    for layer in backbone.decoder_transformer_layers:
        h, bias = layer(
            h,
            attention_mask=x["decoder_padding_mask"][:, None],
            position_bias=bias,
            encoder_hidden_states=states,
            encoder_attention_mask=seen[:, None],
            use_causal_mask=True,
        )
    h = backbone.decoder_layer_norm(h)
    if backbone.tie_embedding_weights:
        h = h * backbone.hidden_dim**-0.5
    return backbone.token_embedding(h, reverse=True)


def loss(y, logits, weight):
    """Return the mean cross-entropy of targets `[B, D]` with a z-loss of 1e-4, as T5X has it."""
    logits = tf.cast(logits, "float32" if logits.dtype == tf.bfloat16 else logits.dtype)
    log_z = tf.reduce_logsumexp(logits, axis=-1)
    picked = tf.reduce_sum(logits * tf.one_hot(y, logits.shape[-1], dtype=logits.dtype), axis=-1)
    each = log_z - picked + 1e-4 * log_z**2
    return tf.reduce_sum(each * tf.cast(weight, each.dtype)) / np.sum(weight)


def step(model, data, variables=None, ours=True):
    """Return loss, logits and the gradients of variables, ours of a training step or the oracle's.

    Args:
        data: `(x, y, sample_weight)`.
        variables: default, the prompts.
        ours: whether the model computes, or the long way. Default True.
    """
    x, y, weight = data
    variables = variables or model.soft_prompt.prompts

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            if ours:
                outputs = model(x, training=True)
                total = model.compute_loss(x, y, outputs, weight)
            else:
                outputs = logits(model, x)
                total = loss(y, outputs, weight)
        gradients = tape.gradient(total, [variable.value for variable in variables])
        assert None not in gradients
        return total, outputs, [tf.convert_to_tensor(gradient) for gradient in gradients]

    return keras.tree.map_structure(np.asarray, run())


def assert_close(ours, theirs, tolerance=2e-5, names=None):
    """Compare arrays, each by its own scale."""
    for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        scale = np.abs(other).max()
        name = names and names[place]
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=tolerance, err_msg=name)
