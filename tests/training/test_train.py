import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import toy

import keras_spot
from keras_spot import Recipe, prompts
from keras_spot.model import build
from keras_spot.training.run_folder import RunFolder

RECIPE = Recipe(prompt_length=3, batch_size=4, checkpoint_every=4)


@pytest.fixture(scope="module")
def backbone(tokenizer):
    return toy.shallow(tokenizer.vocabulary_size())


@pytest.fixture(scope="module")
def train(backbone, tokenizer, data_dir):
    def call(run_dir, steps=8, task="synthetic/movies", **options):
        options = {"recipe": RECIPE, "validation_limit": 6, "method": "rank", **options}
        return keras_spot.train(
            task,
            run_dir,
            backbone=backbone,
            tokenizer=tokenizer,
            steps=steps,
            data_dir=data_dir,
            devices="one_device",
            **options,
        )

    return call


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """An uninterrupted run of 8 steps."""
    return train(tmp_path_factory.mktemp("whole") / "run")


def test_a_run_leaves_everything(whole):
    run = whole.run_dir
    assert prompts.steps(run) == [4, 8]
    np.testing.assert_array_equal(prompts.read(run, 8).values, whole.model.prompt)
    record = prompts.read_run(run)
    assert record["task"] == "synthetic/movies"
    assert record["recipe"]["learning_rate"] == 0.3
    assert record["backbone"] == whole.model.fingerprint
    assert "tensorflow" in record["versions"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8]
    assert all({"loss", "accuracy", "score", "invalid", "seconds"} <= set(line) for line in lines)
    assert whole.best["score"] == max(line["score"] for line in lines)
    assert prompts.read(run).provenance["step"] == whole.best["step"]
    assert os.listdir(run / "tensorboard")
    assert (run / "state.npz").stat().st_size < 10_000


def test_the_backbone_is_not_written(whole):
    sizes = [p.stat().st_size for p in whole.run_dir.rglob("*") if p.is_file()]
    assert sum(sizes) < 50_000


def test_tensorboard_reads_the_events(whole):
    import tensorflow as tf

    (file,) = (whole.run_dir / "tensorboard").iterdir()
    results = {}
    for event in tf.compat.v1.train.summary_iterator(str(file)):
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            results[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    line = whole.history[-1]
    assert results["loss", 8] == pytest.approx(line["loss"])
    assert results["score", 8] == pytest.approx(line["score"])


def test_resumed_equals_uninterrupted(whole, train, tmp_path):
    run = tmp_path / "run"
    train(run, steps=4)
    resumed = train(run, steps=8)
    np.testing.assert_array_equal(resumed.model.prompt, whole.model.prompt)
    for mine, theirs in zip(resumed.model.optimizer.variables, whole.model.optimizer.variables):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
    keys = ("step", "score", "accuracy")
    for mine, theirs in zip(resumed.history, whole.history):
        assert [mine[k] for k in keys] == [theirs[k] for k in keys]
        assert mine["loss"] == pytest.approx(theirs["loss"])


@pytest.mark.slow  # `python -m tests.faults` kills runs at every moment
def test_a_kill_while_saving_is_trimmed(whole, train, tmp_path):
    """Killed after the prompt and the metrics of step 8, before its state."""
    run = tmp_path / "run"
    train(run, steps=4)
    state = (run / "state.npz").read_bytes()
    train(run, steps=8)
    (run / "state.npz").write_bytes(state)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 12, "lo')
    again = train(run, steps=8)
    np.testing.assert_array_equal(again.model.prompt, whole.model.prompt)
    assert [line["step"] for line in again.history] == [4, 8]
    assert again.best == whole.best


def test_an_exception_between_checkpoints_loses_only_the_steps_since(whole, train, tmp_path):
    class Stop(Exception):
        pass

    def stop(step, steps, logs):
        if step == 6:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path / "run", progress=stop)
    assert RunFolder(tmp_path / "run").newest_step() == 4
    again = train(tmp_path / "run")
    np.testing.assert_array_equal(again.model.prompt, whole.model.prompt)


