"""Every sampler answers one text, a list of one and several; compiled functions have an owner."""

import gc
import weakref

import keras
import keras_hub
import numpy as np
import oracle
import pyarrow as pa
import pytest
import tensorflow as tf
import toy

from keras_spot import PromptedT5
from keras_spot.data import DataWarning
from keras_spot.model import build, samplers
from keras_spot.model.samplers import NAMES

TEXTS = ["movies sentence: a fine film", "what a long and tiring evening it was"]


@pytest.fixture(scope="module", params=["plain", "fast"])
def model(request, tokenizer):
    backbone = toy.shallow(tokenizer.vocabulary_size())
    options = {"prompt_length": 3, "input_length": 16, "target_length": 5}
    return build.build(backbone, "uniform", tokenizer=tokenizer, kernels=request.param, **options)


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_answers_one_text_and_many(model, name):
    sampler = samplers.get(name)
    one = model.generate(TEXTS[0], sampler=sampler)
    (listed,) = model.generate(TEXTS[:1], sampler=sampler)
    two = model.generate(TEXTS, sampler=sampler)
    assert [type(answer) for answer in (one, listed, *two)] == [str] * 4
    if not sampler.variables:  # it draws nothing
        assert one == listed == two[0]


def best_beam(model, row, length, beams):
    """Decode with `beams` beams by full forward passes, in plain Python."""
    kept = [((0,), 0.0)]
    for _ in range(length):
        longer = []
        for ids, score in kept:
            decoded = np.zeros((1, length + 1), "int32")
            decoded[0, : len(ids)] = ids
            x = {
                "encoder_token_ids": np.array([row], "int32"),
                "encoder_padding_mask": np.ones((1, len(row)), "int32"),
                "decoder_token_ids": decoded,
                "decoder_padding_mask": np.ones_like(decoded),
            }
            logits = np.asarray(oracle.logits(model, x), "float64")[0, len(ids) - 1]
            log_p = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
            longer += [((*ids, token), score + log_p[token]) for token in range(len(log_p))]
        kept = sorted(longer, key=lambda beam: -beam[1])[:beams]
    return list(kept[0][0][1:])


def test_beam_search_of_one_text_is_beam_search(model):
    (row,) = model.token_rows(TEXTS[:1])
    start = np.zeros((1, 5), "int32")
    x = {
        "encoder_token_ids": np.array([row], "int32"),
        "encoder_padding_mask": np.ones((1, len(row)), "int32"),
        "decoder_token_ids": start,
        "decoder_padding_mask": np.eye(1, 5, dtype="int32"),
    }
    function = model.generator.function(keras_hub.samplers.BeamSampler(num_beams=3))
    ids = np.asarray(function(x)["decoder_token_ids"])[0, 1:]
    assert ids.tolist() == best_beam(model, row, 4, 3)


def test_a_compiled_sampler_answers_as_one_that_is_given(model):
    greedy, sampler = model.generate(TEXTS), model.sampler
    beams = model.generate(TEXTS, sampler="beam")
    assert model.sampler is sampler
    assert model.generate(TEXTS) == greedy
    model.compile(sampler="beam")
    try:
        assert model.generate(TEXTS) == beams
        assert model.generate(TEXTS[0]) == beams[0]
        assert model.generate(TEXTS, sampler="greedy") == greedy
    finally:
        model.compile()


def test_equal_samplers_share_a_function_and_drawing_ones_do_not(model):
    function = model.generator.function
    beam = keras_hub.samplers.BeamSampler
    assert function(beam(num_beams=3)) is function(beam(num_beams=3))
    assert function(beam(num_beams=3)) is not function(beam(num_beams=4))
    draws = keras_hub.samplers.RandomSampler
    assert function(draws(seed=1)) is not function(draws(seed=1))
    assert function() is function("greedy") is model.make_generate_function()
    before = function()
    model.compile()
    assert function() is not before


def test_a_seed_draws_the_same_answers_again(model):
    answers = [
        model.generate(TEXTS, sampler=keras_hub.samplers.RandomSampler(seed=seed, temperature=3.0))
        for seed in (1, 1, 2)
    ]
    assert answers[0] == answers[1] != answers[2]


def test_token_ids_take_a_sampler_too(tokenizer):
    backbone = toy.shallow(64)
    model = build.build(backbone, "uniform", prompt_length=3)
    x, _, _ = toy.batch()
    x["decoder_padding_mask"] = np.eye(1, 4, dtype="int32").repeat(4, axis=0)
    out = model.generate(dict(x), stop_token_ids=None, sampler="beam")
    assert out["decoder_token_ids"].shape == (4, 4)
    assert hasattr(model.generate(dict(x), stop_token_ids=[]), "keys")


