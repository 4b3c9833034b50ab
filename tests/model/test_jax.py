"""Plain computes the same numbers on JAX: in a process of its own, where jax is installed."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import oracle
import pytest
import toy

from keras_spot import PromptedT5
from keras_spot.base.choices import PROMPT_ATTENTION
from keras_spot.prompts import initializers

PROMPT = np.random.default_rng(1).normal(size=(5, 16))

ON_JAX = """
import json, sys
import jax, keras, numpy as np, toy
from keras_spot import PromptedT5
from keras_spot.prompts import initializers

by_kind = {}
for attention, prompt in json.loads(sys.argv[1]).items():
    start = initializers.from_numpy(np.array(prompt))
    options = {"prompt_initializer": start, "prompt_attention": attention}
    model = PromptedT5(toy.backbone(gain=1.0), remat=attention == "full", **options)
    x, y, weight = toy.batch(targets=3)
    trainable, others = ([v.value for v in part] for part in (
        model.trainable_variables, model.non_trainable_variables))

    def loss(trainable):
        logits, _ = model.stateless_call(trainable, others, x, training=True)
        return model.loss(y, logits, weight)

    value, gradients = jax.value_and_grad(loss)(trainable)
    plain = model.forward_pass.plain
    plain.suit(accelerator=True)
    other, others_gradients = jax.value_and_grad(loss)(trainable)
    np.testing.assert_allclose(other, value, rtol=1e-5)
    size = float(abs(gradients[0]).max())
    np.testing.assert_allclose(others_gradients[0], gradients[0], rtol=0, atol=1e-5 * size)
    plain.suit(accelerator=False)
    ids = model.make_generate_function()({**x, "decoder_padding_mask": np.eye(1, 3).repeat(4, 0)})
    by_kind[attention] = [float(value), np.asarray(gradients[0]).tolist(), model.kernels_used,
                        np.asarray(ids["decoder_token_ids"]).tolist()]
    model.fit(x, y, sample_weight=weight, verbose=0)
print(json.dumps(by_kind))
"""


def test_loss_gradient_and_answers_are_those_of_tensorflow():
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs jax, which is not installed")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    asked = json.dumps({attention: PROMPT.tolist() for attention in PROMPT_ATTENTION})
    command = [sys.executable, "-c", ON_JAX, asked]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    actual = json.loads(run.stdout.splitlines()[-1])
    x, y, weight = toy.batch(targets=3)
    for attention, (loss, gradient, used, ids) in actual.items():
        start = initializers.from_numpy(PROMPT)
        backbone = toy.backbone(gain=1.0)
        model = PromptedT5(backbone, prompt_initializer=start, prompt_attention=attention)
        ours, _, (of_prompt,) = oracle.step(model, (x, y, weight))
        assert used == "plain"
        assert loss == pytest.approx(ours, rel=1e-5)
        oracle.assert_close([np.array(gradient)], [of_prompt])
        start = {**x, "decoder_padding_mask": np.eye(1, 3, dtype="int32").repeat(4, 0)}
        answers = model.make_generate_function()(start)["decoder_token_ids"]
        assert np.asarray(answers).tolist() == ids
