"""The signatures of a SavedModel, and what TensorFlow Serving expects of its folder."""

import json

import numpy as np
import pytest
import toy

from keras_spot.base.errors import InvalidArgument
from keras_spot.model import build
from keras_spot.tasks.card import TaskCard, read_cards

tf = pytest.importorskip("tensorflow")

TEXTS = ["movies sentence: a fine film", "", "it broke at once, sadly", "two"]
WHICH = ["reviews", "free", "reviews", "topics"]
CARDS = [
    TaskCard("reviews", "movies sentence: {sentence}", ("negative", "positive")),
    TaskCard("free", "{text}", (), 2),
    TaskCard("topics", "{a} {b}", ("a", "news and sport", "film")),
]


def made(tokenizer, **options):
    backbone = toy.shallow(tokenizer.vocabulary_size() + 28)
    options = {"prompt_length": 3, "input_length": 12, "target_length": 5, **options}
    return build.build(backbone, "uniform", tokenizer=tokenizer, **options)


def loaded(folder):
    model = tf.saved_model.load(folder)

    def ask(signature, **inputs):
        given = {name: tf.constant(value) for name, value in inputs.items()}
        out = model.signatures[signature](**given)
        return {name: decoded(np.asarray(value.numpy())) for name, value in out.items()}

    ask.model = model  # else its variables go
    return ask


def decoded(values):
    if values.dtype != object:
        return values
    return np.vectorize(lambda text: text.decode(), otypes=[object])(values).tolist()


@pytest.fixture(scope="module", params=["full", "prompt"])
def bank(request, tokenizer, tmp_path_factory):
    """A bank of three prompts as a model and as a SavedModel, with what its folder is."""
    names = ["reviews", "free", "topics"]
    options = {"prompt_attention": request.param, "kernels": "fast", "prompt_names": names}
    model = made(tokenizer, **options)
    folder = tmp_path_factory.mktemp("bank")
    model.export(folder, tasks=CARDS, version=7)
    return model, loaded(folder / "7"), folder / "7"


def test_what_no_task_can_be_is_no_card(tokenizer, tmp_path):
    for card in (TaskCard("a", labels=("", "b")), TaskCard("a", "{text!r}"), TaskCard("", "{b")):
        with pytest.raises(InvalidArgument):
            made(tokenizer).export(tmp_path / "model", tasks=card)
    assert not list(tmp_path.iterdir())


def test_answers(bank):
    model, ask, _ = bank
    expected = model.generate(TEXTS, prompt=WHICH)
    expected[1] = model.generate(TEXTS[1], prompt="free", max_length=2)
    many = ask("serving_default", text=TEXTS, prompt=WHICH)
    assert (many["outputs"], many["error"]) == (expected, [""] * 4)
    assert many["output_ids"].shape == (4, 5)
    for text, prompt, answer in zip(TEXTS, WHICH, expected):
        assert ask("serving_default", text=[text], prompt=[prompt])["outputs"] == [answer]


def test_a_wrong_name_marks_its_row_alone(bank):
    model, ask, _ = bank
    out = ask("serving_default", text=TEXTS[:3], prompt=["reviews", "revews", "reviews"])
    expected = model.generate(TEXTS[:3], prompt="reviews")
    assert out["outputs"] == [expected[0], "", expected[2]]
    assert out["error"][0] == out["error"][2] == ""
    assert "`prompt` must be a known name" in out["error"][1]
    assert "'revews'" in out["error"][1]
    out = ask("classify", text=TEXTS[:3], prompt=["reviews", "free", "none"])
    assert [bool(error) for error in out["error"]] == [False, True, True]
    assert "labels" in out["error"][1]
    assert out["label"][1:] == ["", ""]
    assert not out["probabilities"][1:].any()


