import keras
import keras_hub
import numpy as np
import oracle
import pytest
import toy

from keras_spot import PromptedT5, Recipe, prompts
from keras_spot.model import build
from keras_spot.model.losses import TokenCrossEntropy
from keras_spot.model.optimizers import Adafactor
from keras_spot.prompts import initializers


@pytest.fixture(scope="module")
def model(tokenizer):
    backbone = toy.shallow(tokenizer.vocabulary_size())
    return build.build(backbone, tokenizer=tokenizer, prompt_length=5)


def logits(model, x):
    return keras.ops.convert_to_numpy(model(x))


def greedy(model, text, length):
    """Decode with a full forward pass for every token."""
    row = model.token_rows([text])[0]
    ids, mask = np.array([row], "int32"), np.ones((1, len(row)), "int32")
    answer = np.zeros((1, length + 1), "int32")
    for i in range(length):
        x = {
            "encoder_token_ids": ids,
            "encoder_padding_mask": mask,
            "decoder_token_ids": answer,
            "decoder_padding_mask": np.ones_like(answer),
        }
        answer[0, i + 1] = logits(model, x)[0, i].argmax()
        if answer[0, i + 1] == 1:
            break
    return answer[:, 1:]


def test_the_graph_equals_the_backbone_on_prompted_embeddings(model):
    x, _, _ = toy.batch()
    expected = oracle.logits(model, x)
    np.testing.assert_allclose(logits(model, x), expected, rtol=1e-4, atol=1e-4)


def test_tied_heads_are_scaled(tokenizer):
    x, _, _ = toy.batch()
    backbone = toy.shallow(64, tie_embedding_weights=True)
    tied = PromptedT5(backbone, prompt_length=2)
    states, mask = tied.forward_pass.encode(x["encoder_token_ids"], x["encoder_padding_mask"])
    h, bias = backbone.token_embedding(x["decoder_token_ids"]), None
    for layer in backbone.decoder_transformer_layers:
        h, bias = layer(
            h,
            attention_mask=x["decoder_padding_mask"][:, None],
            position_bias=bias,
            encoder_hidden_states=states,
            encoder_attention_mask=mask[:, None],
            use_causal_mask=True,
        )
    h = keras.ops.convert_to_numpy(backbone.decoder_layer_norm(h))
    table = keras.ops.convert_to_numpy(backbone.token_embedding.embeddings)
    np.testing.assert_allclose(logits(tied, x), h * 16**-0.5 @ table.T, rtol=1e-4, atol=1e-4)


def test_padding_changes_nothing(model):
    x, _, _ = toy.batch()
    wider = dict(x)
    for key in ("encoder_token_ids", "encoder_padding_mask"):
        wider[key] = np.pad(x[key], [[0, 0], [0, 7]])
    np.testing.assert_allclose(logits(model, wider), logits(model, x), rtol=1e-4, atol=1e-4)
    first = {key: value[:1] for key, value in x.items()}
    np.testing.assert_allclose(logits(model, first), logits(model, x)[:1], rtol=1e-4, atol=1e-4)


def test_only_the_prompt_moves(tokenizer):
    backbone = toy.shallow(64)
    model = PromptedT5(backbone, prompt_length=3)
    before = [keras.ops.convert_to_numpy(w) for w in backbone.weights]
    prompt = model.prompt
    x, y, weight = toy.batch()
    model.fit(x, y, sample_weight=weight, epochs=3, verbose=0)
    assert sum(v.shape[0] * v.shape[1] for v in model.trainable_variables) == 3 * 16
    for old, new in zip(before, backbone.weights):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new), new.path)
    assert np.abs(model.prompt - prompt).min() > 0


def test_the_recipe_is_what_trains(tokenizer):
    model = PromptedT5(toy.shallow(64), prompt_length=4)
    assert isinstance(model.optimizer, Adafactor)
    assert isinstance(model.loss, TokenCrossEntropy)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.3)
    x, y, weight = toy.batch()
    actual = model.evaluate(x, y, sample_weight=weight, verbose=0)[0]
    assert actual == pytest.approx(float(model.loss(y, logits(model, x), weight)), rel=1e-4)


def test_training_lowers_the_loss(tokenizer):
    model = PromptedT5(
        toy.shallow(64, gain=1.0),
        prompt_length=4,
        prompt_initializer=initializers.uniform(seed=0),
        recipe=Recipe(learning_rate=0.01),
    )
    x, y, weight = toy.batch()
    first = model.evaluate(x, y, sample_weight=weight, verbose=0)[0]
    model.fit(x, y, sample_weight=weight, epochs=20, verbose=0)
    assert model.evaluate(x, y, sample_weight=weight, verbose=0)[0] < first


