import keras
import numpy as np
import pytest

from keras_spot import prompts
from keras_spot.prompts import initializers

EMBEDDINGS = np.arange(60, dtype="float32").reshape(20, 3)


class Letters:
    """A tokenizer whose pieces are letters: a -> 0, b -> 1, ..."""

    def __call__(self, text):
        return [ord(letter) - ord("a") for letter in text.replace(" ", "")]


def values(initializer, shape):
    return keras.ops.convert_to_numpy(initializer(shape))


def made():
    return [
        initializers.from_numpy(EMBEDDINGS[:4]),
        initializers.sampled_vocab(EMBEDDINGS, 10, seed=3),
        initializers.class_labels(["ab", "c"], Letters(), EMBEDDINGS, 10, seed=3),
        initializers.from_text("a b c", Letters(), EMBEDDINGS),
        initializers.uniform(seed=3),
    ]


@pytest.mark.parametrize("index", range(5))
def test_serialisation_gives_the_same_values(index):
    first = made()[index]
    again = keras.initializers.deserialize(keras.initializers.serialize(first))
    assert type(again) is type(first)
    np.testing.assert_array_equal(values(again, (4, 3)), values(first, (4, 3)))
    np.testing.assert_array_equal(values(made()[index], (4, 3)), values(first, (4, 3)))


def test_completed_gives_what_the_backbones_parts_give():
    for without, whole in [
        (initializers.sampled_vocab(vocabulary=10, seed=3), made()[1]),
        (initializers.class_labels(["ab", "c"], vocabulary=10, seed=3), made()[2]),
        (initializers.from_text("a b c"), made()[3]),
    ]:
        again = keras.initializers.deserialize(keras.initializers.serialize(without))
        for one in (without, again):
            with pytest.raises(ValueError, match=r"^`embeddings` must be given to"):
                one((4, 3))
            completed = one.completed(Letters(), EMBEDDINGS)
            np.testing.assert_array_equal(values(completed, (4, 3)), values(whole, (4, 3)))
        assert whole.completed(Letters(), EMBEDDINGS + 1) is whole


def test_means_and_what_a_record_says(tmp_path):
    path = str(prompts.write(tmp_path / "p.npz", EMBEDDINGS[:2], {"task": "glue/rte"}))
    mean = initializers.mean_of(
        {path: 3, str(prompts.write(tmp_path / "q.npy", EMBEDDINGS[2:4])): 1}
    )
    np.testing.assert_allclose(mean.values, (3 * EMBEDDINGS[:2] + EMBEDDINGS[2:4]) / 4)
    assert [source.provenance.get("task") for source in mean.sources] == ["glue/rte", None]
    for prompt_init, record in [
        ("uniform", "uniform"),
        (tmp_path / "p.npz", path),
        (initializers.from_numpy(path), path),
        (mean, [[path, 3], [str(tmp_path / "q.npy"), 1]]),
        (EMBEDDINGS, "array ebfcf5bd6ced82bc"),
        (initializers.from_text("a b"), {"from_text": "a b"}),
        (initializers.sampled_vocab(), {"sampled_vocab": {"vocabulary": 5000, "seed": 0}}),
        (
            initializers.class_labels(["a"], seed=2),
            {"class_labels": {"labels": ["a"], "vocabulary": 5000, "seed": 2}},
        ),
        (
            initializers.uniform(seed=1),
            {"RandomUniform": {"minval": -0.5, "maxval": 0.5, "seed": 1}},
        ),
    ]:
        assert initializers.describe(prompt_init) == record


def test_names_come_before_files_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prompts.write("p.npy", EMBEDDINGS[:2]).rename("uniform")
    assert isinstance(initializers.get("uniform"), keras.initializers.RandomUniform)
    np.testing.assert_array_equal(initializers.get("./uniform").values, EMBEDDINGS[:2])


def test_from_numpy_reads_files_and_run_directories(tmp_path):
    prompt = EMBEDDINGS[:2]
    prompts.write(prompts.step_path(tmp_path, 1), prompt)
    prompts.write(prompts.step_path(tmp_path, 2), prompt + 1)
    np.testing.assert_array_equal(values(initializers.from_numpy(tmp_path), (2, 3)), prompt + 1)
    first = initializers.from_numpy(str(tmp_path), step=1)
    np.testing.assert_array_equal(values(first, (2, 3)), prompt)


