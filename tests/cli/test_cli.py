import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import toy

from keras_spot import cli, prompts
from keras_spot.base import ownership


def run(monkeypatch, capsys, *words):
    """Run the command in this process; return exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["keras-spot", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out = capsys.readouterr()
    return caught.value.code, out.out, out.err


@pytest.fixture(scope="module")
def preset(tmp_path_factory, tokenizer):
    """A preset folder of a random backbone, with a recipe of its own."""
    folder = tmp_path_factory.mktemp("preset")
    toy.shallow(tokenizer.vocabulary_size()).save_to_preset(folder)
    tokenizer.save_to_preset(folder)
    (folder / "recipe.json").write_text(
        '{"prompt_length": 3, "batch_size": 4, "steps": 4, "checkpoint_every": 2}'
    )
    return folder


@pytest.fixture
def keras_spot(monkeypatch, capsys):
    return lambda *words: run(monkeypatch, capsys, *words)


def test_train_evaluate_predict_export(keras_spot, preset, data_dir, tmp_path):
    common = ["--backbone", preset, "--data-dir", data_dir]
    task = ["--task", "synthetic/movies"]
    code, out, _ = keras_spot(
        "train", *task, *common, "--run-dir", tmp_path / "run", "--validation-limit", 4
    )
    assert code == 0
    assert "devices: one_device, 1 CPU" in out
    assert "best: " in out
    assert prompts.steps(tmp_path / "run") == [2, 4]

    options = ["--prompt", tmp_path / "run", "--limit", 5]
    file = tmp_path / "answers.jsonl"
    code, out, _ = keras_spot("evaluate", *task, *common, *options, "--predictions", file)
    scores = json.loads(out)
    assert (code, scores["examples"], len(file.read_text().splitlines())) == (0, 5, 5)
    words = [*common, *options, "--report"]  # the run knows its task
    code, out, _ = keras_spot("evaluate", *words)
    report = json.loads(out)
    classes = report.pop("classes")
    assert report == scores
    assert [c["label"] for c in classes] == ["negative", "positive"]
    assert sum(sum(c["answered"].values()) for c in classes) == 5

    code, out, _ = keras_spot("predict", *task, *common, *options, "--method", "rank")
    assert [json.loads(line)["index"] for line in out.splitlines()] == [0, 1, 2, 3, 4]

    words = ["predict", "--prompt", tmp_path / "run"]  # the run knows its backbone
    code, out, _ = keras_spot(*words, "a fine film", "a dull one")
    assert [json.loads(line)["input"] for line in out.splitlines()] == ["a fine film", "a dull one"]

    # Transfer: a second run starts from the first one's folder.
    code, out, err = keras_spot(
        "train",
        "--task",
        "synthetic/products",
        *common,
        "--run-dir",
        tmp_path / "target",
        "--prompt-init",
        tmp_path / "run",
        "--steps",
        1,
        "--validation-limit",
        4,
    )
    assert (code, err) == (0, "")

    code, out, _ = keras_spot(
        "export", "--backbone", preset, "--prompt", tmp_path / "run", tmp_path / "served"
    )
    assert code == 0
    assert (tmp_path / "served" / "saved_model.pb").is_file()


def test_train_a_bank_and_serve_it(keras_spot, preset, data_dir, tmp_path):
    words = ["--task", "synthetic/movies", "--seed", 0, "--seed", 1, "--validation-limit", 4]
    run = ["--backbone", preset, "--data-dir", data_dir, "--run-dir", tmp_path / "bank"]
    code, out, _ = keras_spot("train-bank", *words, *run, "--method", "rank", "--steps", 2)
    assert code == 0
    folders = [tmp_path / "bank" / f"seed{seed}" for seed in (0, 1)]
    assert [prompts.steps(folder) for folder in folders] == [[2], [2]]
    assert all(f"at step 2 (accuracy) run: {folder}" in out for folder in folders)
    both = [word for folder in folders for word in ("--prompt", folder)]
    code, _, _ = keras_spot("export", "--backbone", preset, *both, tmp_path / "served")
    assert code == 0
    import tensorflow as tf

    serve = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    answers = serve(text=tf.constant(["a fine film"] * 2), prompt=tf.constant(["seed1", "seed0"]))
    assert answers["outputs"].shape == (2,)


def test_prompts_of_a_multitask_adapter_go_on_and_learn_from_teachers(
    keras_spot, preset, data_dir, tmp_path
):
    from safetensors.numpy import save_file

    rng = np.random.default_rng(4)
    shapes = {"prompt_embeddings": (3, 16), "prefix_task_cols": (2, 3, 2)}
    shapes["prefix_task_rows"] = (2, 2, 16)
    drawn = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file(drawn, adapter / "adapter_model.safetensors")
    config = {"peft_type": "MULTITASK_PROMPT_TUNING", "num_virtual_tokens": 3, "num_ranks": 2}
    config |= {"task_type": "SEQ_2_SEQ_LM", "num_transformer_submodules": 1}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    both = ["--task", "synthetic/movies", "--task", "synthetic/products"]
    common = ["--backbone", preset, "--data-dir", data_dir, "--validation-split", ""]
    bank = ["train-bank", *both, *common, "--run-dir", tmp_path / "bank"]
    code, _, err = keras_spot(*bank, "--prompt-init-multitask", adapter, "--steps", 2)
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "bank" / "run.json").read_text())
    assert record["reparameterization"]["shared"]["rank"] == 2
    shared = prompts.read(tmp_path / "bank", 2).values
    assert 0 < np.abs(shared - drawn["prompt_embeddings"]).max() < 2
    code, _, err = keras_spot(*bank, "--prompt-init-multitask", adapter, "--prompt-init", adapter)
    assert (code, "`prompt_init` must not be given with" in err) == (2, True)
    one = ["train-bank", *both, "--task", "synthetic/topic", *common, "--run-dir", tmp_path / "no"]
    code, _, err = keras_spot(*one, "--prompt-init-multitask", adapter)
    assert (code, "must be one for all prompts, or a list of" in err) == (2, True)

    folders = [tmp_path / "bank" / f"synthetic.{name}" for name in ("movies", "products")]
    taught = [word for folder in folders for word in ("--teacher", folder)]
    words = [*both, *common, "--prompt-init", tmp_path / "bank", "--reparameterization", "shared"]
    words += [*taught, "--run-dir", tmp_path / "taught", "--steps", 1]
    assert keras_spot("train-bank", *words)[0] == 0
    untaught = [word for word in words if word not in taught]
    code, _, err = keras_spot("train-bank", *untaught)
    assert (code, "must be new or hold a run with the same" in err) == (2, True)


def test_a_task_record_of_ones_own(keras_spot, preset, tmp_path):
    rows = "text,label\n" + "a fine film,good\na dull film,bad\n" * 8
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text(rows)
    record = tmp_path / "reviews.yaml"
    record.write_text(
        f"""