def test_texts_come_in_many_forms(model):
    expected = model.generate(TEXTS)
    assert model.generate(iter(TEXTS)) == expected
    assert model.generate(np.array(TEXTS)) == expected
    assert model.generate(np.array(TEXTS, "object")) == expected
    assert model.generate(tuple(TEXTS)) == model.generate(tf.constant(TEXTS)) == expected
    assert model.generate([text.encode() for text in TEXTS]) == expected
    for one in (TEXTS[0].encode(), np.array(TEXTS[0]), np.str_(TEXTS[0]), tf.constant(TEXTS[0])):
        assert model.generate(one) == expected[0]
    assert model.generate(iter([])) == []
    data = tf.data.Dataset.from_tensor_slices({"encoder_text": TEXTS, "decoder_text": ["", ""]})
    assert len(model.generate(data.batch(2))) == 2


def test_no_stop_token_fills_every_answer(model):
    ids = [model.token_rows([text])[0] for text in model.generate(TEXTS, stop_token_ids=[])]
    assert model.generate(TEXTS, stop_token_ids=None) == model.generate(TEXTS, stop_token_ids=[])
    assert ids


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 0}, "`max_length` must be a positive integer. Received: max_length=0"),
        ({"max_length": -1}, "`max_length` must be a positive integer. Received: max_length=-1"),
        ({"max_length": True}, "`max_length` must be a positive integer. Received: max_length=Tru"),
        ({"stop_token_ids": 1}, "`stop_token_ids` must be 'auto', None or a list of token ids. R"),
        ({"stop_token_ids": "</s>"}, "`stop_token_ids` must be 'auto', None or a list of token i"),
        ({"stop_token_ids": ["a"]}, "`stop_token_ids` must be 'auto', None or a list of token id"),
        ({"sampler": 3}, "`sampler` must be a KerasHub sampler or its name. Received: sampler=3"),
        ({"inputs": {"encoder_text": None}}, "`inputs` must be a text or a list of texts. Receiv"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer. Received: batch_size=0"),
        ({"inputs": b"\xff"}, "`inputs` must be text in UTF-8. Received: 'utf-8' codec can't "),
        ({"inputs": None}, "`inputs` must be a text or a list of texts. Received: None (NoneType)"),
        ({"inputs": float("nan")}, "`inputs` must be a text or a list of texts. Received: nan ("),
        ({"inputs": ["film", None]}, "`inputs` must be texts, none missing. Received: None at pla"),
        ({"inputs": ["film", 3]}, "`inputs` must be texts. Received: 3 (int) at place 1"),
        ({"inputs": [{"text": "a"}]}, "`inputs` must be texts. Received: {'text': 'a'} (dict) at"),
        ({"inputs": pa.table({"text": ["a"]})}, "`inputs` must be a text or a list of texts."),
        ({"inputs": np.ones((2, 3), "int32")}, "`inputs` must be texts. Received: [1, 1, 1] (list"),
        (
            {"sampler": "beams"},
            "`sampler` must be a known name. Received: sampler='beams' (did you mean 'beam'?)",
        ),
    ],
)
def test_bad_arguments(model, arguments, message):
    with pytest.raises(ValueError) as caught:
        model.generate(**{"inputs": TEXTS, **arguments})
    assert str(caught.value).startswith(message)


def test_a_mapping_of_nothing_but_inputs_is_answered_as_texts(model):
    assert model.generate({"encoder_text": TEXTS}) == model.generate(TEXTS)
    assert model.generate({"encoder_text": TEXTS[0]}) == model.generate(TEXTS[0])


def test_an_unknown_form_is_refused_before_anything_is_written(model, tmp_path):
    with pytest.raises(ValueError, match=r"`format` must be a known name.*'onnx'"):
        model.export(tmp_path / "served", format="onx")
    assert not list(tmp_path.iterdir())


def test_texts_that_are_cut_are_counted(model, monkeypatch):
    monkeypatch.setattr(model.preprocessor, "encoder_sequence_length", 6)
    message = r"texts given: 1 of 2 inputs \(50.0%\) are longer than 6 tokens and cut \(up to"
    with pytest.warns(DataWarning, match=message):
        model.generate(["good " * 50, "good"])


def test_a_model_and_its_functions_go_together(tokenizer):
    made = build.build(toy.shallow(64), "uniform", prompt_length=2)
    made.make_generate_function()
    gone = weakref.ref(made)
    del made
    gc.collect()
    keras.backend.clear_session(free_memory=False)
    gc.collect()
    assert gone() is None


class Branching(keras_hub.samplers.Sampler):
    """A sampler of somebody's own, with a branch on a tensor."""

    def get_next_token(self, probabilities):
        token = keras.ops.argmax(probabilities, axis=-1)
        if keras.ops.max(probabilities) > 2.0:
            token = token * 0
        return token


@pytest.mark.parametrize("compiled", [False, True])
def test_a_sampler_of_ones_own_may_branch_on_tensors(compiled):
    x, _, _ = toy.batch()
    x["decoder_padding_mask"] = np.eye(1, 4, dtype="int32").repeat(4, 0)
    model = PromptedT5(toy.shallow(), prompt_length=2)
    answers = []
    for sampler in ("greedy", Branching()):
        model.compile(sampler=sampler, jit_compile=compiled)
        answers.append(np.asarray(model.make_generate_function()(x)["decoder_token_ids"]))
    np.testing.assert_array_equal(*answers)