def test_a_saved_config_does_not_need_the_file(tmp_path):
    path = prompts.write(tmp_path / "p.npy", EMBEDDINGS[:2])
    config = keras.initializers.serialize(initializers.from_numpy(path))
    path.unlink()
    again = keras.initializers.deserialize(config)
    np.testing.assert_array_equal(values(again, (2, 3)), EMBEDDINGS[:2])


def test_sampled_rows_are_distinct_and_among_the_most_frequent():
    actual = values(initializers.sampled_vocab(EMBEDDINGS, 8, seed=1), (8, 3))
    np.testing.assert_array_equal(np.sort(actual[:, 0]), EMBEDDINGS[:8, 0])
    other = values(initializers.sampled_vocab(EMBEDDINGS, 8, seed=2), (8, 3))
    assert (actual != other).any()


def test_class_labels_are_means_of_their_pieces_then_samples():
    actual = values(initializers.class_labels(["ab", "c"], Letters(), EMBEDDINGS, 10), (4, 3))
    np.testing.assert_array_equal(actual[0], (EMBEDDINGS[0] + EMBEDDINGS[1]) / 2)
    np.testing.assert_array_equal(actual[1], EMBEDDINGS[2])
    assert set(actual[2:, 0]) <= set(EMBEDDINGS[:10, 0])


def test_half_a_character_is_no_text():
    with pytest.raises(ValueError, match="`text` must be text in UTF-8, without half a character"):
        initializers.from_text("a \ud800")


def test_text_repeats_until_the_prompt_is_full():
    actual = values(initializers.from_text("ab c", Letters(), EMBEDDINGS), (5, 3))
    np.testing.assert_array_equal(actual, EMBEDDINGS[[0, 1, 2, 0, 1]])
    np.testing.assert_array_equal(
        values(initializers.from_text("ab c", Letters(), EMBEDDINGS), (2, 3)), EMBEDDINGS[:2]
    )


def test_uniform_stays_within_half():
    actual = values(initializers.uniform(seed=0), (100, 30))
    assert -0.5 <= actual.min() < -0.45
    assert 0.45 < actual.max() <= 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: initializers.from_numpy(EMBEDDINGS[0]),
            "`prompt` must have the shape [prompt length, hidden width]. Received: shape=(3,)",
        ),
        (
            lambda: initializers.from_numpy(EMBEDDINGS)((4, 3)),
            "`initializer` must give a prompt of shape (4, 3). Received: (20, 3)",
        ),
        (
            lambda: initializers.sampled_vocab(EMBEDDINGS, 5)((6, 3)),
            "`length` must be at most the 5 sampled entries. Received: length=6",
        ),
        (
            lambda: initializers.sampled_vocab(EMBEDDINGS)((2, 4)),
            "`initializer` must give a prompt of shape (2, 4). Received: (2, 3)",
        ),
        (
            lambda: initializers.sampled_vocab(EMBEDDINGS[0]),
            "`embeddings` must have the shape [V, H]. Received: shape=(3,)",
        ),
        (
            lambda: initializers.class_labels([], Letters(), EMBEDDINGS),
            "`labels` must name at least one label. Received: labels=[]",
        ),
        (
            lambda: initializers.class_labels(["a", " "], Letters(), EMBEDDINGS),
            "`labels` must have at least one piece each. Received: ' '",
        ),
        (
            lambda: initializers.class_labels(["a", "b"], Letters(), EMBEDDINGS)((1, 3)),
            "`length` must be at least the number of labels (2). Received: length=1",
        ),
        (
            lambda: initializers.from_text("", Letters(), EMBEDDINGS),
            "`text` must have at least one piece each. Received: ''",
        ),
        (
            lambda: initializers.from_text("a", Letters()),
            "`embeddings` must be given where the other is. Received: embeddings=None",
        ),
        (
            lambda: initializers.mean_of("p.npz"),
            "`prompts` must be a list of prompts, or {path: weight}. Received: str",
        ),
        (
            lambda: initializers.mean_of([]),
            "`prompts` must hold at least one prompt. Received: none",
        ),
        (
            lambda: initializers.mean_of([EMBEDDINGS, EMBEDDINGS[:1]]),
            "`prompts` must have one shape. Received: (1, 3), (20, 3)",
        ),
        (
            lambda: initializers.uniform(0),
            "`scale` must be positive. Received: scale=0",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
