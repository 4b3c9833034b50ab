"""Engines answer exported folders alone, from several threads, whatever they are asked."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from export_toys import TEXTS, P, toy_model

from keras_spot.base.errors import DamagedFile, InvalidArgument
from keras_spot.serving.engines import base, open_engine
from keras_spot.serving.held import HeldPrompt
from keras_spot.tasks import Task
from keras_spot.tasks.card import TaskCard

FORMS = {"ctranslate2": "ctranslate2", "onnxruntime": "onnx"}
ALONE = """
import json, sys
from keras_spot.serving.engines import open_engine
engine = open_engine(sys.argv[1], threads=1)
print(json.dumps(engine.generate(json.loads(sys.argv[2]), "two")))
heavy = {"tensorflow", "keras", "keras_hub", "torch", "transformers", "onnx"}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.fixture(scope="module", params=FORMS)
def folder(request, tokenizer, tmp_path_factory):
    """The folder of an engine, and what the model answers with its first prompt."""
    pytest.importorskip(request.param, reason="the engine of this folder")
    model = toy_model(tokenizer, "exact", ["one", "two"])
    place = tmp_path_factory.mktemp("served") / "model"
    task = Task("movies", input="movies sentence: {sentence}", labels=("bad", "good"))
    model.export(place, FORMS[request.param], tasks={"one": task})
    return place, model.generate(TEXTS, prompt="one"), model.generate(TEXTS, prompt="two")


def test_an_engine_needs_nothing_but_its_library(folder):
    place, _, expected = folder
    command = [sys.executable, "-c", ALONE, str(place), json.dumps(TEXTS)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    answers, heavy = run.stdout.splitlines()
    assert json.loads(answers) == expected
    assert heavy == "[]"


def test_threads_get_the_answers_of_one(folder):
    place, *expected = folder
    engine = open_engine(place, batch_size=2, threads=1)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(engine.generate, TEXTS, ("one", "two")[i % 2]) for i in range(8)]
        assert [job.result() for job in jobs] == expected * 4


@pytest.mark.parametrize(("share", "threads"), [(1.4, 1), (1.6, 3)])
def test_a_batch_is_dealt_out_to_the_cores(folder, monkeypatch, share, threads):
    place, expected, _ = folder
    engine = open_engine(place, threads=1)
    alone = engine.scores(TEXTS, ["good", "bad"], "one")
    seconds = iter([1.0, share])  # of a text with all cores, with one
    monkeypatch.setattr(engine, "_seconds_of_a_text", lambda: next(seconds))
    engine.start(cores=3)
    assert engine.threads == threads
    engine.start(1, cores=3)
    assert engine.generate(TEXTS, "one") == expected
    np.testing.assert_allclose(engine.scores(TEXTS, ["good", "bad"], "one"), alone, 1e-5)
    # Of long candidates fewer rows are scored at once.
    candidates = ["good", "a fine film " * 5]
    together = engine.scores(TEXTS, candidates, "one")
    monkeypatch.setattr(base, "LOGITS", 1000)
    assert engine.rows_at_once([[1] * 30]) == 1
    np.testing.assert_allclose(engine.scores(TEXTS, candidates, "one"), together, 1e-5)


def test_strange_requests_have_a_defined_answer(folder):
    place, expected, _ = folder
    engine = open_engine(place, threads=1)
    assert engine.generate([], "one") == []
    assert engine.scores([], ["good"], "one").shape == (0, 1)
    assert engine.classify([], "one") == []
    assert engine.generate(TEXTS, "one", 20)[1][: len(expected[1])] == expected[1]
    long = "a film " * 100_000
    assert engine.generate([long, TEXTS[0]], "one")[1] == expected[0]
    assert len(engine.generate(["a\0b", "\ufffe"], ["one", "two"])) == 2
    for argument, call in {
        "texts": lambda: engine.generate(["fine", "half \ud800"], "one"),
        "texts` must be texts": lambda: engine.generate(["fine", None], "one"),
        "candidates": lambda: engine.scores(TEXTS, [], "one"),
        "prompt` must be a name": lambda: engine.generate(TEXTS),
        "prompt": lambda: engine.generate(TEXTS, ["one"]),
        "max_length": lambda: engine.generate(TEXTS, "one", 0),
        "batch_size": lambda: open_engine(place, batch_size=0),
        "threads": lambda: open_engine(place, threads=-1),
        "engine": lambda: open_engine(place, "tensorrt"),
    }.items():
        with pytest.raises(InvalidArgument, match=f"`{argument}"):
            call()


