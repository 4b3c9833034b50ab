"""What a TPU cannot take is in no training step and no answer: looked for in their graphs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy
from tensorflow.python.framework import op_def_registry

from keras_spot import PromptedT5

HOST = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
KNOWN = {"BroadcastGradientArgs"}  # axes, which XLA knows as it compiles


def unfit(function, *arguments):
    """Return what a TPU cannot take of a function of static shapes, as sorted short texts."""
    specs = keras.tree.map_structure(lambda a: tf.TensorSpec(a.shape, a.dtype), arguments)
    traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    graph = traced.graph.as_graph_def(add_shapes=True)
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    reasons = set()
    for node in nodes:
        if node.op in HOST:
            reasons.add(f"Python: {node.op}")
        types = {kind for a in node.attr.values() for kind in (a.type, *a.list.type)}
        definition = op_def_registry.get(node.op)
        if definition is not None:
            types |= {arg.type for arg in (*definition.input_arg, *definition.output_arg)}
        if tf.float64.as_datatype_enum in types:
            reasons.add(f"float64: {node.op}")
        if tf.string.as_datatype_enum in types:
            reasons.add(f"string: {node.op}")
        for shape in () if node.op in KNOWN else node.attr["_output_shapes"].list.shape:
            if shape.unknown_rank or any(side.size < 0 for side in shape.dim):
                reasons.add(f"dynamic: {node.op}")
    return sorted(reasons)


def model_and_batch(**options):
    model = PromptedT5(toy.shallow(), prompt_length=3, **options)
    model.compile(jit_compile=False)
    x, y, weight = toy.batch(rows=8)
    if model.num_prompts is not None:
        x["prompt_index"] = np.arange(8, dtype="int32") % 2
    model.train_on_batch(x, y, weight)  # builds metrics and optimiser
    return model, (x, y, weight)


OPTIONS = [
    {"prompt_attention": "full"},
    {"prompt_attention": "prompt", "remat": True},
    {"prompt_attention": "causal", "num_prompts": 2},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_step_and_an_answer_are_fit_for_a_tpu(options):
    model, (x, y, weight) = model_and_batch(kernels="plain", **options)
    assert unfit(lambda *batch: model.train_step(batch), x, y, weight) == []
    start = {**x, "decoder_padding_mask": np.eye(1, 4, dtype="int32").repeat(8, 0)}
    assert unfit(lambda batch: model.generate_step(batch, (1,)), start) == []
    assert unfit(lambda batch: model.forward_pass(batch), x) == []


FAULTS = {
    "string": lambda logits: tf.strings.length(tf.strings.as_string(logits)),
    "float64": lambda logits: tf.cast(tf.cast(logits, "float64") * 2.0, "float32"),
    "Python": lambda logits: tf.ensure_shape(
        tf.numpy_function(lambda a: a, [logits], tf.float32), logits.shape
    ),
    "dynamic": lambda logits: tf.boolean_mask(logits, logits[:, 0, 0] > 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_tpu_cannot_take_is_noticed_wherever_it_stands(fault):
    def inside(values):
        """The fault in a loop of a function of its own."""

        def body(i, total):
            return i + 1, total + tf.reduce_sum(tf.cast(FAULTS[fault](values), "float32"))

        return tf.while_loop(lambda i, _: i < 2, body, (0, 0.0))

    reasons = unfit(inside, np.zeros((2, 3, 4), "float32"))
    assert any(reason.startswith(fault) for reason in reasons)
