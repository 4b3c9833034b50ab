"""What a run is and how it goes on: its record, its folder, signals, numbers that fail."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import toy

import keras_spot
from keras_spot import Recipe, Run, execute, prompts
from keras_spot.base import hosts
from keras_spot.base.claims import identity
from keras_spot.base.errors import Diverged, InvalidArgument
from keras_spot.training import options, owner
from keras_spot.training.interrupts import AGREED_EVERY, Interrupted, Signals
from keras_spot.training.run_folder import RunFolder
from keras_spot.training.session import Session

RECIPE = Recipe(prompt_length=3, batch_size=4, checkpoint_every=4)


@pytest.fixture(scope="module")
def movies(tokenizer, data_dir):
    return Run(
        task="synthetic/movies",
        backbone=toy.shallow(tokenizer.vocabulary_size()),
        tokenizer=tokenizer,
        recipe=RECIPE,
        steps=8,
        data_dir=data_dir,
        devices="one_device",
        validation_limit=6,
        method="rank",
    )


@pytest.fixture(scope="module")
def session(movies):
    """One compiled model for all runs here."""
    return Session(movies)


@pytest.fixture(scope="module")
def go(movies, session):
    """Run, or run on, in a folder."""

    def call(folder, progress=None, callbacks=(), **changes):
        run = dataclasses.replace(movies, **changes)
        options = {"session": session, "progress": progress, "callbacks": callbacks}
        (trained,) = execute(run, folder, **options).runs.values()
        return trained

    return call


@pytest.fixture(scope="module")
def whole(go, tmp_path_factory):
    """An uninterrupted run of 8 steps."""
    return go(tmp_path_factory.mktemp("whole") / "run")


def same(folder, other):
    """Assert that two runs left the same, bit for bit but for the time they took."""
    for name in ("state.npz", "state.previous.npz"):
        with np.load(folder / name) as mine, np.load(other / name) as theirs:
            assert set(mine.files) == set(theirs.files)
            for key in set(mine.files) - {"seconds", "checksum"}:
                np.testing.assert_array_equal(mine[key], theirs[key])
    lines = [
        [{**line, "seconds": 0} for line in RunFolder(place).metrics()] for place in (folder, other)
    ]
    assert lines[0] == lines[1]
    assert prompts.steps(folder) == prompts.steps(other)
    assert prompts.read_run(folder)["best"] == prompts.read_run(other)["best"]


# === Record ===


def test_options_are_the_fields_of_the_record():
    fields = {field.name: field.type for field in dataclasses.fields(Run)}
    common = options.CommonOptions.__annotations__
    assert {name: kind.__forward_arg__ for name, kind in common.items()} == {
        name: fields[name] for name in common
    }
    assert set(options.RunOptions.__annotations__) == set(fields) - {"task", "names"}
    assert set(options.BankOptions.__annotations__) == set(fields) - {"task"}


def test_a_record_tells_the_whole_run(tmp_path):
    given = {"split": "train[:9]", "examples": 5, "validation_split": "", "validation_limit": 4}
    given |= {"method": "rank", "input_length": 40, "dtype": "bfloat16", "quantize": "int8"}
    given |= {"steps": 7, "prompt_attention": "causal", "kernels": "plain", "skip_nonfinite": 2}
    given |= {"remat": True}
    run = Run(task="synthetic/movies", seed=3, learning_rate=0.1, **given)
    record = json.loads(json.dumps(run.record()))
    assert {name: record[name] for name in given} == given
    assert record["recipe"]["learning_rate"] == 0.1
    again = Run.from_record(record)
    assert {name: getattr(again, name) for name in given} == given
    assert json.loads(json.dumps(Run.from_record(record).record())) == record
    bank = Run(task=["synthetic/movies", "glue/rte"], seed=[3, 4], learning_rate=[0.1, 0.2])
    record = json.loads(json.dumps(bank.record()))
    assert record["bank"] == ["synthetic/movies-seed3-rate0.1", "glue/rte-seed4-rate0.2"]
    assert json.loads(json.dumps(Run.from_record(record).record())) == record
    with pytest.raises(ValueError, match=r"`record` must name its initial prompt"):
        Run.from_record(Run(task="glue/rte", prompt_init=np.ones((3, 16))).record())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "`steps` must be a positive integer. Received: steps=0"),
        ({"seed": -1}, "`seed` must be an integer from 0 on. Received: seed=-1"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a finite number above 0."),
        ({"learning_rate": [0.1, 0.0]}, "`learning_rate` must be a finite number above 0."),
        ({"method": "rang"}, "`method` must be 'generate', 'beam' or 'rank'."),
        ({"task": []}, "`task` must be at least one."),
        ({"remat": 1}, "`remat` must be True or False. Received: remat=1"),
        ({"prompt_attention": "all"}, "`prompt_attention` must be 'full', 'prompt' or 'causal'."),
    ],
)
def test_what_a_record_refuses(changes, message):
    with pytest.raises(ValueError) as error:
        Run(**{"task": "glue/rte", **changes})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0},
        {"learning_rate": float("inf")},
        {"prompt_length": 0},
        {"steps": "many"},
        {"dropout": 1.0},
        {"decay_rate": 0},
        {"z_loss": float("nan")},
        {"prompt_attention": "none"},
    ],
)
def test_a_recipe_is_checked_when_it_is_made(changes):
    (field,) = changes
    with pytest.raises(ValueError, match=f"`{field}` must be "):
        Recipe(**changes)


def test_a_misspelt_keyword_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="promt_length"):
        keras_spot.train("glue/rte", tmp_path, promt_length=3)


def test_other_data_under_the_same_name_are_another_run(tmp_path):
    """Of a task of one's own, and before anything slow: no backbone is loaded here."""
    rows = "text,label\n" + "a fine film,good\na dull film,bad\n" * 4
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text(rows)
    task = keras_spot.tasks.Task(
        name="reviews",
        tfds=None,
        files={"train": f"{tmp_path}/train.csv", "validation": f"{tmp_path}/dev.csv"},
        input="review: {text}",
        labels=("bad", "good"),
        metrics=("accuracy",),
    )
    run = tmp_path / "run"
    run.mkdir()
    record = {**Run(task=task, backbone="nowhere").record(), "versions": {"keras_spot": "0.1.0"}}
    (run / "run.json").write_text(json.dumps(record))
    RunFolder(run).check(Run(task=task, backbone="nowhere", steps=9).record(), partly=True)
    changed = dataclasses.replace(task, input="film: {text}", labels=("good", "bad"))
    with pytest.raises(ValueError) as error:
        execute(Run(task=changed, backbone="nowhere"), run)
    assert str(error.value) == (
        "`run_dir` must be new or hold a run with the same tasks.reviews.input, "
        "tasks.reviews.labels. Received: tasks.reviews.input was 'review: {text}', asked "
        "'film: {text}'; tasks.reviews.labels was ['bad', 'good'], asked ['good', 'bad'], "
        f"in {run}"
    )
    (tmp_path / "train.csv").write_text(rows + "a late row,bad\n")
    with pytest.raises(ValueError, match=r"files\.reviews\.train\.sha256 was"):
        execute(Run(task=task, backbone="nowhere"), run)
    moved = tmp_path / "moved.csv"
    moved.write_text(rows)
    elsewhere = dataclasses.replace(task, files={**task.files, "train": str(moved)})
    RunFolder(run).check(Run(task=elsewhere, backbone="nowhere").record(), partly=True)