def test_labels_and_scores(bank):
    model, ask, _ = bank
    out = ask("classify", text=TEXTS, prompt=["reviews", "topics", "reviews", "topics"])
    for row, which in enumerate([0, 2, 0, 2]):
        labels = CARDS[which].labels
        scores = model.ranker.log_likelihoods(TEXTS[row : row + 1], labels, prompt=which)[0]
        np.testing.assert_allclose(out["scores"][row, : len(labels)], scores, rtol=1e-5, atol=1e-4)
        shares = np.exp(scores - scores.max())
        shares = shares / shares.sum()
        np.testing.assert_allclose(out["probabilities"][row, : len(labels)], shares, atol=1e-4)
        assert not out["probabilities"][row, len(labels) :].any()
        assert out["label"][row] == labels[int(scores.argmax())]
        assert out["labels"][row][: len(labels)] == list(labels)
    out = ask("score", text=TEXTS, candidates=["a", "negative"], prompt=WHICH)
    scores = model.ranker.log_likelihoods(TEXTS, ["a", "negative"], prompt=WHICH)
    np.testing.assert_allclose(out["scores"], scores, atol=1e-4)


def test_a_prompt_that_was_never_exported(bank, tokenizer):
    model, ask, _ = bank
    new = np.random.default_rng(5).normal(size=(4, toy.CONFIG["hidden_dim"])).astype("float32")
    other = build.build(
        model.backbone,
        new,
        tokenizer=tokenizer,
        prompt_attention=model.prompt_attention,
        input_length=12,
        target_length=5,
    )
    out = ask("generate_with_prompt", text=TEXTS, prompt_matrix=new)
    assert out["outputs"] == other.generate(TEXTS)
    out = ask("score_with_prompt", text=TEXTS, candidates=["a", "film"], prompt_matrix=new)
    scores = other.ranker.log_likelihoods(TEXTS, ["a", "film"])
    np.testing.assert_allclose(out["scores"], scores, atol=1e-4)
    out = ask("generate_with_prompts", text=TEXTS, prompts=model.prompt, prompt_index=[0, 2, 1, 0])
    assert out["outputs"] == model.generate(TEXTS, prompt=[0, 2, 1, 0])
    out = ask(
        "score_with_prompts",
        text=TEXTS[:2],
        candidates=[["a", ""], ["film", "negative"]],
        prompts=model.prompt,
        prompt_index=[2, 1],
    )
    first = model.ranker.log_likelihoods(TEXTS[:1], ["a"], prompt=2)
    second = model.ranker.log_likelihoods(TEXTS[1:2], ["film", "negative"], prompt=1)
    np.testing.assert_allclose(out["scores"][0, :1], first[0], atol=1e-4)
    np.testing.assert_allclose(out["scores"][1], second[0], atol=1e-4)


def test_inputs_of_other_shapes_and_numbers_are_refused(bank):
    _, ask, _ = bank
    wrong = tf.errors.InvalidArgumentError
    for text in ("alone", [["a", "b"]]):
        with pytest.raises(wrong, match=r"Shape of tensor text .* not compatible"):
            ask("score", text=text, candidates=["a"], prompt=["free"])
    with pytest.raises(wrong, match="`candidates` must hold at least one text"):
        ask("score", text=["a"], candidates=tf.constant([], tf.string), prompt=["free"])
    with pytest.raises(wrong, match=r"Shape of tensor prompt_matrix \[2,3\] is not compatible"):
        ask("generate_with_prompt", text=["a"], prompt_matrix=np.zeros((2, 3), "float32"))
    with pytest.raises(wrong, match="`prompt` must be one name for each"):
        ask("serving_default", text=["a", "b"], prompt=["free"])
    row = {"encoder_token_ids": [[5, 1]], "encoder_padding_mask": [[1, 1]], "prompt_index": [0]}
    assert ask("generate_ids", **row)["output_ids"].shape == (1, 5)
    for name, value in (
        ("encoder_token_ids", [[-1, 1]]),
        ("encoder_token_ids", [[10**6, 1]]),
        ("encoder_padding_mask", [[2, 1]]),
        ("prompt_index", [3]),
    ):
        with pytest.raises(wrong, match=f"`{name}` must be numbers from 0 on and below"):
            ask("generate_ids", **{**row, name: value})


