"""A backbone gets its numbers straight from its file: nothing is drawn, and little held beside."""

import functools
import math
import pathlib

import keras
import numpy as np
import pytest
from test_converters import CONFIG, t5x_tensors, tensors, write_hugging_face, write_t5x

from keras_spot import backbones
from keras_spot.backbones import filling
from keras_spot.backbones.converters import huggingface, names
from keras_spot.backbones.converters.architecture import Architecture
from tools import load_big

STATUS = pathlib.Path("/proc/self/clear_refs")


@pytest.fixture
def nothing_is_drawn(monkeypatch):
    """Let every random initialiser of Keras' fail."""
    from keras.src.initializers import random_initializers

    def refuse(*_, **__):
        raise AssertionError("random numbers for weights that a file holds")

    for draw in ("normal", "truncated_normal", "uniform"):
        monkeypatch.setattr(random_initializers.random, draw, refuse)


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_weight_is_the_files(tmp_path, dtype):
    stored = tensors(CONFIG)
    backbone, _ = backbones.load(write_hugging_face(tmp_path / "hf", arrays=stored), dtype=dtype)
    architecture = huggingface.architecture_of(CONFIG)
    for name, path in names.HUGGING_FACE.expand(architecture).items():
        weight = functools.reduce(
            lambda owner, key: owner[int(key)] if key.isdecimal() else getattr(owner, key),
            path.split("."),
            backbone,
        )
        assert weight.dtype == dtype
        values = stored[name]
        values = values.T if path.endswith(("kernel", "reverse_embeddings")) else values
        expected = keras.ops.cast(keras.ops.convert_to_tensor(values), dtype)
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(weight), keras.ops.convert_to_numpy(expected)
        )


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_layers_tell_what_tracing_would_find(dtype):
    architecture = huggingface.architecture_of(CONFIG)
    traced = architecture.build(dtype)
    with filling.blank():
        told = architecture.build(dtype)

    def facts(backbone):
        outputs = [(spec.shape, spec.dtype) for x in backbone.layers for spec in tree(x.output)]
        kernels = [(w.path, w.dtype) for w in backbone.variables if w.path.endswith("kernel")]
        return outputs, kernels, [w.shape for w in backbone.variables]

    tree = keras.tree.flatten
    assert facts(told) == facts(traced)
    assert all(layer.built for layer in told._flatten_layers())


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize("quantize", [None, "int8"])
@pytest.mark.parametrize("kind", ["preset", "T5X"])
def test_whatever_the_file_nothing_is_drawn(tmp_path, kind, quantize):
    options = {"max_distance": 8} if kind == "T5X" else {}
    source = "tiny"
    if kind == "T5X":
        source = write_t5x(tmp_path / "t5x", t5x_tensors(True, False))
    direct, _ = backbones.load(source, quantize=quantize, **options)
    folder = backbones.save(direct, None, tmp_path / "saved")
    again, _ = backbones.load(folder)
    later, _ = backbones.load(source, **options)
    if quantize:
        backbones.load(later, quantize=quantize)
    for first, second, third in zip(direct.weights, again.weights, later.weights, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())
        np.testing.assert_array_equal(first.numpy(), third.numpy())
    assert backbones.fingerprint(direct) == backbones.fingerprint(again)


@pytest.mark.skipif(not STATUS.exists(), reason="needs the memory figures of Linux")
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_little_is_held_beside_the_weights(tmp_path, quantize):
    size = Architecture(4096, 512, 6, 6, 8, 64, 1024, "gelu_new", gated=True, tied=False)
    load_big.write(tmp_path / "hf", size)
    shapes = load_big.shapes(size).values()
    largest, whole = 4 * 4096 * 512, 4 * sum(math.prod(shape) for shape in shapes)
    backbones.load("tiny", quantize=quantize)  # what is imported late
    load_big.forget_peak()
    before = load_big.memory("VmRSS")
    backbone, _ = backbones.load(tmp_path / "hf", dtype="float32", quantize=quantize)
    peak = load_big.memory("VmHWM") - before
    bound = whole + load_big.MARGIN * largest if quantize is None else whole / 2
    assert peak < bound + 8e6  # layers and variables of the toy are objects as large as a T5's
    assert backbone.encoder_transformer_layers[0].input_projector.quantization_mode == quantize