# === Going on ===


def test_more_steps_extend_a_run_bit_for_bit(go, whole, tmp_path):
    go(tmp_path / "run", steps=4, recipe=dataclasses.replace(RECIPE, steps=4))
    again = go(tmp_path / "run", recipe=dataclasses.replace(RECIPE, steps=8))
    same(again.run_dir, whole.run_dir)
    assert again.history[1]["seconds"] >= again.history[0]["seconds"]


def test_a_run_goes_on_with_less_memory(go, movies, whole, tmp_path):
    go(tmp_path / "run", steps=4)
    run = dataclasses.replace(movies, remat=True)
    (rest,) = execute(run, tmp_path / "run", progress=None).runs.values()
    assert rest.model.remat
    expected = prompts.read(whole.run_dir, 8).values
    np.testing.assert_allclose(rest.model.prompt, expected, rtol=0, atol=1e-6)
    assert prompts.read_run(rest.run_dir)["remat"] is True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_without_validating(go, whole, tmp_path, number, request):
    # A test run in the background ignores some signals.
    request.addfinalizer(functools.partial(signal.signal, number, signal.getsignal(number)))
    signal.signal(number, signal.default_int_handler)
    before = signal.getsignal(number)

    def stop(step, steps, logs):
        if step == 6:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted) as stopped:
        go(tmp_path / "run", stop)
    assert str(stopped.value) == "stopped at step 7, saved at 7; the same command continues"
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    assert RunFolder(tmp_path / "run").newest_step() == 7
    again = go(tmp_path / "run")
    np.testing.assert_array_equal(again.model.prompt, whole.model.prompt)
    lines = [{**line, "seconds": 0} for line in again.history]
    assert lines == [{**line, "seconds": 0} for line in whole.history]


