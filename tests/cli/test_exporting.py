"""`keras-spot export`: forms by name, what a prompt recorded, and what may be replaced."""

import json

import numpy as np
import pytest

from keras_spot import prompts


@pytest.fixture
def prompt(tmp_path):
    values = np.random.default_rng(0).normal(0, 3, (4, 256)).astype("float32")
    prompts.write(tmp_path / "mine.npz", values, {"task": "glue/sst2"})
    return tmp_path / "mine.npz"


def test_a_form_is_written_with_what_the_prompt_recorded(keras_spot, prompt, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime runs what was exported for it")
    command = ("export", "--prompt", prompt, "--format", "onnx", tmp_path / "served")
    code, out, err = keras_spot(*command)
    assert (code, err) == (0, "")
    assert out == f"saved: {tmp_path / 'served'}\n"
    record = json.loads((tmp_path / "served" / "task.json").read_text(encoding="utf-8"))
    assert record["prompts"]["glue/sst2"]["fields"] == ["sentence"]
    readme = tmp_path / "served" / "README.md"
    assert "sst2 sentence: {sentence}" in readme.read_text(encoding="utf-8")
    readme.write_text("mine now")
    code, _, err = keras_spot(*command)
    assert code == 2
    assert "changed: README.md" in err
    code, out, _ = keras_spot(*command, "--overwrite", "--task", "glue/cola")
    assert (code, out) == (0, f"saved: {tmp_path / 'served'} (replaced)\n")
    record = json.loads((tmp_path / "served" / "task.json").read_text(encoding="utf-8"))
    assert list(record["prompts"]) == ["glue/cola"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "onxx"], "did you mean 'onnx'?"),
        (["--quantize", "int8"], "`quantize` must come with ctranslate2 or onnx"),
        (["--task", "glue/sst3"], "did you mean 'glue/sst2'"),
    ],
)
def test_mistakes_are_one_line(keras_spot, prompt, tmp_path, words, message):
    code, out, err = keras_spot("export", "--prompt", prompt, *words, tmp_path / "served")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "served").exists()
