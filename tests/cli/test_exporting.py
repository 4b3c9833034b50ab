"""`keras-spot export`: forms by name, what a prompt recorded, what is needed or replaced."""

import importlib.util
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


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        ("export --prompt mine.npz --format ctranslate2 out", "ctranslate2", "ctranslate2"),
        ("export --prompt mine.npz --format onnx out", "onnxruntime", "onnx"),
        ("study run study.yaml --output out", "matplotlib", "plots"),
        ("demo --output out", "matplotlib", "plots"),
    ],
)
def test_a_missing_package_is_told_before_any_work(
    keras_spot, prompt, tmp_path, monkeypatch, words, package, extra
):
    find = importlib.util.find_spec
    packages = {"ctranslate2", "onnx", "onnxruntime", "matplotlib"}
    present = dict.fromkeys(packages - {package}, find("json"))

    def find_spec(name, *parent):
        return present.get(name) if name in packages else find(name, *parent)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.chdir(tmp_path)
    study = "name: one\nsources: [synthetic/movies]\ntargets: [synthetic/products]\n"
    (tmp_path / "study.yaml").write_text(study)
    code, _, err = keras_spot(*words.split())
    message = f"error: {package} is not installed: pip install 'keras-spot[{extra}]'\n"
    assert (code, err) == (2, message)
    assert not (tmp_path / "out").exists()
