import pathlib
import types

import keras
import numpy as np
import pytest
import toy

import keras_spot
from keras_spot import Recipe, prompts
from keras_spot.model import build
from keras_spot.prompts import initializers

A = np.arange(32, dtype="float32").reshape(2, 16)
B = A[::-1] * 3
# As much of a tokenizer as is looked at before the labels are missed.
TOKENIZER = types.SimpleNamespace(vocabulary_size=lambda: 3, pad_token_id=0, end_token_id=1)


@pytest.fixture(scope="module")
def backbone(tokenizer):
    return toy.shallow(tokenizer.vocabulary_size())


def table(backbone):
    return keras.ops.convert_to_numpy(backbone.token_embedding.embeddings)


def test_build_is_public():
    assert keras_spot.build is build.build


def test_a_prompt_comes_from_a_file_a_run_an_array_or_an_initialiser(backbone, tmp_path):
    file = prompts.write(tmp_path / "a.npy", A)
    prompts.write(prompts.step_path(tmp_path / "run", 5), B)
    for start, expected in [
        (file, A),
        (str(file), A),
        (tmp_path / "run", B),
        (A, A),
        (prompts.read(file), A),
        (initializers.from_numpy(B), B),
        (initializers.mean_of([A, B]), (A + B) / 2),
        (initializers.mean_of([file, str(tmp_path / "run")]), (A + B) / 2),
        (initializers.mean_of({str(file): 3, str(tmp_path / "run"): 1}), (3 * A + B) / 4),
    ]:
        model = build.build(backbone, start)
        np.testing.assert_allclose(model.prompt, expected, rtol=1e-6)
        assert model.prompt_length == 2


def test_a_prompt_comes_from_an_adapter_or_an_address(backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_SPOT_CACHE", str(tmp_path / "cache"))
    adapter = prompts.write(tmp_path / "adapter", A, form="peft")
    address = "memory://building/b.npz"
    prompts.write(address, B)
    for start, expected in [(adapter, A), (address, B), (pathlib.Path(address), B)]:
        np.testing.assert_array_equal(build.build(backbone, start).prompt, expected)
    model = build.build(backbone, initializers.mean_of([str(adapter), address]))
    np.testing.assert_allclose(model.prompt, (A + B) / 2, rtol=1e-6)
    model.save_prompt(tmp_path / "again", "peft", task="glue/rte")
    assert prompts.read_provenance(tmp_path / "again")["task"] == "glue/rte"
    assert prompts.read_provenance(tmp_path / "again")["backbone"] == model.fingerprint


def test_a_prompt_comes_from_a_text_or_a_name(backbone, tokenizer):
    text = initializers.from_text("classify this film")
    model = build.build(backbone, text, tokenizer=tokenizer, prompt_length=4)
    ids = np.resize(np.asarray(tokenizer("classify this film")), 4)
    np.testing.assert_array_equal(model.prompt, table(backbone)[ids])
    labels = build.build(
        backbone, "class_labels", tokenizer=tokenizer, labels=["positive"], prompt_length=3
    )
    pieces = np.asarray(tokenizer("positive"))
    np.testing.assert_allclose(labels.prompt[0], table(backbone)[pieces].mean(0), rtol=1e-5)
    uniform = build.build(backbone, "uniform", prompt_length=3)
    assert np.abs(uniform.prompt).max() <= 0.5
    seeded = build.build(backbone, initializers.sampled_vocab(seed=1), prompt_length=3)
    named = build.build(backbone, "sampled_vocab", seed=1, prompt_length=3)
    np.testing.assert_array_equal(seeded.prompt, named.prompt)


def test_a_banks_one_initialiser_draws_each_prompt_with_its_own_seed(backbone):
    one = build.build(backbone, initializers.sampled_vocab(seed=4), num_prompts=2, prompt_length=3)
    named = build.build(backbone, "sampled_vocab", seed=4, num_prompts=2, prompt_length=3)
    for number in range(2):
        np.testing.assert_array_equal(one.prompt[number], named.prompt[number])


def test_the_default_is_sampled_from_the_vocabulary_by_seed(backbone):
    first, again, other = (build.build(backbone, seed=s, prompt_length=3) for s in (1, 1, 2))
    rows = {row.tobytes() for row in table(backbone)}
    assert all(row.tobytes() in rows for row in first.prompt)
    np.testing.assert_array_equal(first.prompt, again.prompt)
    assert (first.prompt != other.prompt).any()
    assert build.build(backbone).prompt_length == 100


def test_the_recipe_is_compiled_in(backbone):
    model = build.build(backbone, A, recipe=Recipe(learning_rate=0.7, z_loss=0.5, weight_decay=0))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.7)
    assert model.optimizer.absolute_weight_decay == 0
    assert model.loss.z_loss == 0.5


