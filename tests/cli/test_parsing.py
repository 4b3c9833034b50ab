"""The command line as such: help, versions, completion, mistakes, texts and a quiet start."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import typer

from keras_spot import cli
from keras_spot.base import backend as backends
from keras_spot.base import remote
from keras_spot.base.versions import __version__
from keras_spot.cli import options
from keras_spot.cli.parsing import MAY_BE_EMPTY, closest_option


def call(*words, input=b"", **environment):
    """Run `python -m keras_spot` in a process of its own."""
    kept = {k: v for k, v in os.environ.items() if k not in ("TF_CPP_MIN_LOG_LEVEL", "LC_ALL")}
    return subprocess.run(
        [sys.executable, "-m", "keras_spot", *map(str, words)],
        input=input,
        capture_output=True,
        env={**kept, **environment},
        check=False,
    )


def test_versions_help_and_completion(keras_spot):
    code, out, err = keras_spot("--version")
    assert (code, err) == (0, "")
    assert out.startswith(f"keras-spot {__version__} (keras 3.")
    for words in (["-h"], ["--help"], []):
        code, out, err = keras_spot(*words)
        assert (code, err) == (0, "")
        assert "Soft prompt tuning" in out
    code, out, _ = keras_spot("push", "-h")
    assert code == 0
    assert "<bool>" not in out
    shown = call(_KERAS_SPOT_COMPLETE="complete_bash", COMP_WORDS="keras-spot li", COMP_CWORD="1")
    assert shown.stdout.split() == [b"library"]


def commands(group=None, path=""):
    """Yield the words of every command, and the command."""
    for word, command in (group or typer.main.get_command(cli.app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {word}")
        else:
            yield f"{path} {word}", command


def test_nothing_is_no_name_of_anything(keras_spot):
    """An empty path would be the current folder; in every verb, of every text that it takes."""
    for words, command in commands():
        for empty in command.params:
            if getattr(empty, "is_flag", False):
                continue
            given = []
            for parameter in command.params:
                if parameter is empty or parameter.required:
                    value = "" if parameter is empty else "x"
                    is_option = parameter.param_type_name == "option"
                    given += [parameter.opts[0], value] if is_option else [value]
            if empty.name in MAY_BE_EMPTY:
                continue
            code, _, err = keras_spot(*words.split(), *given)
            expected = f"error: `{empty.name}` must not be empty. Received: {empty.name}=''\n"
            assert (code, err) == (2, expected), (words, given)


def test_every_option_says_its_default():
    silent = []
    for name, command in commands():
        for option in command.params:
            if option.param_type_name != "option" or option.required or option.is_flag:
                continue
            if option.default is None and "Default: " not in option.help:
                silent.append(f"{name} {option.opts[0]}")
    assert silent == []


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--lr", "--learning-rate"),
        ("--rate", "--learning-rate"),
        ("--learning_rate", "--learning-rate"),
        ("--bs", "--batch-size"),
        ("--model", "--backbone"),
        ("--prmpt", "--prompt"),
        ("--zzzz", None),
    ],
)
def test_an_unknown_option_suggests_the_one_that_was_meant(given, meant):
    known = ["--help", "--library", "--learning-rate", "--batch-size", "--backbone", "--prompt"]
    assert closest_option(given, known) == meant


def test_a_suggestion_stands_in_the_message(keras_spot):
    code, _, err = keras_spot("train", "--lr", 3)
    assert (code, err) == (2, "error: No such option: --lr (did you mean --learning-rate?)\n")
    for words, name in (
        (("export", "--output", "o"), "OUTPUT"),
        (("inspect", "--prompt", "p"), "PATH"),
    ):
        code, _, err = keras_spot(*words)
        expected = f"error: No such option: {words[1]} ({name} is given without one)\n"
        assert (code, err) == (2, expected)


def test_texts_are_utf_8(monkeypatch):
    assert options.check_texts(["café", "caf\udcc3\udca9"]) == ["café", "café"]
    with pytest.raises(ValueError, match=r"^`texts` must be UTF-8\. Received: 'caf\\udce9'$"):
        options.check_texts(["caf\udce9"])


def test_a_command_starts_quietly_and_reads_utf_8_in_any_locale(tmp_path):
    np.save(tmp_path / "p.npy", np.zeros((2, 256), "float32"))
    words = ["predict", "--prompt", tmp_path / "p.npy", "-"]
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = call(*words, input="un café\n".encode(), **ascii_alone)
    assert (process.returncode, process.stderr) == (0, b"")
    assert json.loads(process.stdout)["input"] == "un café"
    process = call(*words, input=b"fine\ncaf\xe9\n")
    message = b"error: `stdin` must be UTF-8. Received: invalid continuation byte in line 2\n"
    assert (process.returncode, process.stdout, process.stderr) == (2, b"", message)


def test_a_backend_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("KERAS_BACKEND", "openvino")
    with pytest.raises(ImportError, match=r"must be a backend that is installed \(pip install op"):
        backends.check_backend()
    monkeypatch.undo()
    np.save(tmp_path / "p.npy", np.zeros((2, 256), "float32"))
    for backend, message in {
        "torch": "must be tensorflow or jax for this. Received: torch",
        "jaxx": "must be a known name. Received: KERAS_BACKEND='jaxx' (did you mean 'jax'?)",
    }.items():
        process = call("predict", "--prompt", tmp_path / "p.npy", "text", KERAS_BACKEND=backend)
        expected = f"error: `KERAS_BACKEND` {message}\n".encode()
        assert (process.returncode, process.stderr) == (2, expected)


def test_a_backbone_without_network_is_one_line(keras_spot, monkeypatch, tmp_path):
    def refuse(host):
        raise TimeoutError("timed out")

    monkeypatch.setattr(remote, "knock", refuse)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    np.save(tmp_path / "p.npy", np.zeros((2, 16), "float32"))
    words = ["predict", "--prompt", tmp_path / "p.npy", "--backbone", "flan_base_multi", "text"]
    code, out, err = keras_spot(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: `backbone` must be at hand or on a host that answers (looked in ")
    assert err.endswith("Received: flan_base_multi (timed out)\n")
    assert len(err.splitlines()) == 1