def test_texts_of_any_kind_are_answered(bank):
    _, ask, _ = bank
    texts = ["\0", "a " * 50_000, b"\xff\xfe", "\N{SNOWMAN}" * 9]
    out = ask("serving_default", text=texts, prompt=["free"] * 4)
    assert out["error"] == [""] * 4
    out = ask("classify", text=np.array([], object), prompt=np.array([], object))
    assert out["error"] == []


def test_it_says_what_it_is(bank):
    model, ask, folder = bank
    cards, facts = read_cards(folder / "task.json")
    assert list(cards.values()) == CARDS
    assert (facts["form"], facts["prompt_length"]) == ("savedmodel", 3)
    assert facts["backbone"] == model.fingerprint
    assert json.loads(ask("describe")["task"].item()) == json.loads(
        (folder / "task.json").read_text()
    )


def prediction_log():
    """Return the class of `PredictionLog`, from a description of its own."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_pb2

    file = descriptor_pb2.FileDescriptorProto(name="log.proto", package="t", syntax="proto3")
    file.dependency.append(tensor_pb2.DESCRIPTOR.name)
    label, text, part = 1, 9, 11
    for name, fields in {
        "Spec": [("signature_name", 3, text, label, None)],
        "Entry": [("key", 1, text, label, None), ("value", 2, part, 1, ".tensorflow.TensorProto")],
        "Request": [("model_spec", 1, part, 1, ".t.Spec"), ("inputs", 2, part, 3, ".t.Entry")],
        "Predict": [("request", 1, part, 1, ".t.Request")],
        "Log": [("predict_log", 6, part, 1, ".t.Predict")],
    }.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated, of in fields:
            message.field.add(name=field, number=number, type=kind, label=repeated, type_name=of)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Log"))


def test_requests_to_warm_up_with(bank):
    _, ask, folder = bank
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    kind, asked = prediction_log(), []
    for record in tf.data.TFRecordDataset(str(file)):
        log = kind.FromString(record.numpy())
        request = log.predict_log.request
        inputs = {entry.key: tf.make_ndarray(entry.value) for entry in request.inputs}
        assert ask(request.model_spec.signature_name, **inputs)["error"][0] == ""
        asked.append((request.model_spec.signature_name, len(inputs["text"])))
    assert asked == [(n, rows) for n in ("serving_default", "classify") for rows in (1, 2)]


def test_one_prompt_and_buckets(tokenizer, tmp_path):
    model = made(tokenizer)
    model.export(tmp_path, tasks=CARDS[0], buckets=[6])
    ask = loaded(tmp_path)
    assert ask("serving_default", text=TEXTS)["outputs"] == model.generate(TEXTS)
    assert ask("serving_default", text=["two"])["outputs"] == [model.generate("two")]
    assert set(ask("classify", text=TEXTS)["label"]) <= {"negative", "positive"}
    assert list(read_cards(tmp_path / "task.json")[0]) == ["reviews"]


@pytest.mark.parametrize("sampler", ["beam", "contrastive"])
def test_samplers_that_repeat_rows(tokenizer, tmp_path, sampler):
    model = made(tokenizer)
    model.compile(sampler=sampler)
    model.export(tmp_path)
    ask = loaded(tmp_path)
    for texts in (TEXTS, TEXTS[:1]):
        assert ask("serving_default", text=texts)["outputs"] == model.generate(texts)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tasks": CARDS[:2]},
        {"tasks": {"none": CARDS[0]}},
        {"tasks": "glue/sts2"},
        {"version": -1},
        {"version": True},
        {"buckets": [0]},
        {"buckets": [13]},
    ],
    ids=str,
)
def test_arguments_that_break_a_rule(tokenizer, tmp_path, wrong):
    model = made(tokenizer)
    with pytest.raises(InvalidArgument, match=f"`({next(iter(wrong))}|task)` must be"):
        model.export(tmp_path / "served", **wrong)
    assert not (tmp_path / "served").exists()