name: reviews
files: {{train: {tmp_path}/train.csv, validation: {tmp_path}/dev.csv}}
input: "review: {{text}}"
target: "{{label}}"
labels: [bad, good]
metrics: [accuracy]
"""
    )
    code, _, err = keras_spot(
        "train", "--task", record, "--backbone", preset, "--run-dir", tmp_path / "run", "--steps", 1
    )
    assert (code, err) == (0, "")
    code, out, _ = keras_spot(
        "evaluate", "--task", record, "--backbone", preset, "--prompt", tmp_path / "run"
    )
    assert json.loads(out)["examples"] == 16


def test_tasks_are_listed(keras_spot):
    code, out, _ = keras_spot("tasks")
    assert code == 0
    assert "super_glue/boolq" in out


def test_listing_and_help_do_not_wait_for_tensorflow():
    code = (
        "import sys, keras_spot.cli as c; sys.argv = ['keras-spot', sys.argv[1]];\n"
        "try: c.main()\n"
        "except SystemExit: print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    for word in ("--help", "tasks"):
        actual = subprocess.run([sys.executable, "-c", code, word], capture_output=True, text=True)
        assert actual.stdout.splitlines()[-1] == "[]", actual.stderr


MISTAKES = {
    "train --task glue/sst --run-dir R": "error: `task` must be a known name. "
    "Received: task='glue/sst' (did you mean 'glue/sst2' or 'glue/stsb'?)",
    "train --task glue/sst2 --run-dir R --backbone tinny": "error: `backbone` must be a known",
    "train --task glue/sst2 --run-dir R --learning-rate fast": "error: Invalid value for "
    "'--learning-rate'",
    "train --task glue/sst2 --run-dir R --prompt-init a --prompt-init b": "error: `prompt_init` "
    "must be given once; a mean is --prompt-init-mean, once for each prompt. Received: "
    "prompt_init='a', prompt_init='b'",
    "train --task synthetic/movies --run-dir R --reparameterization low_rank": "error: "
    "`reparameterization` must be a known name. Received: reparameterization='low_rank' (did you "
    "mean 'low-rank'?)",
    "train --task synthetic/movies --run-dir R --reparameterization {low-rank:3}": "error: "
    "`reparameterization` must be a name or JSON. Received: {low-rank:3}",
    "train --task glue/sst2": "error: Missing option '--run-dir'",
    "trian": "error: No such command 'trian'",
    "evaluate --task synthetic/movies --prompt nowhere": "error: `prompt` must exist. Received: ",
    "predict --prompt p.npy": "error: `texts` must be given, or one of `field`",
    "train --task synthetic/movies --run-dir R --devices gpu": "error: `devices` must be a known",
    "train --task none.yaml --run-dir R": "error: ",
    "tasks --prepare mr": "error: ",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(keras_spot, line, tmp_path, preset, data_dir):
    words = [tmp_path / "run" if word == "R" else word for word in line.split()]
    if "--backbone" not in words and words[0] in ("train", "evaluate"):
        words += ["--backbone", preset, "--data-dir", data_dir]
    code, _, err = keras_spot(*words)
    assert code == 2
    assert err.startswith(MISTAKES[line])
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_missing_data_say_where_and_how(keras_spot, preset, tmp_path):
    code, _, err = keras_spot(
        "train",
        "--task",
        "glue/sst2",
        "--run-dir",
        tmp_path / "run",
        "--backbone",
        preset,
        "--data-dir",
        tmp_path,
    )
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "glue/sst2" in err
    assert str(tmp_path) in err
    assert "keras-spot tasks --prepare glue/sst2" in err
    assert not (tmp_path / "run").exists()


def test_a_prompt_of_another_width_is_refused(keras_spot, preset, tmp_path, data_dir):
    import numpy as np

    np.save(tmp_path / "p.npy", np.ones((3, 17), "float32"))
    code, _, err = keras_spot(
        "evaluate",
        "--task",
        "synthetic/movies",
        "--backbone",
        preset,
        "--prompt",
        tmp_path / "p.npy",
        "--data-dir",
        data_dir,
    )
    assert code == 2
    assert err.startswith("error: `prompt_init` must have the backbone's hidden width 16.")


def test_a_bad_row_is_named(keras_spot, preset, tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": "good"}\n{"text": "b"}\n')
    record = tmp_path / "t.json"
    record.write_text(
        json.dumps(
            {
                "name": "t",
                "files": {"train": str(tmp_path / "train.jsonl")},
                "input": "{text}",
                "labels": ["bad", "good"],
                "metrics": ["accuracy"],
            }
        )
    )
    code, _, err = keras_spot(
        "train",
        "--task",
        record,
        "--backbone",
        preset,
        "--run-dir",
        tmp_path / "run",
        "--validation-split",
        "",
    )
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "row 1 of t" in err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_command_that_is_told_to_end_clears_away_what_it_was_writing(
    keras_spot, tmp_path, monkeypatch, request, name
):
    """Beside the training of a run, which saves first."""
    number = getattr(signal, name)
    # Below nohup or a shell's & the tests themselves would ignore it.
    before = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    inherited = signal.signal(number, before)
    request.addfinalizer(lambda: signal.signal(number, inherited))
    np.save(tmp_path / "p.npy", np.ones((2, 3), "float32"))
    mark = ownership.mark

    def stopped(folder, kind):
        mark(folder, kind)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(ownership, "mark", stopped)
    code, out, err = keras_spot("convert", tmp_path / "p.npy", tmp_path / "out", "--to", "peft")
    assert (code, out, err) == (128 + number, "", "interrupted\n")
    assert os.listdir(tmp_path) == ["p.npy"]
    assert signal.getsignal(number) == before


def test_a_stopped_run_says_where_it_stands_and_where_it_continues(
    keras_spot, preset, data_dir, tmp_path, monkeypatch
):
    from keras_spot.training.session import Session

    scores = Session.scores

    def stopped(self, run):
        os.kill(os.getpid(), signal.SIGTERM)
        return scores(self, run)

    words = ["train", "--task", "synthetic/movies", "--backbone", preset, "--data-dir", data_dir]
    words += ["--run-dir", tmp_path / "run", "--validation-limit", 4, "--method", "rank"]
    monkeypatch.setattr(Session, "scores", stopped)
    code, _, err = keras_spot(*words)
    line = "stopped at step 2, saved at 2; the same command continues\n"
    assert (code, err) == (143, line)
    monkeypatch.setattr(Session, "scores", scores)
    code, out, err = keras_spot(*words)
    assert (code, err) == (0, "")
    assert "synthetic/movies: continuing at step 2 of 4\n" in out
    assert prompts.steps(tmp_path / "run") == [2, 4]
    code, out, err = keras_spot(*words, "--batch-size", 2, "--seed", 1)
    assert (code, out) == (2, "")
    assert err == (
        "error: `run_dir` must be new or hold a run with the same recipe.batch_size, seed. "
        "Received: recipe.batch_size was 4, asked 2; seed was 0, asked 1, "
        f"in {tmp_path / 'run'}\n"
    )


def test_a_prompt_is_recycled_for_another_backbone(keras_spot, preset, tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 16)).astype("float32")
    source = prompts.write(tmp_path / "p.npz", values, {"task": "cb"})
    words = ["convert", source, tmp_path / "q.npz", "--recycle-to", preset]
    code, out, err = keras_spot(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: `source` must be given where no run recorded it")
    code, out, _ = keras_spot(*words, "--recycle-from", preset)
    assert code == 0
    assert out.startswith("recycled: R^2 = 1.00 by v2v-lin, 700 tokens\nprompt: ")
    np.testing.assert_allclose(prompts.read(tmp_path / "q.npz").values, values, atol=1e-4)
    code, _, err = keras_spot("convert", source, tmp_path / "r.npz", "--recycle-from", preset)
    assert code == 2
    assert "`recycle_from` must be given with `recycle_to`" in err