def test_dropout_is_the_recipes_choice_not_the_presets(tokenizer):
    x, _, _ = toy.batch()
    backbone = toy.shallow(64, dropout=0.5)
    model = PromptedT5(backbone, prompt_length=2)
    np.testing.assert_array_equal(model(x, training=True), model(x, training=True))
    model = PromptedT5(toy.shallow(64, dropout=0.5), prompt_length=2, dropout=0.5)
    assert (
        np.abs(np.asarray(model(x, training=True)) - np.asarray(model(x, training=True))).max() > 0
    )
    np.testing.assert_array_equal(model(x, training=False), model(x, training=False))
    with pytest.raises(
        ValueError, match=r"`dropout` must be 0 for a backbone built with dropout=0"
    ):
        PromptedT5(toy.shallow(64, dropout=0.0), prompt_length=2, dropout=0.1)
    with pytest.raises(ValueError, match=r"`dropout` must be in \[0, 1\)\. Received: dropout=1"):
        PromptedT5(toy.shallow(64), prompt_length=2, dropout=1)


# === Generation ===

TEXTS = ["movies sentence: a fine film", "the plot", "products sentence: it broke at once, sadly"]


def test_cached_generation_equals_full_forward_passes(model):
    actual = model.generate(TEXTS, max_length=6)
    for text, answer in zip(TEXTS, actual):
        ids = greedy(model, text, 6)
        assert answer == model.detokenize(ids, np.ones_like(ids))[0]
    assert len(set(actual)) > 1


def test_generation_keeps_order_and_does_not_depend_on_the_batch(model):
    actual = model.generate(TEXTS, max_length=4)
    assert actual == [model.generate(text, max_length=4) for text in TEXTS]
    assert actual == model.generate(TEXTS, max_length=4, batch_size=1)
    assert actual == model.generate(tuple(TEXTS), max_length=4, batch_size=2)
    assert model.generate([], max_length=4) == []


def test_token_ids_go_in_too(model):
    rows = model.token_rows(TEXTS[:1])
    x = {
        "encoder_token_ids": np.array(rows, "int32"),
        "encoder_padding_mask": np.ones((1, len(rows[0])), "int32"),
        "decoder_token_ids": np.zeros((1, 5), "int32"),
        "decoder_padding_mask": np.eye(1, 5, dtype="int32"),
    }
    step = model.make_generate_function()
    out = step(x, stop_token_ids=(1,))
    ids, mask = np.asarray(out["decoder_token_ids"])[:, 1:], np.asarray(out["decoder_padding_mask"])
    assert model.detokenize(ids, mask[:, 1:]) == model.generate(TEXTS[:1], max_length=4)


def test_given_target_tokens_are_kept(model):
    rows = model.token_rows(TEXTS[:1])
    x = {
        "encoder_token_ids": np.array(rows, "int32"),
        "encoder_padding_mask": np.ones((1, len(rows[0])), "int32"),
        "decoder_token_ids": np.array([[0, 9, 11, 0, 0]], "int32"),
        "decoder_padding_mask": np.array([[1, 1, 1, 0, 0]], "int32"),
    }
    out = np.asarray(model.generate_step(x)["decoder_token_ids"])[0]
    assert out[:3].tolist() == [0, 9, 11]
    full = {
        **x,
        "decoder_token_ids": out[None, :4],
        "decoder_padding_mask": np.ones((1, 4), "int32"),
    }
    assert logits(model, full)[0, 2:].argmax(-1).tolist() == out[3:].tolist()


def test_xla_gives_the_same_answers_and_steps(tokenizer):
    """What one GPU compiles by default: static shapes, filling rows."""
    prompts, answers = [], []
    x, y, weight = toy.batch(vocabulary=64)
    for jit in (False, True):
        model = build.build(
            toy.shallow(tokenizer.vocabulary_size()), tokenizer=tokenizer, prompt_length=2
        )
        model.compile(jit_compile=jit)
        answers.append(model.generate(TEXTS, max_length=3, batch_size=4))
        model.fit(x, y, sample_weight=weight, verbose=0)
        prompts.append(model.prompt)
    assert answers[0] == answers[1]
    np.testing.assert_allclose(prompts[1], prompts[0], atol=1e-4)


@pytest.mark.parametrize("sampler", ["beam", "top_k"])
def test_other_samplers(tokenizer, sampler):
    model = build.build(
        toy.shallow(tokenizer.vocabulary_size()), tokenizer=tokenizer, prompt_length=2
    )
    model.compile(sampler=sampler)
    assert all(isinstance(text, str) for text in model.generate(TEXTS, max_length=3))


def test_long_texts_are_cut_before_their_end_token(tokenizer):
    model = build.build(
        toy.shallow(tokenizer.vocabulary_size()),
        tokenizer=tokenizer,
        prompt_length=2,
        input_length=8,
    )
    (row,) = model.token_rows(["good film " * 50])
    assert len(row) == 8
    assert row[-1] == 1


def test_fit_takes_texts(tokenizer):
    model = build.build(
        toy.shallow(tokenizer.vocabulary_size()),
        tokenizer=tokenizer,
        prompt_length=2,
        input_length=16,
        target_length=4,
    )
    keras.utils.set_random_seed(0)  # clears what TensorFlow holds for the live tokenizer
    texts = {"encoder_text": TEXTS, "decoder_text": ["positive", "negative", "negative"]}
    before = model.prompt
    model.fit(texts, batch_size=3, verbose=0)
    assert np.abs(model.prompt - before).max() > 0


