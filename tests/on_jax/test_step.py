"""A training step with JAX: its gradients, what it keeps, and twenty beside TensorFlow's."""

import json
import os
import subprocess
import sys

import jax
import keras
import numpy as np
import pytest
import toy

from keras_spot import PromptedT5, Recipe, backbones, reparameterizations
from keras_spot.base import devices
from keras_spot.model import gradient_check
from keras_spot.prompts import initializers

PROMPT = np.random.default_rng(1).normal(size=(4, 16)).astype("float32")

TWENTY = """
import json, sys
import toy
from test_step import taught, twenty
print(json.dumps([twenty(), taught()]))
"""


def prompted(backbone, **options):
    start = initializers.from_numpy(PROMPT)
    return PromptedT5(backbone, prompt_initializer=start, **options)


def fitted(model, x, y, weight):
    """Return the losses of steps of eight rows, and the prompts after them."""
    losses, prompts = [], []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(float(logs["loss"]))
            prompts.append(model.prompt)  # not by `self.model`, which Keras looks after

    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, y, sample_weight=weight, callbacks=[Look()], **options)
    np.testing.assert_array_equal(prompts[-1], model.prompt)
    return {"losses": losses, "prompt": model.prompt.tolist()}


def twenty():
    """Return the losses and the prompt of twenty steps."""
    model = prompted(toy.backbone(gain=0.5), recipe=Recipe(learning_rate=0.003))
    return fitted(model, *toy.batch(rows=160))


def taught():
    """Return those of three steps of two prompts that share a part and have longer teachers."""
    options = {"num_prompts": 2, "reparameterization": "shared"}
    options["recipe"] = Recipe(learning_rate=0.003)
    model = prompted(toy.backbone(gain=0.5, num_layers=1), **options)
    teachers = np.random.default_rng(2).normal(size=(2, 6, 16)).astype("float32")
    model.distill(list(teachers), weight=20.0)
    x, y, weight = toy.batch(rows=24)
    return fitted(model, {**x, "prompt_index": np.arange(24, dtype="int32") % 2}, y, weight)


def test_steps_are_those_of_tensorflow():
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", TWENTY]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    for theirs, make, steps in zip(
        json.loads(run.stdout.splitlines()[-1]), (twenty, taught), (20, 3)
    ):
        ours = make()
        assert len(ours["losses"]) == steps
        np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-4)
        np.testing.assert_allclose(ours["prompt"], theirs["prompt"], rtol=0, atol=1e-4)


def lowered(model, data):
    """Return the lowered training step of a model, as `fit` compiles it."""
    model.optimizer.build(model.trainable_variables)
    parts = "trainable_variables", "non_trainable_variables", "optimizer", "metrics_variables"
    state = tuple(
        [v.value for v in (model.optimizer.variables if p == "optimizer" else getattr(model, p))]
        for p in parts
    )
    return jax.jit(lambda *given: model.train_step(*given)).lower(state, data)  # never traced yet


@pytest.mark.parametrize("attention", ["full", "prompt"])
def test_accelerators_compute_again_what_would_fill_memory(attention, monkeypatch):
    data = toy.batch(rows=8, tokens=16)
    model = prompted(toy.backbone(), prompt_attention=attention)
    model.fit(*data[:2], sample_weight=data[2], verbose=0)  # builds the metrics
    # XLA for CPU would drop the barriers.
    assert "optimization_barrier" not in lowered(model, data).as_text()
    monkeypatch.setattr(devices, "on_accelerator", lambda: True)
    model.compile()
    model.fit(*data[:2], sample_weight=data[2], verbose=0)
    # Of each layer the norms, the gated activation and the attention, and the loss.
    assert lowered(model, data).as_text().count("optimization_barrier") >= 18


@pytest.mark.parametrize(
    "spec",
    [{"residual": {"bottleneck": 6}}, {"vocabulary-mixture": {"tokens": 4, "vocabulary": 30}}],
)
def test_what_trains_in_a_prompts_place_ends_as_a_prompt(spec):
    x, y, weight = toy.batch()
    backbone = toy.backbone(num_layers=1)
    layer = reparameterizations.get(spec)
    layer = layer.completed(np.random.default_rng(3).normal(size=(64, 16)))
    model = prompted(backbone, reparameterization=layer, recipe=Recipe(learning_rate=0.03))
    before = model.prompt
    model.fit(x, y, sample_weight=weight, batch_size=2, shuffle=False, verbose=0)
    assert np.abs(model.prompt - before).max() > 1e-4
    plain = PromptedT5(backbone, prompt_initializer=initializers.from_numpy(model.prompt))
    logits = [np.asarray(each(x)) for each in (model, plain)]
    np.testing.assert_allclose(logits[0], logits[1], rtol=0, atol=1e-4 * np.abs(logits[1]).max())


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_quantized_backbone_has_its_gradient(mode):
    data = toy.batch(rows=8)
    backbone = toy.backbone(gain=1.0)
    _, (exact,) = gradient_check.loss_and_gradients(prompted(backbone), data)
    backbones.load(backbone, quantize=mode)
    model = prompted(backbone)
    _, (gradient,) = gradient_check.loss_and_gradients(model, data)
    cosine = np.sum(gradient * exact) / (np.linalg.norm(gradient) * np.linalg.norm(exact))
    # Of random kernels 4 bits leave little; the embedded backbone's are looked at elsewhere.
    assert mode == "int4" or cosine > 0.99
    gradient_check.check_gradients(model)


def test_a_gradient_is_checked_with_one_forward_and_one_backward_program(monkeypatch):
    backbone = toy.shallow(gain=1.0)
    backbone.quantize("int8", filters=lambda layer: isinstance(layer, keras.layers.Dense))
    model, calls = prompted(backbone), []
    compute_loss = model.compute_loss
    monkeypatch.setattr(
        model, "compute_loss", lambda *a, **k: calls.append(1) or compute_loss(*a, **k)
    )
    gradient_check.check_gradients(model)
    assert len(calls) == 2  # as they are traced
    for layer in backbone.encoder_transformer_layers:
        for owner in (layer, layer.self_attention):
            owner.output_projector.activation = keras.ops.stop_gradient
    with pytest.raises(ValueError, match=r"^`backbone` must have a gradient, which what it is qua"):
        gradient_check.check_gradients(model)