def test_a_signal_after_the_last_step_still_ends_the_process(request):
    request.addfinalizer(functools.partial(signal.signal, signal.SIGINT, signal.getsignal(2)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals, ended = Signals(), []
    with pytest.raises(KeyboardInterrupt), signals.noted():
        os.kill(os.getpid(), signal.SIGINT)
        ended.append(signals.received)
    assert ended == [signal.SIGINT]


def test_several_processes_ask_each_other_now_and_then_whether_to_stop(monkeypatch):
    asked = []
    monkeypatch.setattr(hosts, "processes", lambda: 2)
    monkeypatch.setattr(hosts, "largest", lambda number: asked.append(number) or signal.SIGTERM)
    signals = Signals()
    with signals.noted():
        for step in range(1, AGREED_EVERY):
            signals.agree(step)
        assert (asked, signals.stopping) == ([], None)
        signals.agree(AGREED_EVERY)
        assert (asked, signals.stopping) == ([0], signal.SIGTERM)
        signals.agree()  # before files are written
    assert asked == [0, 0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("versions", 3), ("versions", [[]]), ("best", {"score": 1.0}), ("best", {"step": 4})],
)
def test_a_record_of_other_kinds_of_values_is_named(tmp_path, field, value):
    record = {"task": "t", "versions": {"keras_spot": "0"}}
    RunFolder(tmp_path).open(record)
    (tmp_path / "run.json").write_text(json.dumps({**record, field: value}))
    with pytest.raises(InvalidArgument, match=str(tmp_path)):
        RunFolder(tmp_path).open(record)


def test_a_best_score_that_is_no_number_gives_way_to_the_lines(tmp_path):
    record = {"task": "t", "versions": {"keras_spot": "0"}}
    folder = RunFolder(tmp_path)
    folder.open(record)
    for step in (4, 8):
        folder.write_prompt(step, np.ones((2, 3), "float32"))
        folder.append_metrics({"step": step, "score": float(step)})
    folder.save_state(8, {"prompt": np.ones((2, 3), "float32")})
    text = json.dumps({**record, "best": {"step": 4, "score": math.nan}})
    (tmp_path / "run.json").write_text(text)
    folder.open(record)
    assert folder.best == {"step": 8, "score": 8.0}


def test_a_runs_first_state_has_nothing_of_the_run_before_on_the_same_model(go, tmp_path):
    """Else a run that was killed early would go on from other sums, and round otherwise."""
    states = []

    def look(step, steps, logs):
        if step == 1:
            states.append(RunFolder(tmp_path / "run").read_state())

    go(tmp_path / "run", look)
    assert [(int(state["step"]), state["losses"].any()) for state in states] == [(0, False)]


def test_a_signal_leaves_a_validation_which_is_made_up_for(go, whole, tmp_path, monkeypatch):
    scores = Session.scores

    def killed(self, run):
        os.kill(os.getpid(), signal.SIGTERM)
        return scores(self, run)

    monkeypatch.setattr(Session, "scores", killed)
    with pytest.raises(Interrupted, match="stopped at step 4, saved at 4"):
        go(tmp_path / "run")
    assert prompts.steps(tmp_path / "run") == []
    monkeypatch.setattr(Session, "scores", scores)
    again = go(tmp_path / "run")
    same(again.run_dir, whole.run_dir)


def test_a_callback_stops_a_run_early(go, tmp_path):
    class Enough(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = int(self.model.optimizer.iterations) == 3

    trained = go(tmp_path / "run", callbacks=[Enough()])
    assert [line["step"] for line in trained.history] == [3]
    assert prompts.steps(tmp_path / "run") == [3]


def test_callbacks_of_keras_have_a_checkpoint_for_an_epoch(go, tmp_path):
    seen = []
    tell = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(epoch),
        on_epoch_end=lambda epoch, logs: seen.append((epoch, logs)),
        on_train_end=lambda logs: seen.append("end"),
    )
    # A score must rise by 200, which none can: the first is the best, the second stops the run.
    stop = keras.callbacks.EarlyStopping("val_score", mode="max", patience=1, min_delta=200)
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    trained = go(tmp_path / "run", callbacks=[tell, stop, log], steps=40)
    assert [line["step"] for line in trained.history] == [4, 8]
    assert [one for one in seen if not isinstance(one, tuple)] == [0, 1, "end"]
    ends = [one for one in seen if isinstance(one, tuple)]
    for (epoch, logs), line in zip(ends, trained.history, strict=True):
        assert line["step"] == logs["step"] == 4 * epoch + 4
        assert logs["loss"] == line["loss"]
        assert logs["score"] == logs["val_score"] == line["score"]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def test_progress_is_printed_where_there_is_no_terminal(go, tmp_path, capsys):
    go(tmp_path / "run", "auto", steps=4)
    go(tmp_path / "run", "auto")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "devices": "tpu:8"}))
    files = sorted(tmp_path.rglob("*"))
    go(tmp_path / "run", "auto", steps=4)
    # Nothing was trained: it still says what it ran on.
    assert json.loads((tmp_path / "run" / "run.json").read_text())["devices"] == "tpu:8"
    assert sorted(tmp_path.rglob("*")) == files
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("synthetic/movies: step 4/4, loss ")
    assert ", score " in lines[0]
    assert lines[1] == "synthetic/movies: continuing at step 4 of 8"
    assert lines[2].startswith("synthetic/movies: step 8/8, loss ")
    assert lines[3].endswith(": has made 8 steps before, 4 are asked for: nothing to train")


