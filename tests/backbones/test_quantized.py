"""Backbones with kernels of 8 and 4 bits: exact gradients, whole round trips, or a refusal."""

import gc
import json
import re
import weakref

import keras
import numpy as np
import pytest
import toy

from keras_spot import PromptedT5, backbones, build
from keras_spot.backbones import rounding
from keras_spot.base.reading.arrays import plain_dtype
from keras_spot.model import gradient_check
from keras_spot.prompts import initializers

PROMPT = np.random.default_rng(1).normal(size=(4, 16)).astype("float32")
pytestmark = pytest.mark.usefixtures("out_of_sight")
QUIET = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")


def prompted(backbone):
    return PromptedT5(backbone, prompt_initializer=initializers.from_numpy(PROMPT))


def cosine(one, other):
    return float(np.sum(one * other) / (np.linalg.norm(one) * np.linalg.norm(other)))


def rounded(backbone):
    """Return a backbone in float whose kernels are the numbers that quantised ones stand for."""
    other = toy.shallow(gain=1.0, dtype=backbone.dtype_policy.name)
    for ours, theirs in zip(backbone._flatten_layers(), other._flatten_layers(), strict=True):
        if isinstance(ours, keras.layers.Dense):
            ones = keras.ops.eye(theirs.kernel.shape[0], dtype=theirs.compute_dtype)
            kept, ours.activation = ours.activation, keras.activations.linear
            theirs.kernel.assign(ours(ones))
            ours.activation = kept
    return other


@pytest.mark.parametrize(("mode", "dtype"), [("int8", None), ("int4", "bfloat16")])
def test_a_quantized_backbone_trains_as_before_and_comes_back(mode, dtype, tmp_path, capsys):
    data = toy.batch(rows=8)
    backbone = toy.shallow(gain=1.0, dtype=dtype)
    before = backbones.fingerprint(backbone)
    backbones.load(backbone, quantize=mode)
    printed = capsys.readouterr().out
    assert re.fullmatch(rf"quantize: {mode}, \d.\d -> \d.\d MB of weights\n", printed)
    model = prompted(backbone)
    _, (gradient,) = gradient_check.loss_and_gradients(model, data)
    _, (exact,) = gradient_check.loss_and_gradients(prompted(rounded(backbone)), data)
    assert cosine(gradient, exact) > (0.9999 if dtype is None else 0.99)
    assert model.quantization == mode
    assert model.fingerprint != before
    assert not backbone.token_embedding.quantization_mode

    backbones.save(backbone, None, tmp_path / "preset")
    loaded, _ = backbones.load(tmp_path / "preset")
    assert backbones.fingerprint(loaded) == model.fingerprint
    assert backbones.quantization(loaded) == mode
    assert loaded.dtype_policy.name == (dtype or "float32")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.quantization == mode
    np.testing.assert_array_equal(again(data[0]), model(data[0]))


def test_kernels_in_float_go_while_they_are_quantized(monkeypatch):
    """Without a search for garbage, which would take longer than the quantising."""
    backbone = toy.shallow()
    layers = [one for one in backbone._flatten_layers() if isinstance(one, keras.layers.Dense)]
    kernels = [weakref.ref(layer.kernel) for layer in layers]

    def refuse(*_):
        raise AssertionError("a search for garbage")

    monkeypatch.setattr(gc, "collect", refuse)
    backbones.load(backbone, quantize="int8")
    assert [kernel() for kernel in kernels] == [None] * len(layers)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize("shape", [(70, 7), (64, 40)])
def test_kernels_are_rounded_as_keras_rounds_them(mode, dtype, shape, monkeypatch):
    monkeypatch.setattr(rounding, "_COLUMNS", 300)  # four columns at a time
    kernel = np.random.default_rng(0).normal(size=shape).astype(plain_dtype(dtype))
    kernel[:, 2] = 0
    layer = keras.layers.Dense(shape[1], use_bias=False, dtype=dtype)
    layer.build((None, shape[0]))
    layer.kernel.assign(kernel)
    layer.quantize(mode, config=backbones.quantized._config(mode))
    for name, numbers in rounding.rounded(kernel, mode, backbones.quantized.BLOCK).items():
        weight = getattr(layer, name)
        assert weight.dtype == numbers.dtype.name
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), numbers)


def test_the_mode_is_known_and_given_once(tmp_path):
    backbone = toy.shallow()
    with pytest.raises(ValueError, match=r"^`quantize` must be a known name\. .*'int8'"):
        backbones.load(backbone, quantize="int9")
    backbones.load(backbone, quantize="int8")
    backbones.load(backbone, quantize="int8")  # it is
    with pytest.raises(ValueError, match=r"^`quantize` must be None for a backbone that is quant"):
        backbones.load(backbone, quantize="int4")
    backbones.save(backbone, None, tmp_path / "preset")
    record = tmp_path / "preset" / "quantization.json"
    record.write_text(json.dumps({"mode": "int7", "dtype": "float32"}))
    with pytest.raises(ValueError, match=r"^`backbone` must hold a mode \(int8, int4\)"):
        backbones.load(tmp_path / "preset")


@QUIET
def test_what_is_quantized_without_a_gradient_is_refused():
    backbone = toy.shallow(gain=1.0)
    backbone.quantize("int8", filters=lambda layer: layer is not backbone.token_embedding)
    assert backbones.quantization(backbone) == backbones.ANOTHER_WAY
    assert build(backbone, PROMPT).quantization == backbones.ANOTHER_WAY
    for layer in backbone.encoder_transformer_layers:
        for owner in (layer, layer.self_attention):
            owner.output_projector.activation = keras.ops.stop_gradient
    with pytest.raises(ValueError, match=r"^`backbone` must have a gradient, which what it is qua"):
        build(backbone, PROMPT)
    backbone = toy.shallow(gain=1.0)
    backbone.quantize("int8")
    with pytest.raises(ValueError, match=r"^`backbone` must keep its token embedding in float"):
        build(backbone, PROMPT)


@pytest.mark.parametrize(("mode", "closeness"), [("int8", 0.99), ("int4", 0.98)])
def test_the_gradient_is_close_to_that_of_all_bits(mode, closeness):
    model, other = (build("tiny", prompt_length=4, quantize=each) for each in (None, mode))
    other.soft_prompt.prompt.assign(model.prompt)
    data = toy.batch(rows=8, vocabulary=4000)
    exact, gradient = (gradient_check.loss_and_gradients(each, data)[1] for each in (model, other))
    assert cosine(gradient[0], exact[0]) > closeness


def test_a_prompt_remembers_how_its_backbone_was_quantized(tmp_path, capsys):
    from keras_spot.cli.options import load_model

    model = build("tiny", prompt_length=4, quantize="int8")
    assert "quantize: int8, 35.3 -> 21.2 MB of weights" in capsys.readouterr().out
    model.save_prompt(tmp_path / "prompt.npz")
    again = load_model(None, str(tmp_path / "prompt.npz"), None)
    assert again.fingerprint == model.fingerprint
    with pytest.raises(ValueError, match="must come from this backbone"):
        build("tiny", tmp_path / "prompt.npz")
