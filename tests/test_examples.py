"""Every example in a tiny mode, with public names only."""

import importlib.util
import json
import pathlib

import pytest
import toy

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def preset(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("preset")
    toy.shallow(tokenizer.vocabulary_size()).save_to_preset(folder)
    tokenizer.save_to_preset(folder)
    (folder / "recipe.json").write_text('{"prompt_length": 3, "batch_size": 4}')
    return str(folder)


def test_transfer(preset, data_dir, tmp_path, capsys):
    transfer = example("transfer")
    words = ["--pair", "synthetic/movies:synthetic/products", "--data-dir", data_dir]
    words += ["--backbone", preset, "--source-steps", "2", "--target-steps", "2", "--every", "1"]
    words += ["--seeds", "2", "--validation", "10", "--examples", "8"]
    words += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    options = transfer.parse(words)
    transfer.report(options, transfer.study(options))
    table = (tmp_path / "results" / "transfer.md").read_text()
    assert "| synthetic/movies → synthetic/products |" in table
    (record,) = json.loads((tmp_path / "results" / "transfer.json").read_text())
    assert {kind: len(runs) for kind, runs in record["curves"].items()} == {
        "SPoT": 2,
        "prompt tuning": 2,
    }
    assert (tmp_path / "results" / "synthetic-movies--synthetic-products.png").stat().st_size > 5000
    assert table in capsys.readouterr().out


def test_superglue(preset, shared, tmp_path, capsys):
    import numpy as np

    from keras_spot import prompts

    prompt = prompts.write(tmp_path / "p.npy", np.ones((3, toy.CONFIG["hidden_dim"])))
    words = ["--prompt", str(prompt), "--backbone", preset, "--limit", "2"]
    words += ["--data-dir", str(shared / "data/tfds"), "--predictions", str(tmp_path / "out")]
    scores = example("superglue").main(words)
    out = capsys.readouterr().out
    assert "left out: `task` super_glue/multirc" in out
    assert set(scores) >= {"super_glue/boolq", "super_glue/cb", "super_glue/record"}
    assert (tmp_path / "out" / "super_glue-boolq.jsonl").read_text().count("\n") == 2


@pytest.mark.slow  # its notebook and the page of the docs run the same commands
def test_own_data(preset, tmp_path, monkeypatch, capsys):
    """The commands of the page, in their order, with few steps."""
    import re
    import shlex

    from keras_spot import cli

    page = (EXAMPLES / "own_data" / "README.md").read_text(encoding="utf-8")
    commands = re.search(r"```bash\n(.*?)```", page, re.DOTALL)[1].splitlines()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    for command in commands:
        words = shlex.split(command.replace("--steps 50 --checkpoint-every 25", "--steps 1"))
        if words[1] not in ("tasks",):
            words[2:2] = ["--backbone", preset]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 0, (command, capsys.readouterr().err)
    assert (tmp_path / "served" / "saved_model.pb").is_file()
    assert (EXAMPLES / "own_data" / "task.yaml").read_text() in re.sub("(?m)^    ", "", page)