# === The folder ===


def test_what_could_not_be_read_again_is_not_recorded(go, tmp_path):
    with pytest.raises(
        ValueError, match=r"`prompt_init` must be text in UTF-8, for it is recorded"
    ):
        go(tmp_path / "run", prompt_init=os.fsdecode(b"p\xff.npz"))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def copied(whole, tmp_path):
    shutil.copytree(whole.run_dir, tmp_path / "run")
    return tmp_path / "run"


def test_a_missing_state_is_not_a_new_run(go, copied):
    (copied / "state.npz").unlink()
    (copied / "state.previous.npz").unlink()
    with pytest.raises(ValueError) as error:
        go(copied)
    assert str(error.value) == (
        "`run_dir` must hold a whole state.npz to continue; restart=True (--restart) sets it "
        f"aside. Received: checkpoints up to 8 without one in {copied}"
    )
    assert prompts.steps(copied) == [4, 8]


@pytest.mark.filterwarnings("ignore:.*going on from step:UserWarning")
def test_a_damaged_state_falls_back_on_the_one_before(go, whole, copied):
    content = bytearray((copied / "state.npz").read_bytes())
    content[len(content) // 2] ^= 4
    (copied / "state.npz").write_bytes(content)
    with pytest.warns(UserWarning, match=r"going on from step 4 of .*state\.previous\.npz"):
        assert RunFolder(copied).newest_step() == 4
    again = go(copied)
    np.testing.assert_array_equal(again.model.prompt, whole.model.prompt)


def test_every_flipped_bit_of_a_state_is_noticed(copied):
    (copied / "state.previous.npz").unlink()
    content, rng = (copied / "state.npz").read_bytes(), np.random.default_rng(0)
    whole = RunFolder(copied).read_state()
    for place in rng.choice(len(content), 200, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        (copied / "state.npz").write_bytes(damaged)
        with contextlib.suppress(keras_spot.InvalidArgument):
            state = RunFolder(copied).read_state()
            # It was a bit of what the archive says about its members.
            assert all(np.array_equal(state[key], whole[key]) for key in whole)


def test_a_damaged_line_hides_no_other(go, copied):
    lines = (copied / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (copied / "metrics.jsonl").write_bytes(b"".join([b"\xff{not json\n", *lines, b'{"step": 12']))
    assert [line["step"] for line in RunFolder(copied).metrics()] == [4, 8]
    again = go(copied)
    assert [line["step"] for line in again.history] == [4, 8]
    assert (copied / "metrics.jsonl").read_bytes().startswith(b"\xff{not json\n")


def test_the_prompt_of_the_best_step_is_there(go, copied, tmp_path):
    """Else a run neither goes on nor ends well."""

    def remove(step, steps, logs):
        if step == 8:
            best = RunFolder(tmp_path / "other").best
            prompts.step_path(tmp_path / "other", best["step"]).unlink()

    prompts.step_path(copied, RunFolder(copied).best["step"]).unlink()
    with pytest.raises(ValueError, match=r"must hold the prompt of its best step; restart=True"):
        go(copied)
    with pytest.raises(ValueError, match=r"none of step [48] in .*other"):
        go(tmp_path / "other", remove)


def test_restart_sets_the_old_run_aside(movies, session, copied):
    run = dataclasses.replace(movies, seed=5, steps=1, validation_split="")
    execute(run, copied, session=session, progress=None, restart=True)
    assert prompts.steps(copied) == [1]
    assert prompts.steps(copied.with_name("run.old1")) == [4, 8]


def test_a_folder_has_one_owner(go, copied):
    program = (
        "import sys, time; from keras_spot.training.run_folder import RunFolder\n"
        "with RunFolder(sys.argv[1]).owner.owned():\n    print('owned', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", program, str(copied)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "owned\n"
        with pytest.raises(ValueError) as error:
            go(copied)
        assert str(error.value).startswith(
            "`run_dir` must not be in use by another process. "
            f"Received: {copied}, of process {owner.pid} on "
        )
        with pytest.raises(ValueError, match=r"must not be in use by another process"):
            keras_spot.PromptCheckpoint(copied).folder.owner.acquire()  # as `fit` does
        owner.kill()
    go(copied)  # a dead owner's
    assert not list(copied.glob(".lock*"))
    for lock in (copied / ".lock.0", copied / ".transfer-lock.0"):
        lock.write_text(json.dumps({**identity(), "host": "elsewhere", "pid": 1, "time": 0}))
        with pytest.raises(ValueError, match=r"of process 1 on elsewhere since"):
            go(copied)
        os.utime(lock, (1, 1))  # long ago
        go(copied)
    (copied / ".transfer-lock.0").write_text(json.dumps(identity()))  # our own transfer
    go(copied)


def test_a_kill_while_what_the_state_does_not_cover_is_removed(tmp_path, monkeypatch):
    """The record names the best step that stays before the other's prompt goes."""
    record = {"task": "t", "versions": {"keras_spot": "0"}}
    folder = RunFolder(tmp_path)
    folder.open(record)
    for step, score in ((4, 50.0), (8, 60.0)):
        folder.write_prompt(step, np.full((2, 3), step, "float32"))
        folder.append_metrics({"step": step, "score": score})
        folder.record_best(step, score, float.__gt__)
        if step == 4:
            folder.save_state(step, {"prompt": np.ones((2, 3), "float32")})

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rmdir", killed)
    with pytest.raises(KeyboardInterrupt):
        RunFolder(tmp_path).open(record)
    monkeypatch.undo()
    assert prompts.steps(tmp_path) == [4]
    assert RunFolder(tmp_path).open(record) == 4
    assert folder.best == {"step": 4, "score": 50.0}
    assert [line["step"] for line in folder.metrics()] == [4]


@pytest.mark.parametrize("names", [(owner.LOCK, owner.TRANSFER_LOCK), (owner.TRANSFER_LOCK,) * 2])
def test_a_run_and_a_transfer_do_not_begin_beside_each_other(tmp_path, names):
    """Each looks under the run's lock for the other; the first is told nothing."""
    program = (
        "import sys; from keras_spot.training.run_folder import RunFolder\n"
        "with RunFolder(sys.argv[1]).owner.owned(sys.argv[2]):\n"
        "    print('owned', flush=True); sys.stdin.read()"
    )
    for first, second in (names, names[::-1]):
        words = [sys.executable, "-c", program, str(tmp_path / "run"), first]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(words, **pipes) as other:
            assert other.stdout.readline() == "owned\n"
            begun = RunFolder(tmp_path / "run").owner.owned(second)
            with pytest.raises(ValueError, match=f"of process {other.pid} on"), begun:
                raise AssertionError
            other.stdin.close()
            assert other.wait() == 0
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", '{"host": ["x"], "pid": "1", "time": 1e300}', '{"host": "x", "time": "soon"}'],
)
def test_a_lock_that_a_loss_of_power_cut_off(tmp_path, text):
    """It may be of a host that still works: it holds until it is silent for long enough."""
    lock = tmp_path / ".lock.0"
    lock.write_text(text)
    (tmp_path / ".lock.\u00b2").write_text("no number of a lock")
    folder = RunFolder(tmp_path)
    with pytest.raises(InvalidArgument, match="must not be in use by another process") as error:
        folder.owner.check_free()
    assert "1970" not in str(error.value)
    os.utime(lock, (1, 1))
    with folder.owner.owned():
        assert (tmp_path / ".lock.1").is_file()
    assert [file.name for file in tmp_path.iterdir()] == [".lock.\u00b2"]


def test_a_fit_keeps_its_folder_through_a_long_validation(tmp_path, monkeypatch):
    """And gives it back whatever happens."""
    monkeypatch.setattr(owner, "Claims", functools.partial(owner.Claims, stale_after=0.3))
    model = keras_spot.build(toy.shallow(), "uniform", prompt_length=3)
    x, y, weight = toy.batch(rows=8)
    data = {"x": x, "y": y, "sample_weight": weight, "batch_size": 4, "verbose": 0}

    def validate(model):
        time.sleep(1)
        with pytest.raises(ValueError, match=r"must not be in use by another process"):
            RunFolder(tmp_path).owner.check_free()
        raise RuntimeError("no scores")

    checkpoint = keras_spot.PromptCheckpoint(tmp_path, every=1, validate=validate)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no scores"):
            model.fit(**data, callbacks=[checkpoint])
        assert not list(tmp_path.glob(".lock*"))


def test_a_folder_that_is_taken_over_is_an_error(go, tmp_path):
    """As from a machine that slept too long."""

    def take(step, steps, logs):
        if step == 5:
            (tmp_path / "run" / ".lock.1").write_text(json.dumps({**identity(), "pid": 1}))

    with pytest.raises(FileNotFoundError, match=r"`run_dir` must stay where it is while a run"):
        go(tmp_path / "run", take)
    locks = sorted(lock.name for lock in (tmp_path / "run").glob(".lock*"))
    assert locks == [".lock.0", ".lock.1"]


def test_a_folder_that_is_taken_away_is_an_error(go, tmp_path):
    def remove(step, steps, logs):
        if step == 5:
            shutil.rmtree(tmp_path / "run")

    with pytest.raises(FileNotFoundError, match=r"`run_dir` must stay where it is while a run"):
        go(tmp_path / "run", remove)
    assert not (tmp_path / "run").exists()


# === Numbers that fail ===


def test_a_loss_that_is_no_number_stops_the_run(go, session, tmp_path):
    def poison(step, steps, logs):
        if step == 5:
            session.model.soft_prompt.prompt.assign(np.full((3, 16), np.nan))

    with pytest.raises(Diverged) as error:
        go(tmp_path / "run", poison)
    assert str(error.value) == (
        "`learning_rate` must keep the loss and the prompt finite. Received: loss=nan at step 6 "
        f"(batch 6 of the run) with learning_rate=0.3; the prompt of step 4 "
        f"is kept in {tmp_path / 'run'}"
    )
    assert prompts.steps(tmp_path / "run") == [4]
    kept = prompts.read(tmp_path / "run", 4).values
    np.testing.assert_array_equal(session.model.prompt, kept)


def test_steps_that_are_not_finite_are_undone(go, session, tmp_path):
    """At most as many as are asked for; a continued run knows how many there were."""

    def poison(step, steps, logs):
        if step == 2:
            session.model.soft_prompt.prompt.assign(np.full((3, 16), np.nan))
        if step == 5:  # what a gradient that overflows leaves
            squares = session.model.optimizer.variables[-1]
            assert squares.shape == (3, 16)
            squares.assign(np.full((3, 16), np.inf))
        if step == stop:
            raise KeyboardInterrupt

    def warnings_of(folder, skip, ends=None):
        with warnings.catch_warnings(record=True) as caught, ends or contextlib.nullcontext():
            warnings.simplefilter("always")
            go(folder, poison, skip_nonfinite=skip)
        texts = [str(w.message) for w in caught if w.category is UserWarning]
        return [text.partition(" with learning")[0] + text.partition(":")[2] for text in texts]

    undone = [
        "loss=nan at step 3 the step was undone, 1 of at most 2",
        "a gradient with NaN or infinity at step 6 the step was undone, 2 of at most 2",
    ]
    stop = 9
    assert warnings_of(tmp_path / "once", 2) == undone
    once = RunFolder(tmp_path / "once")
    assert [line["skipped"] for line in once.metrics()] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in once.metrics())
    assert np.isfinite(session.model.prompt).all()
    stop = 4
    assert warnings_of(tmp_path / "twice", 2, pytest.raises(KeyboardInterrupt)) == undone[:1]
    stop = 9
    assert warnings_of(tmp_path / "twice", 2) == undone[1:]
    same(tmp_path / "twice", once.path)
    with pytest.raises(Diverged) as error:
        warnings_of(tmp_path / "thrice", 1)
    assert "a gradient with NaN or infinity at step 6" in str(error.value)


def test_a_prompt_that_explodes_is_warned_of(go, session, tmp_path):
    def grow(step, steps, logs):
        if step == 3:
            session.model.soft_prompt.prompt.assign(np.full((3, 16), 1e9))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        go(tmp_path / "run", grow, steps=4)
    texts = [str(w.message) for w in caught if w.category is UserWarning]
    (text,) = texts
    assert re.match(r"the prompt's largest row has the norm 4e\+09 at step 4; the", text)


@pytest.mark.parametrize(("mode", "best"), [("max", 2), ("min", 1)])
def test_the_best_step_of_what_a_kill_left_is_by_the_monitored_score(tmp_path, mode, best):
    folder = RunFolder(tmp_path)
    folder.open({"versions": {"keras_spot": "0"}})
    for step, perplexity in enumerate([3.0, 5.0], 1):
        folder.write_prompt(step, np.zeros((2, 4), "float32"))
        folder.append_metrics({"step": step, "score": 10.0 - step, "perplexity": perplexity})
    folder.save_state(2, {"prompt": np.zeros((2, 4), "float32")})
    folder.write_prompt(3, np.zeros((2, 4), "float32"))
    folder.record_best(3, 4.0, float.__gt__)
    folder.open(folder.record, monitor="perplexity", mode=mode)
    assert folder.best == {"step": best, "score": [3.0, 5.0][best - 1]}


def test_a_bank_and_a_run_are_told_apart(tmp_path):
    """By that alone: what else differs follows from it."""
    folder = RunFolder(tmp_path)
    record = {"versions": {"keras_spot": "0"}, "seed": 0}
    folder.open({**record, "bank": ["a", "b"]})
    with pytest.raises(ValueError, match=r"with the same bank\. Received: bank was \['a', 'b'\]"):
        folder.check({**record, "task": "mine", "seed": 1}, partly=True)


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open({"task": "t"})
    for step, score in enumerate([float("nan"), 50.0, float("nan"), 60.0, float("nan")], 1):
        best = folder.record_best(step, score, float.__gt__)
        folder.append_metrics({"step": step, "score": score, "best": best})
    assert folder.best == {"step": 4, "score": 60.0}
    strict = {"parse_constant": lambda name: pytest.fail(name)}
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, **strict)["score"] for line in lines] == [None, 50.0, None, 60.0, None]


