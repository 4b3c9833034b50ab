"""What Keras and KerasHub ask of every layer and every task, asked of ours.

After the ideas of KerasHub's `run_task_test`, `run_model_saving_test` and `run_precision_test` and
of Keras' `run_layer_test`; samplers are in `test_generation`.
"""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy
from keras import ops

from keras_spot import PromptedT5, SoftPrompt
from keras_spot.model import build
from keras_spot.prompts import initializers

TEXTS = {
    "encoder_text": np.array(["a fine film", "a very long and dull film"]),
    "decoder_text": np.array(["positive", "negative"]),
}


class Batches(keras.utils.PyDataset):
    """The same batch twice."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 2

    def __getitem__(self, number):
        return self.batch


@pytest.fixture(scope="module")
def model(tokenizer):
    backbone = toy.shallow(tokenizer.vocabulary_size())
    lengths = {"input_length": 8, "target_length": 4}
    return build.build(backbone, "uniform", tokenizer=tokenizer, prompt_length=3, **lengths)


# === A task of KerasHub ===


def test_a_config_comes_back_and_is_json(model):
    config = model.get_config()
    again = PromptedT5.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    assert set(dir(again)) == set(dir(model))
    record = keras.saving.serialize_keras_object(model)
    revived = keras.saving.deserialize_keras_object(json.loads(json.dumps(record)))
    assert json.loads(json.dumps(revived.get_config())) == json.loads(json.dumps(config))


def test_what_the_preprocessor_gives_is_what_the_model_takes(model):
    x, y, weights = model.preprocessor(TEXTS)
    assert set(x) == set(model.input)
    assert y.shape == weights.shape == (2, 4)
    assert {key: value.shape[1] for key, value in x.items()} == {
        "encoder_token_ids": 8,
        "encoder_padding_mask": 8,
        "decoder_token_ids": 4,
        "decoder_padding_mask": 4,
    }


def test_predict_of_texts_of_a_dataset_and_of_ids(model):
    data = tf.data.Dataset.from_tensor_slices(TEXTS).batch(2)
    logits = model.predict(TEXTS, verbose=0)
    assert logits.shape == (2, 4, model.backbone.vocabulary_size)
    np.testing.assert_allclose(model.predict(data, verbose=0), logits, rtol=1e-5)
    preprocessor, model.preprocessor = model.preprocessor, None
    try:
        ids = data.map(lambda batch: preprocessor(batch)[0])
        np.testing.assert_allclose(model.predict(ids, verbose=0), logits, rtol=1e-5)
    finally:
        model.preprocessor = preprocessor


ALONE = TEXTS["encoder_text"]


@pytest.mark.parametrize(
    "x",
    [
        ALONE,
        ALONE.tolist(),
        "a fine film",
        {"encoder_text": ALONE},
        tf.data.Dataset.from_tensor_slices(ALONE).batch(2),
        tf.data.Dataset.from_tensor_slices({"encoder_text": ALONE}).batch(2),
        iter([ALONE]),
    ],
    ids=["array", "list", "text", "mapping", "dataset", "dataset of mappings", "generator"],
)
def test_predict_of_texts_alone_says_what_answers_them(x, model):
    with pytest.raises(ValueError, match=r"^`\w+` must be .*`generate` answers texts"):
        model.predict(x, verbose=0)


def test_fit_of_texts_of_a_dataset_and_of_ids(model):
    data = tf.data.Dataset.from_tensor_slices(TEXTS).batch(2)
    losses = []
    for form in (TEXTS, data, "ids"):
        start = model.prompt
        preprocessor = model.preprocessor
        if isinstance(form, str):
            form = data.map(preprocessor)
            model.preprocessor = None
        losses.append(model.fit(form, verbose=0).history["loss"][0])
        model.preprocessor = preprocessor
        model.soft_prompt.prompt.assign(start)
        model.compile()
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


def test_predict_of_generators_of_pairs(model):
    pairs = TEXTS["encoder_text"].tolist(), TEXTS["decoder_text"].tolist()
    logits = model.predict(TEXTS, verbose=0)
    width = model.predict(iter([pairs]), verbose=0).shape[1]
    for batches in (iter([pairs, pairs]), Batches(pairs)):
        twice = model.predict(batches, verbose=0)
        np.testing.assert_allclose(twice[2:], logits[:, :width], rtol=1e-4)


def test_without_compile_fit_says_so(tokenizer):
    bare = PromptedT5(toy.shallow(64), prompt_length=2, compile=False)
    x, y, weights = toy.batch()
    with pytest.raises(ValueError, match="You must call `compile"):
        bare.fit(x, y, sample_weight=weights)


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_saved_models_and_weights_give_the_same_logits(model, tmp_path, name):
    x, _, _ = toy.batch(vocabulary=model.backbone.vocabulary_size)
    if name.endswith(".keras"):
        model.save(tmp_path / name)
        again = keras.saving.load_model(tmp_path / name)
        assert isinstance(again, PromptedT5)
        assert again.get_config() == model.get_config()
    else:
        model.optimizer.build(model.trainable_variables)
        model.save_weights(tmp_path / name)
        again = PromptedT5.from_config(model.get_config())
        again.optimizer.build(again.trainable_variables)
        again.load_weights(tmp_path / name)
    np.testing.assert_allclose(
        ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)), rtol=1e-5
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_precision(policy):
    backbone = toy.shallow(64, dtype=policy)
    made = PromptedT5(backbone, prompt_length=2)
    x, _, _ = toy.batch()
    spec = made.compute_output_spec({key: keras.KerasTensor(v.shape) for key, v in x.items()})
    output = made(x)
    assert tuple(spec.shape) == tuple(output.shape)
    # Logits of mixed precision are float32, as a loss wants them.
    dtype = "float32" if policy.startswith("mixed") else policy
    assert keras.backend.standardize_dtype(output.dtype) == spec.dtype == dtype
    assert made.output.dtype == dtype
    for weight in backbone.weights:
        if weight.dtype in ("float32", "bfloat16"):
            assert weight.dtype == backbone.dtype_policy.variable_dtype
    assert made.soft_prompt.prompt.dtype == "float32"


# === A layer of Keras ===

LAYERS = [
    {"length": 3},
    {"length": 3, "initializer": "zeros"},
    {"initializer": initializers.from_numpy(np.ones((3, 5), "float32"))},
    {"length": 3, "initializer": keras.initializers.RandomNormal(seed=1), "name": "p"},
    {"length": 3, "num_prompts": 2},
    {
        "num_prompts": 2,
        "initializer": [initializers.from_numpy(np.ones((3, 5)) * i) for i in (1, 2)],
    },
    {"length": 3, "dtype": "mixed_bfloat16", "trainable": False},
]


def output_of(layer, inputs):
    more = (
        {} if layer.num_prompts is None else {"prompt_index": ops.zeros(inputs.shape[0], "int32")}
    )
    return layer(inputs, **more)


@pytest.mark.parametrize("options", LAYERS)
def test_a_layer_comes_back_from_its_config_and_json(options):
    layer = SoftPrompt(**options)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(config)
    assert json.loads(json.dumps(again.get_config())) == config["config"]
    inputs = np.ones((2, 4, 5), "float32")
    built = output_of(layer, inputs)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(output_of(again, inputs))[:, 3:], ops.convert_to_numpy(built)[:, 3:]
    )
    assert len(again.trainable_weights) == len(layer.trainable_weights)
    assert not layer.non_trainable_weights or not layer.trainable


@pytest.mark.parametrize("options", LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_output_is_as_its_spec_says(options, dtype):
    options = {key: value for key, value in options.items() if key != "dtype"}
    layer = SoftPrompt(**options, dtype=f"mixed_{dtype}" if dtype != "float32" else dtype)
    inputs = keras.KerasTensor((2, 4, 5), dtype)
    bank = layer.num_prompts is not None
    more = {"prompt_index": keras.KerasTensor((2,), "int32")} if bank else {}
    spec = layer(inputs, **more)
    output = output_of(layer, ops.ones((2, 4, 5), dtype))
    assert tuple(output.shape) == tuple(spec.shape) == (2, 7, 5)
    assert keras.backend.standardize_dtype(output.dtype) == spec.dtype == dtype
    assert layer.compute_output_shape((2, 4, 5)) == (2, 7, 5)
    assert layer.supports_masking
    assert all(variable.dtype == "float32" for variable in layer.variables)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_layer_trains_in_any_model_and_is_saved_with_it(tmp_path, jit_compile):
    inputs = keras.Input((4, 5))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(SoftPrompt(3)(inputs)))
    whole = keras.Model(inputs, outputs)
    x, y = np.ones((6, 4, 5), "float32"), np.ones((6, 2), "float32")
    whole.compile("sgd", "mse", jit_compile=jit_compile)
    layer = whole.layers[1]
    before = ops.convert_to_numpy(layer.prompt)
    whole.fit(x, y, verbose=0)
    assert np.abs(ops.convert_to_numpy(layer.prompt) - before).max() > 0
    whole.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), whole.predict(x, verbose=0), rtol=1e-5)
    copy = keras.models.clone_model(whole)
    copy.set_weights(whole.get_weights())
    np.testing.assert_allclose(copy.predict(x, verbose=0), whole.predict(x, verbose=0), rtol=1e-5)


# === What a model refuses at once ===


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.quantize("int8"), "`mode` must be given when the model is made: build(..., q"),
        (keras.models.clone_model, "`model` must be copied or saved as a whole PromptedT5"),
        (
            lambda m: keras.Model(m.input, m.output).get_config(),
            "`model` must be copied or saved as a whole PromptedT5",
        ),
    ],
)
def test_what_would_go_wrong_later_is_refused_and_changes_nothing(model, call, message):
    before = model.fingerprint
    with pytest.raises(ValueError) as caught:
        call(model)
    assert str(caught.value).startswith(message)
    assert model.fingerprint == before


def test_the_summary_shows_the_prompts(model, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = []
    model.summary(print_fn=lines.append)
    assert "soft_prompt (SoftPrompt)" in lines[-1]
    assert "(3, 16)" in lines[-1]
    assert "48" in lines[-1].splitlines()[3]
    model.summary()
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= 80
    assert any("soft_prompt (SoftPrompt)" in line for line in shown)
