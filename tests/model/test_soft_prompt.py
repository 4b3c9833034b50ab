import keras
import numpy as np
import pytest

from keras_spot import SoftPrompt
from keras_spot.prompts import initializers

PROMPT = np.arange(6, dtype="float32").reshape(2, 3)


def test_the_prompt_stands_before_every_row():
    layer = SoftPrompt(initializer=initializers.from_numpy(PROMPT))
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
    actual = keras.ops.convert_to_numpy(layer(x))
    assert layer.length == 2
    np.testing.assert_array_equal(actual, np.concatenate([np.tile(PROMPT, (4, 1, 1)), x], axis=1))
    assert layer.compute_output_shape((4, None, 3)) == (4, None, 3)
    assert layer.compute_output_shape((4, 5, 3)) == (4, 7, 3)
    assert [v.shape for v in layer.trainable_variables] == [(2, 3)]


def test_a_bank_gives_every_row_its_prompt(tmp_path):
    starts = [initializers.from_numpy(PROMPT * k) for k in (1, 2, 3)]
    layer = SoftPrompt(initializer=starts, num_prompts=3, name="bank")
    tokens, index = keras.Input((None, 3)), keras.Input((), dtype="int32")
    model = keras.Model([tokens, index], layer(tokens, index))
    assert [v.shape for v in layer.trainable_variables] == [(2, 3)] * 3
    assert model.output_shape == (None, None, 3)
    x, which = np.ones((4, 5, 3), "float32"), np.array([2, 0, 2, 1], "int32")
    expected = np.concatenate([PROMPT * (which + 1)[:, None, None], x], axis=1)
    np.testing.assert_array_equal(model([x, which]), expected)
    layer.prompts[1].assign(PROMPT * 9)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again([x, which]), model([x, which]))
    assert again.get_layer("bank").get_config() == layer.get_config()
    assert layer.get_config()["num_prompts"] == 3


def test_one_initialiser_draws_each_prompt_of_a_bank_with_its_own_seed():
    table = np.random.default_rng(0).normal(size=(30, 3))
    rest = initializers.sampled_vocab(table, seed=4)
    labels = initializers.ClassLabels.from_config(
        {
            "labels": ["a", "b"],
            "vectors": initializers.from_numpy(PROMPT).get_config()["prompt"],
            "rest": rest.get_config(),
        }
    )
    for start in (initializers.uniform(seed=4), rest, labels, initializers.uniform()):
        layer = SoftPrompt(4, start, num_prompts=3)
        layer(np.ones((1, 1, 3), "float32"), np.zeros(1, "int32"))
        prompts = [keras.ops.convert_to_numpy(prompt) for prompt in layer.prompts]
        assert len({prompt.tobytes() for prompt in prompts}) == 3
        if start.get_config().get("seed", 4) is not None:
            np.testing.assert_array_equal(prompts[0], start((4, 3)))
    fixed = SoftPrompt(2, keras.initializers.Constant(2.0), num_prompts=2)
    fixed.build((None, None, 3))
    np.testing.assert_array_equal(fixed.stacked("float32"), np.full((2, 2, 3), 2.0))


def test_masks_are_extended():
    layer = SoftPrompt(2)
    mask = np.array([[1, 1, 0], [1, 0, 0]], "int32")
    expected = [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]
    np.testing.assert_array_equal(layer.extend_mask(mask), expected)
    np.testing.assert_array_equal(
        layer.compute_mask(None, mask.astype(bool)), np.array(expected, bool)
    )
    assert layer.compute_mask(None) is None
    ids = keras.Input((3,), dtype="int32")
    embedded = keras.layers.Embedding(5, 3, mask_zero=True)(ids)
    out = SoftPrompt(2)(embedded)
    assert out._keras_mask.shape == (None, 5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "bfloat16"])
def test_the_variable_is_float32_under_every_policy(policy):
    layer = SoftPrompt(2, dtype=policy)
    compute = keras.DTypePolicy(policy).compute_dtype
    out = layer(keras.ops.zeros((1, 4, 3), dtype=compute))
    assert layer.prompt.dtype == "float32"
    assert out.dtype == compute


def test_serialisation_in_a_saved_model(tmp_path):
    inputs = keras.Input((None, 3))
    layer = SoftPrompt(initializer=initializers.from_numpy(PROMPT), name="prompt")
    model = keras.Model(inputs, layer(inputs))
    layer.prompt.assign(PROMPT * 2)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    x = np.ones((1, 2, 3), "float32")
    np.testing.assert_array_equal(again(x), model(x))
    assert again.get_layer("prompt").get_config() == layer.get_config()


def test_dynamic_shapes_in_a_functional_graph():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, SoftPrompt(2)(inputs))
    assert model.output_shape == (None, None, 3)
    assert model.predict(np.ones((3, 4, 3)), verbose=0).shape == (3, 6, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftPrompt(0), "`length` must be a positive integer. Received: length=0"),
        (lambda: SoftPrompt(1.5), "`length` must be a positive integer. Received: length=1.5"),
        (lambda: SoftPrompt(True), "`length` must be a positive integer. Received: length=True"),
        (
            lambda: SoftPrompt(3, initializers.from_numpy(PROMPT)),
            "`length` must be the initial prompt's length 2. Received: length=3",
        ),
        (
            lambda: SoftPrompt(2, num_prompts=0),
            "`num_prompts` must be a positive integer. Received: num_prompts=0",
        ),
        (
            lambda: SoftPrompt(2, [initializers.uniform()] * 2),
            "`initializer` must be one, or as many as `num_prompts`. "
            "Received: 2 with num_prompts=None",
        ),
        (
            lambda: SoftPrompt(
                initializer=[initializers.from_numpy(p) for p in (PROMPT, PROMPT[:1])],
                num_prompts=2,
            ),
            "`length` must be the initial prompt's length 2. Received: length=1",
        ),
        (
            lambda: SoftPrompt(2)(np.ones((4, 3), "float32")),
            "`inputs` must have the shape [B, T, H]. Received: shape=(4, 3)",
        ),
        (
            lambda: SoftPrompt(initializer=initializers.from_numpy(PROMPT))(np.ones((1, 1, 4))),
            "`initializer` must give a prompt of shape (2, 4). Received: (2, 3)",
        ),
    ],
)
def test_bad_lengths_and_shapes(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value).splitlines()[0] == message