def test_steps_are_the_optimisers_and_the_record_is_of_what_ran(tmp_path):
    toys = toy.shallow()
    model = keras_spot.build(toys, "uniform", prompt_length=3)
    model.compile(keras.optimizers.AdamW(1e-3), steps_per_execution=4)
    x, y, weight = toy.batch(rows=32)
    data = {"x": x, "y": y, "sample_weight": weight, "batch_size": 4, "verbose": 0}
    model.fit(**data, callbacks=[keras_spot.PromptCheckpoint(tmp_path, every=4)])
    assert prompts.steps(tmp_path) == [4, 8]
    record = prompts.read_run(tmp_path)["optimizer"]
    assert record["class"] == "AdamW"
    assert record["learning_rate"] == pytest.approx(1e-3)
    model.compile(keras.optimizers.AdamW(1e-2), steps_per_execution=4)
    with pytest.raises(ValueError, match=r"with the same optimizer\.learning_rate"):
        model.fit(**data, callbacks=[keras_spot.PromptCheckpoint(tmp_path, every=4)])
    model.compile(keras.optimizers.AdamW(1e-3, name="another"), steps_per_execution=4)
    model.fit(**data, callbacks=[keras_spot.PromptCheckpoint(tmp_path, every=4)])
    assert prompts.steps(tmp_path) == [4, 8, 12, 16]
    model.compile(keras.optimizers.AdamW(1e-3, use_ema=True))
    with pytest.raises(ValueError, match="`use_ema` must come with `ema_overwrite_frequency`"):
        model.fit(**data, callbacks=[keras_spot.PromptCheckpoint(tmp_path / "other")])


