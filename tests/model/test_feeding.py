"""What `fit` and `evaluate` take: each way in gives the same, and nothing given is lost."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import toy
from keras_hub.models import T5Seq2SeqLMPreprocessor

from keras_spot import PromptedT5, data, tasks

TEXTS = ["a fine film", "a dull film", "good", "bad", "a film of note", "nothing"]
LABELS = ["positive", "negative", "positive", "negative", "positive", "negative"]


@pytest.fixture(scope="module")
def shared_model(tokenizer):
    return PromptedT5(
        toy.shallow(tokenizer.vocabulary_size(), dropout=0.0),
        T5Seq2SeqLMPreprocessor(tokenizer, 32, 8),
        prompt_length=2,
        prompt_initializer="uniform",
    )


@pytest.fixture
def model(shared_model):
    """The model with the prompt and optimiser that it had at first."""
    before = shared_model.prompt.copy()
    shared_model.compile()
    yield shared_model
    shared_model.soft_prompt.prompt.assign(before)


@pytest.fixture(scope="module")
def expected(shared_model):
    """The loss of lists of texts, and the prompt after two steps on them."""
    before = shared_model.prompt.copy()
    shared_model.compile()
    loss = shared_model.evaluate(TEXTS, LABELS, batch_size=3, verbose=0)
    shared_model.fit(TEXTS, LABELS, batch_size=3, shuffle=False, verbose=0)
    prompt = shared_model.prompt.copy()
    shared_model.soft_prompt.prompt.assign(before)
    return loss, prompt


class Column:
    """What of a pandas column is read."""

    dtype = np.dtype(object)

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.values)

    def __getitem__(self, place):
        return self.values[place]

    def tolist(self):
        return list(self.values)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, number):
        return TEXTS[3 * number :][:3], LABELS[3 * number :][:3]


def ways_in(tokenizer):
    import tensorflow as tf

    task = tasks.Task(
        "mine",
        input="{s}",
        labels=("negative", "positive"),
        rows={"train": [{"s": s, "label": label} for s, label in zip(TEXTS, LABELS)]},
    )
    pairs = {"encoder_text": TEXTS, "decoder_text": LABELS}
    return {
        "lists": (TEXTS, LABELS),
        "arrays": (np.array(TEXTS), np.array(LABELS)),
        "objects": (np.array(TEXTS, object), np.array([s.encode() for s in LABELS], object)),
        "columns": (Column(TEXTS), Column(LABELS)),
        "tensors": (tf.constant(TEXTS), tf.constant(LABELS)),
        "keras_hub": (pairs, None),
        "dataset": (tf.data.Dataset.from_tensor_slices(pairs).batch(3), None),
        "pairs": (tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(3), None),
        "py_dataset": (Batches(), None),
        "generator": ((Batches()[i] for i in range(2)), None),
        "task": (data.load_task(task, "train", tokenizer, 3, shuffle=False), None),
    }


@pytest.mark.parametrize(
    "name",
    ["lists", "arrays", "objects", "columns", "tensors", "keras_hub", "dataset", "pairs",
     "py_dataset", "generator", "task"],
)  # fmt: skip
def test_every_way_in_gives_the_same_loss(name, model, expected, tokenizer):
    x, y = ways_in(tokenizer)[name]
    loss, _ = expected
    assert model.evaluate(x, y, **batches_of_three(name), verbose=0) == pytest.approx(
        loss, rel=1e-4
    )


@pytest.mark.parametrize("name", ["arrays", "dataset", "generator", "task"])
def test_every_kind_of_batches_gives_the_same_steps(name, model, expected, tokenizer):
    x, y = ways_in(tokenizer)[name]
    before = model.prompt.copy()
    model.fit(x, y, **batches_of_three(name), shuffle=False, verbose=0)
    _, prompt = expected
    np.testing.assert_allclose(model.prompt, prompt, atol=5e-3)  # two steps of about 0.3
    assert np.abs(prompt - before).max() > 0.01


def batches_of_three(name):
    batched = ("dataset", "pairs", "py_dataset", "generator", "task")
    return {} if name in batched else {"batch_size": 3}


@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_the_loss_is_that_of_each_text(batch_size, model, tokenizer):
    """Against single rows, padded by hand; the last batch of four counts as its two rows."""
    total = count = 0
    for text, label in zip(TEXTS, LABELS):
        ids = np.array([[*tokenizer(text), 1]])
        target = np.array([[*tokenizer(label), 1]])
        x = dict(
            encoder_token_ids=ids,
            encoder_padding_mask=np.ones_like(ids),
            decoder_token_ids=np.pad(target[:, :-1], [(0, 0), (1, 0)]),
            decoder_padding_mask=np.ones_like(target),
        )
        total += float(model.loss(target, model(x))) * target.size
        count += target.size
    loss = model.evaluate(TEXTS, LABELS, batch_size=batch_size, verbose=0)[0]
    assert loss == pytest.approx(total / count, rel=1e-4)


# === Arguments ===


def tf_batches(*parts):
    import tensorflow as tf

    given = tuple(part for part in parts if part is not None)
    dataset = tf.data.Dataset.from_tensor_slices(given).batch(6)
    return dataset if len(given) == len(parts) else dataset.map(lambda x, w: (x, None, w))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda: tf_batches(TEXTS, [0] * 6), "`y` must be a target text for each input"),
        (lambda: tf_batches(TEXTS, LABELS).unbatch(), "`x` must give batches"),
        (lambda: tf_batches(TEXTS).map(lambda x: x), "`y` must be a target text for each input"),
    ],
)
def test_batches_of_something_else_are_refused(dataset, message, model):
    with pytest.raises(ValueError, match=message):
        model.fit(dataset(), verbose=0)


@pytest.mark.parametrize("argument", ["x", "y"])
def test_a_blank_text_is_missing(argument, model):
    given = {"x": TEXTS, "y": LABELS, argument: ["fine", " ", *TEXTS[2:]]}
    with pytest.raises(ValueError, match=f"`{argument}` must be texts, none blank. .* at place 1"):
        model.fit(**given, verbose=0)


def test_sample_weight_of_texts(model):
    before = model.prompt.copy()
    model.fit(TEXTS, LABELS, sample_weight=np.zeros(6), verbose=0)
    np.testing.assert_allclose(model.prompt, before, atol=1e-4)  # but for weight decay
    alone = model.evaluate(TEXTS[:1], LABELS[:1], verbose=0)[0]
    only = pytest.approx(alone, rel=1e-5)
    weights = [1.0, 0, 0, 0, 0, 0]
    assert model.evaluate(TEXTS, LABELS, sample_weight=weights, verbose=0)[0] == only
    pairs = {"encoder_text": TEXTS, "decoder_text": LABELS}
    for batch in ((TEXTS, LABELS, weights), (pairs, None, weights)):
        apart = tf_batches(*batch)
        assert model.evaluate(apart, verbose=0)[0] == only


def test_class_weight_of_texts(model):
    before = model.prompt.copy()
    model.fit(TEXTS, LABELS, class_weight={"positive": 0, "negative": 0.0}, verbose=0)
    np.testing.assert_allclose(model.prompt, before, atol=1e-4)  # but for weight decay


def test_sample_weight_of_token_rows(model):
    x, y, mask = toy.batch(rows=4, targets=4)  # as many rows as tokens: no broadcast may guess
    weights = np.array([0.0, 1.0, 2.0, 0.0])
    whole = model.evaluate(x, y, sample_weight=mask * weights[:, None], verbose=0)
    assert model.evaluate(x, y, sample_weight=weights, verbose=0) == pytest.approx(whole)


@pytest.mark.parametrize("num_prompts", [None, 2])
def test_rows_without_a_weight_fill_up_a_batch_and_no_mean(num_prompts):
    reported = []
    for rows in (6, 8):
        x, y, weight = keras.tree.map_structure(lambda values: values[:rows], toy.batch(rows=8))  # noqa: B023
        weight[6:] = 0.0
        if num_prompts:
            x["prompt_index"] = (np.arange(rows) % 2).astype("int32")
        start = {"prompt_length": 4, "prompt_initializer": "ones", "num_prompts": num_prompts}
        filled = PromptedT5(toy.shallow(), **start)
        data = {"sample_weight": weight, "batch_size": 4, "verbose": 0}
        (of_training,) = filled.fit(x, y, shuffle=False, **data).history["loss"]
        reported.append([of_training, filled.evaluate(x, y, **data)[0]])
    assert reported[1] == pytest.approx(reported[0], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(("encoder_token_ids", 64), ("decoder_token_ids", 64), ("y", 64), ("y", -100)),
        *(("prompt_index", 2), ("prompt_index", -1)),
    ],
)
def test_numbers_of_nothing_are_refused(name, number):
    """JAX gathers NaN or the last row for them, TensorFlow fails inside of its graph."""
    x, y, _ = toy.batch(rows=4)
    x, y = {**x, "prompt_index": np.zeros(4, int)}, y.copy()
    model = PromptedT5(toy.shallow(), num_prompts=2, prompt_length=2)
    of = {**x, "y": y}[name]
    of[2] = number
    message = rf"^`{name}` must be .* from 0 to (63|1)\. Received: {number}$"
    uses = [lambda: model.fit(x, y), lambda: model.fit(iter([(x, y)]))]
    if name != "y":
        uses += [lambda: model.predict(x), lambda: model.generate(x)]
    if name == "prompt_index":
        rows = {"encoder_text": ["a"], "decoder_text": ["b"], name: [number]}
        uses.append(lambda: model.fit(rows))
    for use in uses:
        with pytest.raises(ValueError, match=message):
            use()


def test_padding_of_token_rows_is_no_target(model):
    x, y, _ = toy.batch(rows=4, targets=4)
    y = np.where(np.arange(4) < 3, np.maximum(y, 1), 0)
    whole = model.evaluate(x, y, sample_weight=(y != 0).astype("float32"), verbose=0)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(whole)


def test_shuffling(model, monkeypatch):
    from keras_spot.model import feeding

    def order(x, y, **options):
        dataset = feeding.dataset_of(model, x, y, batch_size=1, **options)
        return [[tuple(b[0]["encoder_token_ids"][0].numpy()) for b in dataset] for _ in range(2)]

    x, y, _ = toy.batch(rows=12)
    many = [" ".join(TEXTS[: 1 + i % 6]) for i in range(12)]
    for inputs, targets in ((x, y), (many, ["good"] * 12)):
        keras.utils.set_random_seed(3)
        first, second = order(inputs, targets, shuffle=True)
        assert sorted(first) == sorted(second)
        assert first != second
        keras.utils.set_random_seed(3)
        assert order(inputs, targets, shuffle=True) == [first, second]
        plain = order(inputs, targets)
        assert plain[0] == plain[1]


def test_validation(model):
    pair = (TEXTS[4:], LABELS[4:])
    history = model.fit(TEXTS[:4], LABELS[:4], validation_data=pair, verbose=0).history
    assert history["val_loss"][0] == pytest.approx(model.evaluate(*pair, verbose=0)[0], rel=1e-5)
    split = model.fit(TEXTS, LABELS, validation_split=0.33, verbose=0).history
    assert split["val_loss"][0] == pytest.approx(model.evaluate(*pair, verbose=0)[0], rel=1e-5)


def test_validation_reads_what_it_was_asked_to(model):
    sizes = []

    class Seen(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            sizes.append(batch)

    data = {"x": TEXTS, "y": LABELS, "verbose": 0, "callbacks": [Seen()]}
    model.fit(**data, batch_size=2, validation_data=(TEXTS, LABELS), validation_batch_size=3)
    assert sizes == [0, 1]

    def endless():
        for _ in range(3):
            yield TEXTS[:2], LABELS[:2]
        pytest.fail("read past validation_steps")

    model.fit(**data, validation_data=endless(), validation_steps=2)
    assert sizes == [0, 1, 0, 1]


class Frame(list):
    """What of a pandas DataFrame looks like texts: it is iterated by the names of its columns."""

    columns = property(list)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(x=TEXTS, y=[1] * 6), "`y` must be texts. Received: 1 (int) at place 0"),
        (
            dict(x=TEXTS, y=None),
            "`y` must be a target text for each input (`generate` answers texts without targets).",
        ),
        (dict(x=TEXTS, y=LABELS[:3]), "`y` must be one text for each of the 6 inputs"),
        (
            dict(x=[*TEXTS[:5], None], y=LABELS),
            "`x` must be texts, none missing. Received: None",
        ),
        (dict(x=["\ud800"], y=["a"]), "`x` must be text in UTF-8. Received: half a character"),
        (dict(x="text", y="good"), "`x` must be a list of texts. Received: x='text'"),
        (
            dict(x=Frame(["s"]), y=["a"]),
            "`x` must be one column of texts. Received: a table with ['s",
        ),
        (dict(x=TEXTS, y=LABELS, sample_weight=[1]), "`sample_weight` must be 6 numbers"),
        (dict(x=TEXTS, y=LABELS, class_weight={0: 1}), "`class_weight` must map target texts"),
        (
            dict(x=TEXTS, y=LABELS, class_weight={"positive": -1}),
            "`class_weight` must be finite numbers of at least 0. Received: 'positive': -1",
        ),
        (
            dict(x=TEXTS, y=LABELS, sample_weight=[1, 1, float("nan"), 1, 1, 1]),
            "`sample_weight` must be finite numbers of at least 0. Received: nan at place 2",
        ),
        (
            dict(x=TEXTS, y=LABELS, validation_data=Batches(), validation_batch_size=2),
            "`batch_size` must be in the batches",
        ),
        (
            dict(x=TEXTS, y=LABELS, validation_data=TEXTS),
            "`validation_data` must be (x, y), (x, y, sample_weight) or batches",
        ),
        (dict(x=[{"s": "a", "label": "b"}]), "`x` must be texts or batches; rows of features need"),
        (dict(x=Batches(), class_weight={"good": 1}), "`class_weight` must be given with texts"),
        (dict(x=Batches(), y=LABELS), "`y` must be in the batches that `x` gives."),
        (dict(x={"encoder_text": TEXTS, "decoder_text": LABELS}, y=LABELS), "`y` must be None"),
    ],
)
def test_nothing_given_is_lost(arguments, message, model):
    with pytest.raises(ValueError) as caught:
        model.fit(**arguments, verbose=0)
    assert str(caught.value).startswith(message)


def test_texts_that_are_cut_are_counted(model):
    with pytest.warns(data.DataWarning, match=r"1 of 2 inputs \(50.0%\) .* 1 of 2 targets"):
        model.evaluate(["good " * 50, "bad"], ["good " * 20, "bad"], verbose=0)


# === Metrics ===


def test_label_accuracy_is_that_of_the_answers(model, tokenizer):
    model.fit(TEXTS, LABELS, epochs=3, verbose=0)
    scores = model.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)
    assert set(scores) == {"loss", "token_accuracy", "label_accuracy"}
    answers = model.generate(TEXTS, max_length=8)
    right = np.mean([answer == label for answer, label in zip(answers, LABELS)])
    assert scores["label_accuracy"] == pytest.approx(right)


MIRRORED = """
import os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
sys.path.insert(0, sys.argv[2])
import numpy as np
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import toy
from keras_hub.models import T5Seq2SeqLMPreprocessor
from keras_hub.tokenizers import T5Tokenizer
from keras_spot import PromptedT5
tokenizer = T5Tokenizer(proto=open(sys.argv[1], "rb").read())
texts, labels = ["a fine film", "bad", "good film", "dull"] * 2, ["good", "bad"] * 4
strategy = tf.distribute.MirroredStrategy(
    ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
)
def make():
    return PromptedT5(toy.shallow(tokenizer.vocabulary_size(), dropout=0.0),
                      T5Seq2SeqLMPreprocessor(tokenizer, 16, 8), prompt_length=2,
                      prompt_initializer="uniform")