def test_a_finished_run_is_only_loaded(whole, train, tmp_path):
    shutil.copytree(whole.run_dir, tmp_path / "run")
    calls = []
    again = train(tmp_path / "run", progress=lambda *a: calls.append(a))
    np.testing.assert_array_equal(again.model.prompt, whole.model.prompt)
    assert calls == []
    assert again.history == whole.history


def test_transfer_starts_from_the_best_step(whole, train, tmp_path):
    target = train(
        tmp_path / "target",
        steps=1,
        task="synthetic/products",
        prompt_init=whole.run_dir,
        recipe=Recipe(prompt_length=3, batch_size=4, learning_rate=1e-6, weight_decay=0.0),
    )
    np.testing.assert_allclose(target.model.prompt, prompts.read(whole.run_dir).values, atol=1e-5)
    assert prompts.read_run(tmp_path / "target")["prompt_init"] == str(whole.run_dir)


def test_the_seed_decides_the_run(train, tmp_path):
    one, two, other = (train(tmp_path / str(i), steps=1, seed=s) for i, s in enumerate([1, 1, 2]))
    np.testing.assert_array_equal(one.model.prompt, two.model.prompt)
    assert np.abs(one.model.prompt - other.model.prompt).max() > 0


def test_without_validation_no_best_step_is_recorded(train, tmp_path):
    run = train(tmp_path / "run", steps=1, validation_split="")
    assert run.best is None
    assert set(run.history[0]) == {"step", "loss", "seconds"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"seed": 5},
            "`run_dir` must be new or hold a run with the same seed. "
            "Received: seed was 0, asked 5, in ",
        ),
        (
            {"task": "synthetic/products"},
            "`run_dir` must be new or hold a run with the same task. "
            "Received: task was 'synthetic/movies', asked 'synthetic/products', in ",
        ),
        ({"steps": 0}, "`steps` must be a positive integer. Received: steps=0"),
        ({"task": "synthetic/movi"}, "`task` must be a known name."),
        (
            {"validation_split": "test", "recipe": dataclasses.replace(RECIPE, batch_size=2)},
            "`run_dir` must be new or hold a run with the same recipe.batch_size, "
            "validation_split. Received: recipe.batch_size was 4, asked 2; validation_split was "
            "None, asked 'test', in ",
        ),
    ],
)
def test_what_a_run_refuses(whole, train, tmp_path, change, message):
    shutil.copytree(whole.run_dir, tmp_path / "run")
    before = sorted(p for p in (tmp_path / "run").rglob("*.prompt"))
    with pytest.raises(ValueError) as error:
        train(tmp_path / "run", **{"steps": 12, **change})
    assert str(error.value).startswith(message)
    assert sorted(p for p in (tmp_path / "run").rglob("*.prompt")) == before


def test_a_run_of_another_backbone_is_refused(whole, tokenizer, data_dir, tmp_path):
    other = toy.shallow(tokenizer.vocabulary_size(), seed=1)
    shutil.copytree(whole.run_dir, tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"`run_dir` must be new or hold a run with the same backb"
    ):
        keras_spot.train(
            "synthetic/movies",
            tmp_path / "run",
            backbone=other,
            tokenizer=tokenizer,
            recipe=RECIPE,
            steps=12,
            data_dir=data_dir,
            devices="one_device",
            validation_limit=6,
            method="rank",
        )
    with pytest.raises(ValueError, match=r"`prompt_init` must come from this backbone"):
        build.build(other, whole.run_dir, tokenizer=tokenizer)


def test_few_examples_are_mixed_in_every_batch(tokenizer, data_dir):
    options = {"batch_size": 4, "data_dir": data_dir, "repeat": True}
    few = keras_spot.load_task("synthetic/movies", "train[:10]", tokenizer, **options)
    batches = [x["encoder_token_ids"].numpy() for x, _, _ in few.take(5)]
    assert len({batch.shape for batch in batches}) == 1
    rows = [row.tobytes() for batch in batches for row in batch]
    assert len(set(rows)) == 10
    assert all(rows.count(row) == 2 for row in set(rows))  # two whole epochs
    many = keras_spot.load_task("synthetic/movies", "train[:200]", tokenizer, **options)
    assert len({x["encoder_token_ids"].shape for x, _, _ in many.take(20)}) > 2