# === Reparameterizations ===


@pytest.mark.parametrize("name", ["residual", "low-rank", "vocabulary-mixture"])
def test_a_reparameterized_run_goes_on_and_leaves_plain_prompts(movies, tmp_path, name):
    run = dataclasses.replace(movies, reparameterization=name, seed=3)
    made = Session(run)
    whole = execute(run, tmp_path / "whole", session=made, progress=None)
    folder = tmp_path / "halves"
    execute(dataclasses.replace(run, steps=4), folder, session=made, progress=None)
    execute(run, folder, session=made, progress=None)
    same(folder, tmp_path / "whole")
    record = prompts.read_run(folder)
    assert list(record["reparameterization"]) == [name]
    again = Run.from_record({**record, "backbone_name": "tiny"})
    assert again.reparameterization == record["reparameterization"]
    plain = prompts.read(folder, 8).values
    np.testing.assert_array_equal(plain, whole.model.prompt)
    with np.load(folder / "state.npz") as state:
        assert {"prompt", "factor_0", "factor_1", "slot_0"} <= set(state.files)
        np.testing.assert_array_equal(state["prompt"], plain)
    started = prompts.read(folder, 4).values
    assert (started != plain).mean() > 0.9
    with pytest.raises(
        ValueError, match=r"`run_dir` must be new or hold a run with the same repar"
    ):
        execute(movies, folder, session=made, progress=None)
    transfer = dataclasses.replace(run, prompt_init=folder, steps=4)
    made.start(transfer)
    np.testing.assert_array_equal(made.model.prompt, prompts.read(folder).values)