with strategy.scope():
    two = make()
one = make()
one.soft_prompt.prompt.assign(two.prompt)
pairs = tf.data.Dataset.from_tensor_slices({"encoder_text": texts, "decoder_text": labels})
for model in (one, two):
    model.ranks_ = model.ranker.log_likelihoods(texts[:7], ["good", "very bad"], batch_size=3)
    model.losses_ = [model.evaluate(texts, labels, batch_size=4, verbose=0)[0],
                     model.evaluate(pairs.batch(4), verbose=0)[0]]
    model.fit(texts, labels, batch_size=4, shuffle=False, verbose=0)
assert one.ranks_.shape == (7, 2)
np.testing.assert_allclose(one.ranks_, two.ranks_, atol=1e-4)
np.testing.assert_allclose(one.losses_, two.losses_, rtol=1e-4)
np.testing.assert_allclose(one.prompt, two.prompt, atol=1e-3)
print("equal")
"""


def test_texts_under_a_strategy(tokenizer, tmp_path):
    import pathlib

    vocabulary = tmp_path / "tiny.spm"
    vocabulary.write_bytes(tokenizer.proto)
    tests = str(pathlib.Path(toy.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(vocabulary), tests], capture_output=True, text=True
    )
    assert done.stdout == "equal\n", done.stderr[-2000:]