# === Saving ===


def test_keras_file_round_trip(tmp_path, tokenizer):
    model = build.build(
        toy.shallow(tokenizer.vocabulary_size()),
        tokenizer=tokenizer,
        prompt_length=3,
        recipe=Recipe(learning_rate=0.5, z_loss=0.0),
    )
    x, y, weight = toy.batch()
    model.fit(x, y, sample_weight=weight, epochs=2, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert type(again) is PromptedT5
    np.testing.assert_array_equal(again.prompt, model.prompt)
    np.testing.assert_allclose(logits(again, x), logits(model, x), rtol=1e-6)
    assert again.generate(TEXTS, max_length=4) == model.generate(TEXTS, max_length=4)
    assert again.recipe == model.recipe
    assert again.fingerprint == model.fingerprint
    for one in (model, again):  # optimiser state and loss came along
        one.fit(x, y, sample_weight=weight, shuffle=False, verbose=0)
    np.testing.assert_array_equal(again.prompt, model.prompt)


def test_save_and_load_prompt(tmp_path, model):
    path = model.save_prompt(tmp_path / "p.npz", task="glue/rte", score=70.5)
    actual = prompts.read(path)
    assert actual.provenance["backbone"] == model.fingerprint
    assert actual.provenance["task"] == "glue/rte"
    assert "keras" in actual.provenance["versions"]
    before = model.prompt
    model.soft_prompt.prompt.assign(before * 0)
    model.load_prompt(path)
    np.testing.assert_array_equal(model.prompt, before)


def test_a_prompt_of_another_backbone_or_shape_is_refused(tmp_path, model):
    before = model.prompt
    other = prompts.write(tmp_path / "o.npz", before, {"backbone": "feedfeedfeedfeed"})
    with pytest.raises(
        ValueError, match=r"must come from this backbone .*backbone=feedfeedfeedfeed"
    ):
        model.load_prompt(other)
    wide = prompts.write(tmp_path / "w.npy", np.ones((5, 17)))
    with pytest.raises(ValueError, match=r"`path` must hold a prompt of shape \(5, 16\)"):
        model.load_prompt(wide)
    np.testing.assert_array_equal(model.prompt, before)


def test_bfloat16_backbone_keeps_a_float32_prompt(tokenizer):
    backbone = toy.shallow(64, gain=1.0, dtype="mixed_bfloat16")
    start = initializers.uniform(seed=0)
    model = PromptedT5(backbone, prompt_length=3, prompt_initializer=start)
    x, y, weight = toy.batch()
    model.fit(x, y, sample_weight=weight, verbose=0)
    assert model.soft_prompt.prompt.dtype == "float32"
    assert {v.dtype for v in model.optimizer.variables if v.ndim == 2} == {"float32"}
    trained = initializers.from_numpy(model.prompt)
    same = PromptedT5(toy.shallow(64, gain=1.0), prompt_initializer=trained)
    a, b = logits(model, x).astype("float32"), logits(same, x)
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99


def test_saved_models_keep_lengths_and_load_without_a_word(tmp_path, tokenizer):
    backbone = toy.shallow(tokenizer.vocabulary_size())
    lengths = {"input_length": 32, "target_length": 6}
    model = build.build(backbone, "uniform", tokenizer=tokenizer, prompt_length=3, **lengths)
    model.compile(sampler=keras_hub.samplers.BeamSampler(num_beams=3))
    model.save(tmp_path / "untrained.keras")  # its optimiser has no state yet
    model.save_to_preset(tmp_path / "preset")
    loaded = (
        keras.saving.load_model(tmp_path / "untrained.keras"),
        PromptedT5.from_preset(str(tmp_path / "preset")),
        keras_hub.models.Seq2SeqLM.from_preset(str(tmp_path / "preset")),
        keras_hub.models.T5Seq2SeqLM.from_preset(str(tmp_path / "preset")),
    )
    for again in loaded:
        assert type(again) is PromptedT5
        preprocessor = again.preprocessor
        assert preprocessor.encoder_sequence_length == 32
        assert preprocessor.decoder_sequence_length == 6
        np.testing.assert_array_equal(again.prompt, model.prompt)
        assert again.fingerprint == model.fingerprint
        assert again.sampler.get_config() == model.sampler.get_config()
    answers = model.generate(TEXTS)
    assert [again.generate(TEXTS) for again in loaded[:2]] == [answers, answers]
    x, y, weight = toy.batch()
    again.fit(x, y, sample_weight=weight, verbose=0)


def test_a_preset_of_a_t5_gets_a_new_prompt(tmp_path, tokenizer):
    toy.shallow(tokenizer.vocabulary_size()).save_to_preset(tmp_path)
    tokenizer.save_to_preset(tmp_path)
    model = PromptedT5.from_preset(str(tmp_path), prompt_length=4)
    assert model.prompt.shape == (4, 16)
    for base in (keras_hub.models.Seq2SeqLM, keras_hub.models.T5Seq2SeqLM):
        assert type(base.from_preset(str(tmp_path))) is keras_hub.models.T5Seq2SeqLM
