"""A backbone gets its numbers straight from its file: nothing is drawn, and little held beside."""

import functools
import math
import pathlib

import keras
import numpy as np
import pytest
import toy
from test_converters import CONFIG, t5x_tensors, tensors, write_hugging_face, write_t5x

from keras_spot import PromptedT5, backbones
from keras_spot.backbones import filling
from keras_spot.backbones.converters import huggingface, names, t5x
from keras_spot.backbones.converters.architecture import Architecture
from tools import load_big

STATUS = pathlib.Path("/proc/self/clear_refs")


PROMPT = (3, 16)


@pytest.fixture
def nothing_is_drawn(monkeypatch):
    """Let every random initialiser of Keras' fail, for anything but a toy's prompt."""
    from keras.src.initializers import random_initializers

    def refusing(draw):
        def drawn(shape, *args, **options):
            if tuple(shape) != PROMPT:
                raise AssertionError("random numbers for weights that a file holds")
            return draw(shape, *args, **options)

        return drawn

    for name in ("normal", "truncated_normal", "uniform"):
        draw = getattr(random_initializers.random, name)
        monkeypatch.setattr(random_initializers.random, name, refusing(draw))


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


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_of_a_saved_model_nothing_is_drawn_but_its_prompt(tmp_path, quantize, request):
    backbone, _ = backbones.load(toy.shallow(gain=1.0), quantize=quantize)
    model = PromptedT5(backbone, prompt_length=PROMPT[0])
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "task")
    backbones.save(backbone, None, tmp_path / "backbone")
    request.getfixturevalue("nothing_is_drawn")
    loaded = [keras.saving.load_model(tmp_path / "model.keras")]
    loaded.append(PromptedT5.from_preset(str(tmp_path / "task")))
    if quantize is None:
        options = {"prompt_length": PROMPT[0], "preprocessor": None}
        of_a_t5 = PromptedT5.from_preset(str(tmp_path / "backbone"), **options)
        assert of_a_t5.fingerprint == model.fingerprint
    for again in loaded:
        for mine, theirs in zip(model.weights, again.weights, strict=True):
            np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
        assert not filling.blank_weights(again)
        assert not any("assign" in vars(weight) for weight in again.weights)
    with pytest.raises(AssertionError, match="random numbers"):
        PromptedT5.from_config(model.get_config())


@pytest.mark.parametrize("kind", ["Hugging Face", "T5X"])
def test_parts_are_read_and_no_others(tmp_path, kind, monkeypatch):
    if kind == "T5X":
        folder = write_t5x(tmp_path / "t5x", t5x_tensors(True, False))
        tensors_of, name = t5x.Target(folder), "token_embedder.embedding"
    else:
        folder = write_hugging_face(tmp_path / "hf", arrays=tensors(CONFIG))
        tensors_of, name = huggingface.SafeTensors(folder), "shared.weight"
    rows, columns = tensors_of.shape(name)
    whole, held = tensors_of.read(name, "float32", False), []
    fromfile = np.fromfile

    def counting(stream, dtype, count):
        held.append(count)
        return fromfile(stream, dtype, count)

    monkeypatch.setattr(np, "fromfile", counting)
    parts = [(slice(2, 5), slice(0, columns)), (slice(0, rows), slice(1, 4)), (slice(3, 9),) * 2]
    for part in parts:
        np.testing.assert_array_equal(tensors_of.read(name, "float32", False, part), whole[part])
        turned = tensors_of.read(name, "float32", True, part[::-1])
        np.testing.assert_array_equal(turned, whole[part].T)
    if kind == "Hugging Face":
        assert held == [n * columns for n in (3, 3, rows, rows, 6, 6)]


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
