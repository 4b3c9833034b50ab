"""The ONNX folder: the model's own answers and scores from onnxruntime alone."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from export_toys import STYLES, TEXTS, P, toy_model

from keras_spot.base.errors import InvalidArgument
from keras_spot.tasks import Task
from keras_spot.tasks.card import TaskCard

pytest.importorskip("onnx", reason="graphs are written with onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime runs what was exported for it")


@pytest.mark.parametrize("style", STYLES)
def test_onnx_answers_and_scores_as_the_model_does(tmp_path, tokenizer, style):
    from keras_spot.serving.engines import open_engine

    model = toy_model(tokenizer, style, ["one", "two/b"])
    model.export(tmp_path / "served", "onnx")
    engine = open_engine(tmp_path / "served", batch_size=3)
    assert engine.name == "onnxruntime"
    names = ["one", "two/b", "two/b", "one"]
    assert engine.generate(TEXTS, names) == model.generate(TEXTS, prompt=names)
    labels = ["good", "bad", "a fine film"]
    expected = model.ranker.log_likelihoods(TEXTS, labels, prompt="two/b")
    np.testing.assert_allclose(engine.scores(TEXTS, labels, "two/b"), expected, 1e-3, 2e-3)


@pytest.mark.parametrize("attention", ["prompt", "causal"])
@pytest.mark.parametrize("names", [None, ["one", "two"]])
def test_a_prompt_with_a_view_of_its_own_is_constants(tmp_path, tokenizer, attention, names):
    import onnx

    from keras_spot.serving.engines import open_engine

    model = toy_model(tokenizer, "T5 1.1", names, prompt_attention=attention)
    model.export(tmp_path / "served", "onnx")
    engine = open_engine(tmp_path / "served")
    given = names and [names[i % 2] for i in range(len(TEXTS))]
    assert engine.generate(TEXTS, given) == model.generate(TEXTS, prompt=given)
    graph = onnx.load(tmp_path / "served" / "encoder.onnx", load_external_data=False).graph
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    assert constants["encoder.1.attention.prompt_keys"] == (len(names or [0]), 2, P, 8)
    assert constants["decoder.1.cross.prompt_values"] == (len(names or [0]), 2, P, 8)
    assert "prompts" not in constants


def test_long_texts_and_long_answers(tmp_path, tokenizer):
    from keras_spot.serving.engines import open_engine

    model = toy_model(tokenizer, "T5 1.1", input_length=200)
    model.export(tmp_path / "served", "onnx")
    texts = ["a film that goes on and on " * 60, "short"]
    expected = model.generate(texts, max_length=160)
    assert open_engine(tmp_path / "served").generate(texts, max_length=160) == expected


def test_labels_longer_than_inputs_are_whole(tmp_path, tokenizer):
    from keras_spot.serving.engines import open_engine

    model = toy_model(tokenizer, "exact", input_length=1)
    model.export(tmp_path / "served", "onnx")
    labels = ["a fine film", "a fine street"]
    scores = open_engine(tmp_path / "served").scores(TEXTS[:1], labels)
    assert scores[0, 0] != scores[0, 1]
    np.testing.assert_allclose(scores, model.ranker.log_likelihoods(TEXTS[:1], labels), 1e-3)


def test_another_prompt_without_another_export(tmp_path, tokenizer):
    from keras_spot.model.export.onnx.answer import Answerer

    model = toy_model(tokenizer)
    model.export(tmp_path / "served", "onnx")
    answerer = Answerer(tmp_path / "served")
    prompts = np.random.default_rng(3).normal(0, 4, (2, P, 16)).astype("float32")
    model.soft_prompt.prompt.assign(prompts[1])
    ids = answerer.generate_ids([answerer.tokens(t) for t in TEXTS], [1] * 4, 7, prompts)
    assert [answerer.text(row) for row in ids] == model.generate(TEXTS)


def test_the_copied_program_answers_alone(tmp_path, tokenizer):
    odd = "two '$(touch x)` \"é"
    model = toy_model(tokenizer, names=[odd, "two"])
    task = Task("movies", input='movies "{sentence}" $HOME', labels=("bad", "good"))
    model.export(
        tmp_path / "served", "onnx", tasks={odd: task, "two": TaskCard("t", max_target_length=2)}
    )
    command = [sys.executable, "-I", "answer.py", "two", TEXTS[0], TEXTS[2]]
    options = {"capture_output": True, "text": True, "encoding": "utf-8"}
    run = subprocess.run(command, cwd=tmp_path / "served", **options)
    # A prompt whose answers are shorter has them here, too.
    expected = model.generate([TEXTS[0], TEXTS[2]], prompt="two", max_length=2)
    assert run.stdout.splitlines() == expected
    readme = (tmp_path / "served" / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0]
    check = "\nimport sys\nheavy = {'keras_spot', 'keras', 'tensorflow', 'torch', 'onnx'}\n"
    check += "assert not heavy & set(sys.modules)"
    run = subprocess.run([sys.executable, "-c", code + check], cwd=tmp_path / "served", **options)
    assert run.returncode == 0, run.stderr[-2000:]
    (expected,) = model.generate(['movies "a text" $HOME'], prompt=odd)
    assert run.stdout.strip() == str([expected])
    line = readme.split("```bash\n")[1].split("\n```")[0]
    assert shlex.split(line)[1:] == ["answer.py", odd, 'movies "a text" $HOME']
    run = subprocess.run(
        [sys.executable, *shlex.split(line)[1:]], cwd=tmp_path / "served", **options
    )
    assert run.stdout.rstrip("\n") == expected


def test_int8_is_close_and_rows_do_not_change_each_other(tmp_path, tokenizer):
    from keras_spot.serving.engines import open_engine

    # Initial values: the toys' own let small differences grow.
    model = toy_model(tokenizer, "T5 1.0", gain=0)
    model.export(tmp_path / "served", "onnx", quantize="int8")
    assert json.loads((tmp_path / "served" / "task.json").read_text())["quantization"] == "int8"
    labels = ["good", "bad"]
    engine = open_engine(tmp_path / "served")
    scores = engine.scores(TEXTS, labels)
    expected = model.ranker.log_likelihoods(TEXTS, labels)
    np.testing.assert_allclose(scores, expected, 0.05)
    alone = np.concatenate([engine.scores([text], labels) for text in TEXTS])
    np.testing.assert_allclose(scores, alone, 1e-5)
    with pytest.raises(InvalidArgument, match="did you mean 'int8'"):
        model.export(tmp_path / "other", "onnx", quantize="int4")
