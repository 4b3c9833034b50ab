"""A learner that starts from a trained preset instead of from nothing, and learns to compare.

The maps that were thrown away after the first training are fitted anew by least squares. Later,
heads of the decoder's first layer are set to read one text each (`divide`), and units of the
second's feed-forward block to multiply what was read (`multiply`): a similarity is a sum of
products.
"""

import pathlib

import keras_hub
import numpy as np
import tensorflow as tf

from .network import HIDDEN, Learner
from .rows import AXES

RIDGE = 1e-3
LOOKING = 0.7
PRODUCT_AXES = 64
MIXTURES = 15


def load(learner: Learner, folder: pathlib.Path) -> None:
    """Copy the backbone's weights of a preset folder."""
    trained = keras_hub.models.T5Backbone.from_preset(str(folder), dtype="float32")
    for variable, trained_variable in zip(learner.t5.weights, trained.weights, strict=True):
        variable.assign(trained_variable)


def ridge(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Least squares without a constant, penalised in units of the inputs' mean square."""
    square = inputs.T @ inputs
    penalty = RIDGE * np.trace(square) / len(square)
    return np.linalg.solve(square + penalty * np.eye(len(square)), inputs.T @ outputs)


def observe(learner: Learner, sampler, batches: int) -> dict[str, np.ndarray]:
    """States of training rows: `pooled` [2N, H] and `axes` [2N, AXES] of texts, and of pairs that
    the teacher knows both texts of: `read` [N, H] after the decoder's first layer, `inside` [N, H]
    before the second's feed-forward block, `after` [N, H] behind it, `known` [N, 2, AXES] and
    `relation` [N, WIDTH] with its weights."""
    block = learner.t5.decoder_transformer_layers[1].output_projector
    encode, decode = tf.function(learner.encode), tf.function(learner.decode)
    chunks: dict[str, list] = {}

    def note(**arrays):
        for name, array in arrays.items():
            chunks.setdefault(name, []).append(np.asarray(array, np.float32))

    for _ in range(batches):
        part = sampler.batch()[1]
        tensors = {k: tf.constant(v) for k, v in part.items()}
        encoded = encode(tensors)
        states, _ = decode(tensors, encoded)
        kernel = block.kernel.numpy()
        block.kernel.assign(np.zeros_like(kernel))
        silenced, _ = decode(tensors, encoded)
        block.kernel.assign(kernel)
        rows = part["known_weight"].min(1) > 0
        encoded = np.asarray(tf.cast(encoded, tf.float32))
        for i in range(2):
            inside = (part["segment"] == i + 1).astype(np.float32)
            mean = np.einsum("bt,bth->bh", inside, encoded) / (inside.sum(1, keepdims=True) + 1e-6)
            note(pooled=mean[rows], axes=part["known"][rows, i])
        note(
            read=states[0].numpy()[rows],
            inside=silenced[1].numpy()[rows],
            after=states[1].numpy()[rows],
            known=part["known"][rows],
            relation=part["relation"][rows],
            relation_weight=part["relation_weight"][rows],
        )
    return {name: np.concatenate(arrays) for name, arrays in chunks.items()}


def normalise(states: np.ndarray, norm) -> np.ndarray:
    """What a feed-forward block sees of `states`."""
    return states / np.sqrt((states**2).mean(-1, keepdims=True) + 1e-6) * norm.weight.numpy()


def opening_query(learner: Learner) -> np.ndarray:
    """The cross-attention query [heads, 64] of the decoder's first layer at the first target
    position: the same for every row."""
    layer = learner.t5.decoder_transformer_layers[0]
    attention = layer.self_attention
    state = learner.t5.token_embedding.embeddings.numpy()[0]
    inside = normalise(state, layer.self_attention_layer_norm)
    state = state + inside @ attention.value_projector.kernel.numpy() @ (
        attention.output_projector.kernel.numpy()
    )
    inside = normalise(state, layer.cross_attention_layer_norm)
    query = inside @ layer.cross_attention.query_projector.kernel.numpy()
    return query.reshape(layer.cross_attention.num_heads, -1)


def divide(learner: Learner, sampler, batches: int) -> None:
    """Let two heads of the decoder's first layer look at the first text and two at the second:
    `placing`, which tells the texts' pieces apart, joins their keys where the query meets it.
    (No rows are looked at; the arguments are those of `multiply`.)"""
    attention = learner.t5.decoder_transformer_layers[0].cross_attention
    query, placing = opening_query(learner), learner.placing.numpy()[:, 0]
    kernel = attention.key_projector.kernel.numpy().reshape(HIDDEN, *query.shape)
    for head, vector in enumerate(query):
        sign = LOOKING if head % 2 else -LOOKING
        kernel[:, head] += sign * np.outer(placing, vector / (vector**2).sum())
    attention.key_projector.kernel.assign(kernel.reshape(HIDDEN, -1))


def multiply(learner: Learner, sampler, batches: int, seed: int = 0) -> None:
    """Set units of the second decoder layer to products u_i v_i of the two texts' axes:
    gelu(a) b + gelu(-a) (-b) = a b, two units for each axis, in place of those that write least.
    They write their best sum for the teacher's similarity, and random sums, to directions of the
    residual stream that hold least."""
    seen = observe(learner, sampler, batches)
    layer = learner.t5.decoder_transformer_layers[1]
    inputs = normalise(seen["inside"], layer.layer_norm)
    reading = ridge(inputs, seen["known"].reshape(len(inputs), -1)) * AXES**0.5
    first, second = reading[:, :PRODUCT_AXES], reading[:, AXES : AXES + PRODUCT_AXES]
    products = (inputs @ first) * (inputs @ second)
    rows = seen["relation_weight"] > 0
    centred = products - products[rows].mean(0)
    similarity = ridge(centred[rows], seen["relation"][rows][:, :1])
    random = np.random.default_rng(seed).normal(size=(PRODUCT_AXES, MIXTURES))
    sums = np.concatenate([similarity, random], 1)
    # The similarity three times as loud as the state is on the average, the others once.
    loud = np.sqrt((seen["after"] ** 2).mean()) * np.array([3.0] + [1.0] * MIXTURES)
    sums *= loud / (centred @ sums).std(0)
    quiet = np.linalg.svd(seen["after"], full_matrices=False)[2][-(1 + MIXTURES) :]
    writing = sums @ quiet
    entering, gate, leaving = (
        projector.kernel.numpy()
        for projector in (layer.input_projector, layer.gate_projector, layer.output_projector)
    )
    usual = np.abs(inputs @ gate).mean(0) * np.linalg.norm(leaving, axis=1)
    units = np.argsort(usual)[: 2 * PRODUCT_AXES].reshape(2, -1)
    for sign, members in zip((1.0, -1.0), units, strict=True):
        entering[:, members] = sign * first
        gate[:, members] = sign * second
        leaving[members] = writing
    layer.input_projector.kernel.assign(entering)
    layer.gate_projector.kernel.assign(gate)
    layer.output_projector.kernel.assign(leaving)
    seen = observe(learner, sampler, batches)
    rows = seen["relation_weight"] > 0
    learner.relating.assign(ridge(seen["after"][rows], seen["relation"][rows]))


def fit(learner: Learner, sampler, batches: int) -> None:
    """Fit the maps to the teacher's space and to relations that were thrown away."""
    seen = observe(learner, sampler, batches)
    learner.projection.assign(ridge(seen["pooled"], seen["axes"]))
    learner.readout.assign(ridge(seen["read"], seen["known"].reshape(len(seen["read"]), -1)))
    rows = seen["relation_weight"] > 0
    learner.relating.assign(ridge(seen["after"][rows], seen["relation"][rows]))