def test_a_bank_that_shares_a_prompt_leaves_it_for_a_targets_run(movies, tmp_path):
    tasks = ["synthetic/movies", "synthetic/products"]
    run = dataclasses.replace(movies, task=tasks, reparameterization="shared", steps=4)
    bank = execute(run, tmp_path / "bank", progress=None)
    soft_prompt = bank.model.soft_prompt
    shared = prompts.read(tmp_path / "bank").values
    np.testing.assert_array_equal(shared, soft_prompt.shared)
    for name, values in zip(tasks, bank.model.prompt):
        np.testing.assert_array_equal(prompts.read(bank.runs[name].run_dir, 4).values, values)
        assert not np.array_equal(values, shared)
    again = execute(run, tmp_path / "bank", progress=None)
    np.testing.assert_array_equal(again.model.prompt, bank.model.prompt)
    target = dataclasses.replace(
        movies, reparameterization="shared", prompt_init=tmp_path / "bank", task="synthetic/topic"
    )
    made = Session(target)
    np.testing.assert_array_equal(made.model.prompt, shared)


def test_an_unknown_reparameterization_is_refused_before_anything_loads():
    with pytest.raises(ValueError, match=r"'low_rank' \(did you mean 'low-rank'\?\)"):
        Run(task="synthetic/movies", reparameterization="low_rank")