def test_a_preset_folder_brings_its_tokenizer_and_recipe(backbone, tokenizer, tmp_path):
    backbone.save_to_preset(tmp_path)
    tokenizer.save_to_preset(tmp_path)
    (tmp_path / "recipe.json").write_text('{"prompt_length": 7, "learning_rate": 0.05}')
    model = build.build(str(tmp_path))
    assert model.prompt_length == 7
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05)
    assert isinstance(model.generate("a film", max_length=3), str)
    assert model.fingerprint == build.build(backbone, A).fingerprint


def test_fingerprints_tell_backbones_apart_but_not_precisions(backbone):
    from keras_spot.backbones import fingerprint

    assert fingerprint(toy.shallow(64)) == fingerprint(toy.shallow(64, dropout=0.0))
    assert fingerprint(toy.shallow(64)) != fingerprint(toy.shallow(64, seed=1))
    assert fingerprint(toy.shallow(64)) == fingerprint(toy.shallow(64, dtype="bfloat16"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"backbone": "tinny"},
            ValueError,
            "`backbone` must be a known name. Received: backbone='tinny'",
        ),
        (
            {"backbone": 3},
            ValueError,
            "`backbone` must be a T5Backbone, a preset name or a preset folder. Received: int",
        ),
        (
            {"prompt_init": np.ones((2, 17))},
            ValueError,
            "`prompt_init` must have the backbone's hidden width 16. "
            "Received: shape=(2, 17) in an array",
        ),
        (
            {"prompt_init": np.ones(16)},
            ValueError,
            "`prompt_init` must have the shape [prompt length, hidden width]. Received: shape=",
        ),
        (
            {"prompt_init": A * np.nan},
            ValueError,
            "`prompt_init` must hold finite numbers only. Received: NaN or infinity in row 0",
        ),
        (
            {"prompt_init": "nowhere/prompt.npy"},
            FileNotFoundError,
            "`prompt_init` must be an existing path, an address, or 'sampled_vocab', "
            "'class_labels' or 'uniform' (a text goes through `initializers.from_text`, on the "
            "command line --prompt-init-text). Received: prompt_init='nowhere/prompt.npy'",
        ),
        (
            {"prompt_init": A, "prompt_length": 3},
            ValueError,
            "`length` must be the initial prompt's length 2. Received: length=3",
        ),
        (
            {"prompt_init": [A, B]},
            ValueError,
            "`prompt_init` must be one initial prompt, or of a bank a list with one for each "
            "prompt; a mean goes through `initializers.mean_of`. Received: a list",
        ),
        (
            {"prompt_init": {"a.npy": 1.0}},
            ValueError,
            "`prompt_init` must be one initial prompt, or of a bank a list with one for each "
            "prompt; a mean goes through `initializers.mean_of`. Received: a dict",
        ),
        (
            {"prompt_init": "a text of words"},
            FileNotFoundError,
            "`prompt_init` must be an existing path, an address, or 'sampled_vocab', "
            "'class_labels' or 'uniform' (a text goes through `initializers.from_text`",
        ),
        (
            {"prompt_init": 3},
            ValueError,
            "`prompt_init` must be a path, an address, 'sampled_vocab', 'class_labels' or "
            "'uniform', an array, a Prompt or an initializer. Received: a int",
        ),
        (
            {"prompt_init": initializers.from_text("a text of words")},
            ValueError,
            "`tokenizer` must be given for from_text. Received: tokenizer=None",
        ),
        (
            {"prompt_init": "class_labels", "tokenizer": TOKENIZER},
            ValueError,
            "`labels` must be given for prompt_init='class_labels'. Received: labels=None",
        ),
        (
            {"prompt_length": 0},
            ValueError,
            "`length` must be a positive integer. Received: length=0",
        ),
    ],
)
def test_bad_arguments(backbone, arguments, error, message):
    with pytest.raises(error) as caught:
        build.build(**{"backbone": backbone, **arguments})
    assert str(caught.value).startswith(message)


@pytest.mark.filterwarnings("ignore")  # KerasHub's mask overflows as soon as it is built
def test_float16_is_refused():
    with pytest.raises(ValueError, match=r"`dtype` must not compute in float16.*mixed_float16"):
        build.build(toy.shallow(64, dtype="mixed_float16"), A)


def test_sixteen_bits_for_every_number_are_refused():
    keras.config.set_floatx("bfloat16")
    try:
        with pytest.raises(ValueError, match=r"^`floatx` must be float32.*'bfloat16'"):
            build.build("tiny")
    finally:
        keras.config.set_floatx("float32")