@pytest.mark.parametrize("change", [{"max_input_length": 0}, {"prompts": {}}, {"form": "gguf"}])
def test_a_damaged_description_is_named(folder, tmp_path, change):
    place, *_ = folder
    copy = shutil.copytree(place, tmp_path / "copy")
    record = json.loads((copy / "task.json").read_text(encoding="utf-8"))
    (copy / "task.json").write_text(json.dumps({**record, **change}), encoding="utf-8")
    with pytest.raises(InvalidArgument, match=r"task\.json|must be exported as"):
        open_engine(copy)
    with pytest.raises(OSError, match="nothing"):
        open_engine(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b"no such thing", None], ids=["empty", "other", "half"])
def test_a_damaged_file_is_an_error_of_ours(folder, tmp_path, content):
    place, *_ = folder
    for file in sorted(place.iterdir()):
        if not file.is_file() or file.suffix in (".md", ".py"):
            continue
        whole = file.read_bytes()
        copy = shutil.copytree(place, tmp_path / file.name)
        new = whole[: len(whole) // 2] if content is None else content
        (copy / file.name).write_bytes(new)
        message = ""
        try:
            open_engine(copy, threads=1).generate(TEXTS[:1], "one")
        except (DamagedFile, InvalidArgument, OSError) as error:
            message = str(error)
        needed = file.name in ("task.json", "spiece.model")
        assert str(copy) in message or not (message or needed), file.name


def test_onnx_takes_prompts_that_were_never_exported(tokenizer, tmp_path):
    pytest.importorskip("onnxruntime", reason="the engine of this folder")
    names = ["one", "two", "three"]
    bank = toy_model(tokenizer, "exact", names)
    bank.export(tmp_path / "model", "onnx")
    engine = open_engine(tmp_path / "model", threads=1)
    rng = np.random.default_rng(9)
    new = [rng.normal(0, 4, (P, 16)).astype("float32") for _ in range(2)]
    longer = np.concatenate([new[0], new[1]])
    card = TaskCard("movies", labels=("bad", "good"), max_target_length=5)
    held = [HeldPrompt(f"new{i}", values, card) for i, values in enumerate([*new, longer])]
    assert engine.takes_prompts
    texts = TEXTS * 2
    given = ["two", held[0], held[2], held[1], "one", held[2], held[0], "two"]
    answers = engine.generate(texts, given, max_length=6)
    shares = engine.classify(TEXTS[:2], held[1])
    for variable, values in zip(bank.soft_prompt.prompts, [bank.prompt[0], *new]):
        variable.assign(values)
    expected = bank.generate(
        texts, prompt=["one", "two", "one", "three", "one", "one", "two", "one"], max_length=6
    )
    for place in (1, 3, 4, 6):
        assert answers[place] == expected[place]
    likelihoods = bank.ranker.log_likelihoods(TEXTS[:2], ["bad", "good"], prompt="three")
    expected = np.exp(likelihoods) / np.exp(likelihoods).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([list(row.values()) for row in shares], expected, 1e-3)
    # The longer one, by a model of its own.
    alone = toy_model(tokenizer, "exact", values=longer)
    expected = alone.generate(texts, max_length=6)
    assert [answers[2], answers[5]] == [expected[2], expected[5]]