def test_a_seed_set_on_the_way_does_not_break_the_data(tokenizer, data_dir):
    """TensorFlow then clears the resources of every tokenizer that lives."""
    import keras

    options = {"batch_size": 4, "data_dir": data_dir, "shuffle": False, "repeat": True}
    data = keras_spot.load_task("synthetic/movies", "train", tokenizer, **options)
    expected = [x["encoder_token_ids"].numpy() for x, _, _ in data.take(600)]
    results = []
    for i, (x, _, _) in enumerate(data.take(600)):
        results.append(x["encoder_token_ids"].numpy())
        if i == 1:
            keras.utils.set_random_seed(0)
    for mine, theirs in zip(results, expected):
        np.testing.assert_array_equal(mine, theirs)


def test_an_unwritable_folder_is_refused_before_training(train, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        train(tmp_path / "file" / "run")


def test_an_address_is_no_folder_of_a_run():
    with pytest.raises(ValueError) as error:
        RunFolder("gs://bucket/run")
    assert str(error.value) == (
        "`run_dir` must be a folder of this machine. Received: gs://bucket/run"
    )


def test_checkpoints_from_plain_fit(backbone, tokenizer, tmp_path):
    model = build.build(backbone, tokenizer=tokenizer, prompt_length=3)
    x, y, weight = toy.batch(rows=8)
    scores = iter([{"loss": 3.0}, {"loss": 2.0}, {"loss": 2.5}])
    callback = keras_spot.PromptCheckpoint(
        tmp_path, every=2, validate=lambda model: next(scores), monitor="loss", mode="min"
    )
    model.fit(x, y, sample_weight=weight, batch_size=4, epochs=3, callbacks=[callback], verbose=0)
    assert prompts.steps(tmp_path) == [2, 4, 6]
    assert prompts.read_run(tmp_path)["best"] == {"step": 4, "score": 2.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "`every` must be a positive integer. Received: every=0"),
        ({"mode": "auto"}, "`mode` must be 'max' or 'min'. Received: mode='auto'"),
    ],
)
def test_bad_callback_options(tmp_path, options, message):
    with pytest.raises(ValueError) as error:
        keras_spot.PromptCheckpoint(tmp_path, **options)
    assert str(error.value) == message


def test_a_monitor_that_is_not_there(backbone, tokenizer, tmp_path):
    model = build.build(backbone, tokenizer=tokenizer, prompt_length=3)
    x, y, weight = toy.batch()
    callback = keras_spot.PromptCheckpoint(tmp_path, validate=lambda model: {"f1": 1.0})
    with pytest.raises(
        ValueError, match=r"`monitor` must be one of f1\. Received: monitor='score'"
    ):
        model.fit(x, y, sample_weight=weight, callbacks=[callback], verbose=0)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_warm_up_compiles_every_length_and_leaves_the_model_as_it_was(
    backbone, tokenizer, data_dir, compiled
):
    model = build.build(backbone, tokenizer=tokenizer, recipe=RECIPE)
    model.compile(jit_compile=compiled)
    data = keras_spot.load_task(
        "synthetic/movies", "train", tokenizer, 4, data_dir=data_dir, repeat=True, buckets=(16, 24)
    )
    lengths = {x["encoder_token_ids"].shape[1] for x, _, _ in data.take(30)}
    before = model.prompt
    assert keras_spot.warm_up(model, data, batches=30) == len(lengths) > 1
    np.testing.assert_array_equal(model.prompt, before)
    step = model.train_function
    traces = []
    model.train_step = lambda *args: traces.append(args)  # a new trace would come here
    model.fit(data, steps_per_epoch=30, shuffle=False, verbose=0)
    assert model.train_function is step
    assert not traces
    assert int(model.optimizer.iterations) == 30
    with pytest.raises(ValueError, match=r"`data` must have batches. Received: batches=0"):
        keras_spot.warm_up(model, data, batches=0)
