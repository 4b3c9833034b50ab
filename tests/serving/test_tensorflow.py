"""The engine of SavedModels, and the command that serves one, without Keras."""

import json
import subprocess
import sys

import numpy as np
import pytest
import toy
from serving_client import serving

from keras_spot import prompts
from keras_spot.base.errors import InvalidArgument
from keras_spot.model import build
from keras_spot.serving.engines import open_engine
from keras_spot.tasks.card import TaskCard

pytest.importorskip("starlette")

TEXTS = ["movies sentence: a fine film", "", "it broke at once, sadly", "two words"]
CARDS = [
    TaskCard("reviews", "movies sentence: {sentence}", ("negative", "positive")),
    TaskCard("topics", "{a} {b}", ("a", "news and sport", "film")),
]
NEW = np.random.default_rng(5).normal(size=(3, toy.CONFIG["hidden_dim"])).astype("float32")


@pytest.fixture(scope="module")
def bank(tokenizer, tmp_path_factory):
    """A bank, and its SavedModel's folder."""
    model = build.build(
        toy.shallow(tokenizer.vocabulary_size() + 28),
        "uniform",
        tokenizer=tokenizer,
        prompt_length=3,
        prompt_names=["reviews", "topics"],
        input_length=12,
        target_length=5,
    )
    folder = tmp_path_factory.mktemp("bank")
    model.export(folder / "served", tasks=CARDS, version=3)
    return model, folder / "served"


@pytest.fixture(scope="module")
def held():
    from keras_spot.serving.held import HeldPrompt

    return HeldPrompt("new", NEW, TaskCard("new", "say {word}", ("film", "two", "sport")))


@pytest.fixture(scope="module")
def engine(bank):
    return open_engine(bank[1] / "3")


def test_named_and_held_prompts_in_one_call(bank, engine, held, tokenizer):
    model, _ = bank
    assert (engine.name, engine.takes_prompts) == ("tensorflow", True)
    one = build.build(model.backbone, NEW, tokenizer=tokenizer, input_length=12, target_length=5)
    which = ["reviews", held, "topics", held]
    expected = model.generate(TEXTS, prompt=["reviews", 0, "topics", 0])
    expected[1], expected[3] = one.generate([TEXTS[1], TEXTS[3]])
    assert engine.generate(TEXTS, which) == expected
    assert engine.generate(TEXTS[:1] * 40, held) == one.generate(TEXTS[:1]) * 40
    answers = engine.classify(TEXTS, which)
    assert [tuple(answer) for answer in answers] == [
        CARDS[0].labels,
        held.card.labels,
        CARDS[1].labels,
        held.card.labels,
    ]
    scores = one.ranker.log_likelihoods([TEXTS[1]], held.card.labels)[0]
    shares = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(list(answers[1].values()), shares, atol=1e-4)
    scores = model.ranker.log_likelihoods(TEXTS, ["a", "film"], prompt=1)
    np.testing.assert_allclose(engine.scores(TEXTS, ["a", "film"], "topics"), scores, atol=1e-4)
    scores = one.ranker.log_likelihoods(TEXTS, ["a", "film"])
    np.testing.assert_allclose(engine.scores(TEXTS, ["a", "film"], held), scores, atol=1e-4)


@pytest.mark.parametrize(
    ("prompt", "rule"),
    [("nope", "known name"), (None, "must be"), (["reviews"], "one for each"), ([3], "must be")],
)
def test_wrong_prompts(engine, prompt, rule):
    with pytest.raises(InvalidArgument, match=rule):
        engine.generate(TEXTS, prompt)


def test_the_command_serves_a_folder_without_keras(bank, tokenizer, tmp_path):
    model, folder = bank
    words = ["-m", "keras_spot", "serve", folder, "--prompts", tmp_path, "--port", "0"]
    with serving(*words) as server:
        assert f"engine: tensorflow runs {folder}/3" in server.log
        assert "tasks: reviews, topics" in server.log
        status, answer = server.ask("reviews:predict", {"instances": TEXTS})
        outputs = [row["outputs"] for row in answer["predictions"]]
        assert (status, outputs) == (200, model.generate(TEXTS, prompt="reviews"))
        rows = [{"prompt": "reviews", "sentence": "x"}, {"prompt": "topics", "a": "x", "b": "y"}]
        both = {"signature_name": "classify", "instances": rows}
        status, answer = server.ask("keras_spot:predict", both)
        assert [tuple(row["labels"]) for row in answer["predictions"]] == [
            card.labels for card in CARDS
        ]
        record = {"name": "new", "input": "say {word}", "labels": ["film", "two"]}
        prompts.write(tmp_path / "new.npz", NEW, {"task_record": record})
        while server.ask("new:predict", {"instances": [{"word": "x"}]})[0] == 404:
            pass
        status, answer = server.ask("new:classify", {"examples": [{"word": "x"}]})
        assert (status, len(answer["results"][0])) == (200, 2)
        process = server.process.pid
        with open(f"/proc/{process}/maps") as maps:
            assert "keras" not in maps.read()
        assert server.stop() == 0
        assert server.log.rstrip().endswith("stopped")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing argument"),
        (["nowhere"], "must exist"),
        (["{folder}", "--engine", "tensorflo"], "did you mean 'tensorflow'"),
        (["{folder}", "--engine", "onnxruntime"], "`engine` must be 'tensorflow'"),
        (["{folder}", "--host", "192.0.2.1"], "`port` must be free"),
        (["{folder}", "--timeout", "0"], "`seconds` must be"),
        (["{folder}", "--prompts", "nowhere"], "`prompts` must be a folder"),
        (["{folder}", "{folder}"], "must have prompts of different names"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(bank, tmp_path, words, message):
    words = [word.format(folder=bank[1]) for word in words]
    command = [sys.executable, "-m", "keras_spot", "serve", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert json.dumps(done.stdout)  # nothing but what was chosen
