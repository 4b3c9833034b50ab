"""Prompts of one backbone for another."""

import numpy as np
import pytest
import toy

import keras_spot
from keras_spot import prompts
from keras_spot.prompts import recycling

RNG = np.random.default_rng(0)
SOURCE, TURN = RNG.normal(size=(300, 8)), RNG.normal(size=(8, 12))
PROMPT = RNG.normal(size=(4, 8)) * 20


@pytest.mark.parametrize("method", recycling.METHODS)
def test_a_map_that_is_linear_is_found(method):
    recycled = recycling.recycle(PROMPT, SOURCE, SOURCE @ TURN, method)
    near = {"v2v-nn": 0.5}.get(method, 1e-5)  # a prompt lies far outside of the embeddings
    missed = np.linalg.norm(recycled.values - PROMPT @ TURN) / np.linalg.norm(PROMPT @ TURN)
    assert missed < near
    assert recycled.values.dtype == "float32"
    assert recycled.r2 > (0.9 if method == "v2v-nn" else 0.999)


def test_both_linear_maps_are_the_same_one():
    target = SOURCE @ TURN + RNG.normal(size=(300, 12))
    for rows in (300, 20):  # more tokens than the width, and hardly more
        both = [
            recycling.recycle(PROMPT, SOURCE[:rows], target[:rows], method).values
            for method in ("v2v-lin", "lin-comb")
        ]
        np.testing.assert_allclose(*both, rtol=1e-3, atol=1e-3)


def test_a_fit_that_is_none_says_so():
    recycled = recycling.recycle(PROMPT, SOURCE, RNG.normal(size=(300, 12)))
    assert recycled.r2 < 0.1


def test_the_networks_gradients_are_finite_differences():
    weights = [RNG.normal(size=shape) for shape in ((3, 5), 5, (5, 2), 2)]
    x, y = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))

    def loss():
        return np.square(recycling._forward(weights, x)[1] - y).mean() / 2

    for weight, gradient in zip(weights, recycling._gradients(weights, x, y)):
        place = (0,) * weight.ndim
        sides = []
        for step in (1e-5, -2e-5):
            weight[place] += step
            sides.append(loss())
        weight[place] += 1e-5
        assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4)


def test_what_is_refused():
    for call, message in {
        lambda: recycling.recycle(PROMPT, SOURCE, SOURCE, "linear"): "`method` must be a known",
        lambda: recycling.recycle(PROMPT[:, :3], SOURCE, SOURCE): "`prompt` must have the source",
        lambda: recycling.recycle(PROMPT, SOURCE[:9], SOURCE[:9]): "same tokens, at least 20",
        lambda: recycling.recycle_prompt(prompts.Prompt(PROMPT), "tiny"): "`source` must be given",
    }.items():
        with pytest.raises(keras_spot.InvalidArgument) as caught:
            call()
        assert message in str(caught.value)


def test_a_prompt_goes_from_one_backbone_to_another(tokenizer, monkeypatch):
    old, new = (toy.shallow(tokenizer.vocabulary_size(), seed=seed) for seed in (1, 2))
    table = np.asarray(old.token_embedding.embeddings)
    turn = np.random.default_rng(5).normal(size=(16, 16)).astype("float32")
    values = np.random.default_rng(6).normal(size=(3, 16)).astype("float32")
    fingerprint = keras_spot.backbones.fingerprint(old)
    prompt = prompts.Prompt(values, {"task": "cb", "backbone": fingerprint, "score": 50.0})
    both = {"source_tokenizer": tokenizer, "tokenizer": tokenizer}
    with pytest.warns(UserWarning, match=r"v2v-lin explains R\^2 = -?0.\d\d of the target's embed"):
        recycling.recycle_prompt(prompt, new, source=old, **both)
    new.token_embedding.embeddings.assign(table @ turn)
    recycled = recycling.recycle_prompt(prompt, new, source=old, **both)
    np.testing.assert_allclose(recycled.values, values @ turn, atol=1e-3)
    assert recycled.provenance["backbone"] == keras_spot.backbones.fingerprint(new)
    assert recycled.provenance["recycled"]["r2"] == 1.0
    assert recycled.provenance["recycled"]["tokens"] == tokenizer.vocabulary_size()
    assert "score" not in recycled.provenance  # which was the other backbone's
    back = recycling.recycle_prompt(recycled, old, source=new, **both)
    assert back.provenance["recycled"]["before"] == recycled.provenance["recycled"]
    with pytest.raises(ValueError, match="must come from this backbone"):
        recycling.recycle_prompt(prompt, new, source=new, **both)
    pieces = iter([list("abcdefghijklmnopqrstuvwxyz"), list("klmnopqrstuvwxyzäöüß")])
    monkeypatch.setattr(recycling, "_pieces", lambda tokenizer: next(pieces))
    with pytest.raises(ValueError, match=r"`to` must be a backbone with 20 .*: 16 in common"):
        recycling.recycle_prompt(prompt, new, source=old, **both)
