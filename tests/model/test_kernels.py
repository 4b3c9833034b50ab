"""What may train, and by which kernels: every gradient is the long way's, or it is refused."""

import sys

import keras
import numpy as np
import oracle
import pytest
import toy

import keras_spot
from keras_spot import PromptedT5
from keras_spot.base import devices
from keras_spot.base.choices import PROMPT_ATTENTION
from keras_spot.prompts import initializers

PARTS = {
    "norms": lambda b: [w for w in b.weights if w.path.endswith("layer_norm/weight")],
    "relative biases": lambda b: [w for w in b.weights if w.path.endswith("attention/embeddings")],
    "projections": lambda b: [w for w in b.weights if w.path.endswith("kernel")],
    "embedding": lambda b: b.token_embedding.weights,
    "one layer": lambda b: b.encoder_transformer_layers[1].weights,
    "decoder": lambda b: [w for layer in b.decoder_transformer_layers for w in layer.weights],
    "everything": lambda b: b.weights,
}


def prompted(backbone, **options):
    start = initializers.uniform(2.0, seed=1)
    return PromptedT5(backbone, prompt_length=5, prompt_initializer=start, **options)


def unfreeze(backbone, weights):
    """Let these weights train as a user does: by their layers' `trainable`."""
    chosen = {id(weight) for weight in weights}
    backbone.trainable = True
    for layer in backbone._flatten_layers(include_self=False):
        own = layer.trainable_weights + layer.non_trainable_weights
        if not list(layer._flatten_layers(include_self=False)):
            layer.trainable = any(id(weight) in chosen for weight in own)
    for weight in backbone.weights:  # an attention's relative bias is its own
        weight.trainable = id(weight) in chosen


@pytest.mark.parametrize(
    ("part", "visibility"),
    [*((part, "prompt") for part in PARTS), ("everything", "causal"), ("everything", "full")],
)
def test_whatever_trains_has_its_gradient(part, visibility, monkeypatch):
    monkeypatch.setattr(devices, "LARGE", 1)
    # A prompt that sees itself leaves no short cut out, and no prompt's path goes by every weight.
    backbone = toy.backbone(gain=1.0, dtype="float64", tie_embedding_weights=part == "embedding")
    model = prompted(backbone, prompt_attention=visibility)
    assert model.kernels_used == "fast"
    weights = PARTS[part](backbone)
    assert weights
    unfreeze(backbone, weights)
    assert model.kernels_used == "plain"
    assert {id(w) for w in backbone.trainable_weights} == {id(w) for w in weights}
    data = toy.batch(targets=3)
    variables = model.trainable_variables
    assert len(variables) == len(weights) + 1
    ours, theirs = (oracle.step(model, data, variables, ours=own)[2] for own in (True, False))
    for gradient in theirs:
        assert np.abs(gradient).max() > 0
    oracle.assert_close(ours, theirs, 1e-5, [variable.path for variable in variables])


@pytest.mark.parametrize("visibility", PROMPT_ATTENTION)
def test_a_bank_under_remat_may_train_everything(visibility):
    backbone = toy.backbone(gain=1.0, dtype="float64")
    model = prompted(backbone, prompt_attention=visibility, num_prompts=2, remat=True)
    backbone.trainable = True
    x, y, weight = toy.batch(targets=12)
    x["prompt_index"] = np.array([1, 0, 1, 1], "int32")
    # The bank's loss adds up its prompts' means: the oracle's is that of rows weighed alike.
    weight = weight * np.where(x["prompt_index"] == 1, 1.0, 0.0)[:, None].astype("float32")
    variables = [model.soft_prompt.prompts[1], *backbone.trainable_variables]
    data = x, y, weight
    ours, theirs = (oracle.step(model, data, variables, ours=own)[2] for own in (True, False))
    oracle.assert_close(ours, theirs, 1e-5, [variable.path for variable in variables])


def test_fit_moves_all_that_trains_between_two_compilations(monkeypatch):
    monkeypatch.setattr(devices, "LARGE", 1)
    backbone = toy.shallow(gain=1.0)
    model = prompted(backbone)
    x, y, weight = toy.batch(targets=3)
    model.fit(x, y, sample_weight=weight, verbose=0)
    assert model.kernels_used == "fast"
    for trainable, used in ((True, "plain"), (False, "fast")):
        backbone.trainable = trainable
        model.compile(keras.optimizers.SGD(0.1))
        assert model.kernels_used == used
        before = [np.asarray(v) for v in model.variables]
        model.fit(x, y, sample_weight=weight, verbose=0)
        moved = {id(v) for v, old in zip(model.variables, before) if (np.asarray(v) != old).any()}
        assert moved >= {id(v) for v in model.trainable_variables}
        assert not moved & {id(v) for v in backbone.non_trainable_variables}


def test_unfrozen_after_compiling_is_noticed_as_training_starts():
    model = prompted(toy.shallow(gain=1.0), kernels="fast")
    assert model.kernels == model.kernels_used == "fast"
    x, y, weight = toy.batch()
    model.backbone.encoder_layer_norm.trainable = True
    rule = r"`kernels` must not be 'fast' where anything but the prompt trains, as .*weight does"
    with pytest.raises(ValueError, match=rule):
        model.fit(x, y, sample_weight=weight, verbose=0)
    with pytest.raises(ValueError, match=rule):
        model.compile()
    with pytest.raises(ValueError, match=rule):
        model(x, training=True)
    assert np.isfinite(np.asarray(model(x))).all()


def test_adapters_train_and_a_still_prompt_stands_still(monkeypatch):
    monkeypatch.setattr(devices, "LARGE", 1)
    backbone = toy.backbone(gain=1.0, dtype="float64")
    model = prompted(backbone)
    backbone.enable_lora(2, target_layer_names=["query_projector", "key_projector"])
    model.soft_prompt.trainable = False
    model.compile(keras.optimizers.SGD(0.1))
    variables = model.trainable_variables
    assert variables
    assert all("lora" in variable.path for variable in variables)
    for variable in variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    data = toy.batch(targets=3)
    ours, theirs = (oracle.step(model, data, variables, ours=own)[2] for own in (True, False))
    oracle.assert_close(ours, theirs, 1e-5, [variable.path for variable in variables])
    before = model.prompt
    x, y, weight = data
    model.fit(x, y, sample_weight=weight, verbose=0)
    np.testing.assert_array_equal(model.prompt, before)


def test_frozen_adapters_are_part_of_the_kernels():
    backbone = toy.backbone(gain=1.0, dtype="float64", activation="gelu")
    layers = {layer.name for layer in backbone._flatten_layers() if "projector" in layer.name}
    backbone.enable_lora(2, target_layer_names=layers)
    variables = backbone.trainable_variables
    assert len(variables) == 2 * len([v for v in backbone.weights if v.path.endswith("or/kernel")])
    for variable in variables:
        variable.assign(np.random.default_rng(0).normal(0.0, 0.3, variable.shape))
    model = prompted(backbone, kernels="fast")
    assert not any(variable.trainable for variable in backbone.weights)
    data = toy.batch(targets=3)
    (ours, theirs) = (oracle.step(model, data, ours=own)[1:] for own in (True, False))
    oracle.assert_close([ours[0], *ours[1]], [theirs[0], *theirs[1]])


def test_the_choice():
    backbone = toy.shallow()
    assert prompted(backbone).kernels_used == "plain"  # too small to gain
    assert prompted(backbone, kernels="plain").kernels_used == "plain"
    with pytest.raises(ValueError, match=r"`kernels` must be a known name.*'fsat'.*'fast'"):
        prompted(backbone, kernels="fsat")
    model = prompted(backbone)
    model.compile(kernels="fast")
    model.compile()
    assert model.kernels == model.kernels_used == model.get_config()["kernels"] == "fast"
    with pytest.raises(ValueError, match="`kernels` must be a known name"):
        model.compile(kernels="fsat")


def test_fast_is_refused_where_it_is_not_right(monkeypatch):
    backbone = toy.shallow()
    model = prompted(backbone, kernels="fast")
    with pytest.raises(ValueError, match="with jit_compile=True, where XLA compiles the plain"):
        model.compile(jit_compile=True)
    monkeypatch.setattr(devices, "on_cpu", lambda: False)
    with pytest.raises(ValueError, match="must not be 'fast' but on one CPU, with TensorFlow"):
        prompted(backbone, kernels="fast")
    monkeypatch.setattr(devices, "LARGE", 1)
    assert prompted(backbone).kernels_used == "plain"


def test_auto_leaves_whole_steps_to_xla(monkeypatch):
    monkeypatch.setattr(devices, "LARGE", 1)
    model = prompted(toy.shallow())
    assert model.kernels_used == "fast"
    model.compile(jit_compile=True)
    assert model.kernels_used == "plain"


def test_kernels_are_built_saved_and_loaded(tmp_path):
    model = keras_spot.build(toy.shallow(), "uniform", prompt_length=2, kernels="fast")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.kernels == again.kernels_used == "fast"
    assert keras_spot.build(toy.shallow(), "uniform").kernels == "auto"


def test_fast_may_be_deleted_whole(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("keras_spot.model.fast")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "keras_spot.model.fast", None)
    for option in ("plain", "auto"):
        model = keras_spot.build(toy.shallow(), "uniform", prompt_length=2, kernels=option)
        x, y, weight = toy.batch()
        model.fit(x, y, sample_weight=weight, verbose=0)
        assert model.make_generate_function()(x)["decoder_token_ids"].shape == (4, 4)


def test_a_quantised_embedding_is_not_trained_behind():
    backbone = toy.shallow(gain=1.0)
    backbone.quantize("int8", filters=lambda layer: layer is backbone.token_embedding)
    model = prompted(backbone)
    x, y, weight = toy.batch()
    assert np.isfinite(model.evaluate(x, y, sample_weight=weight, verbose=0)[0])
    with pytest.raises(ValueError, match=r"^`backbone` must keep its token embedding in float"):
        model.fit(x, y, sample_weight=weight, verbose=0)


@pytest.mark.usefixtures("out_of_sight")
@pytest.mark.parametrize("name", ["gate_projector", "query_projector", "projector"])
def test_a_backbone_quantised_in_part_is_left_to_plain(name, monkeypatch):
    monkeypatch.setattr(devices, "LARGE", 1)
    backbone = toy.shallow()
    backbone.quantize("int8", filters=lambda layer: name in layer.name)
    assert prompted(backbone).kernels_used == "plain"
    with pytest.raises(ValueError, match="must not be 'fast' where only some projections"):
        prompted(backbone, kernels="fast")


@pytest.mark.parametrize("rows", [1, 3])
def test_eagerly_fast_answers_as_plain_does(rows):
    x, _, _ = toy.batch(rows=rows)
    x["decoder_padding_mask"] = np.eye(1, 4, dtype="int32").repeat(rows, 0)
    answers = []
    for option in ("plain", "fast"):
        model = prompted(toy.shallow(), kernels=option)
        model.compile(run_eagerly=True)
        answers.append(np.asarray(model.make_generate_function()(x)["decoder_token_ids"]))
    np.testing.assert_array_equal(*answers)


def test_remat_goes_without_dropout():
    with pytest.raises(ValueError, match="`dropout` must be 0 with remat=True"):
        prompted(toy.shallow(), remat=True, dropout=0.1)
