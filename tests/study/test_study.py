"""The study's engine with a trainer that needs no model, and its description."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from keras_spot import prompts, study
from keras_spot.base.claims import Claims, identity
from keras_spot.study.cells import Cell
from keras_spot.study.engine import Outcome, work
from keras_spot.transfer.library import PromptLibrary

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = ["mr", "snli", "glue/rte"]
TARGETS = ["glue/sst2", "glue/rte"]


def describe(**options):
    given = {"sources": SOURCES, "targets": TARGETS, "seeds": [0, 1], "source_steps": 8}
    return study.Study(**{**given, "target_steps": 4, **options})


class FakeTrainer:
    """Prompts and scores are functions of the cell and of the prompt it starts from."""

    def __init__(self, plan, seconds=0.0):
        self.plan, self.seconds, self.ran = plan, seconds, []

    def __call__(self, cell, start, partial):
        self.ran.append(cell.id)
        time.sleep(self.seconds)
        rng = np.random.default_rng(list(cell.id.encode()))
        prompt = rng.normal(size=(3, 4)).astype("float32")
        if start is not None:
            prompt += start
        score = 50 + float(np.tanh(prompt.mean())) * 40
        steps = self.plan.steps(cell)
        return Outcome(
            curve=[(steps // 2, score - 1), (steps, score)],
            scores={"accuracy": score, "score": score},
            step=steps,
            prompt=prompt,
            embedding=prompt / 2,
            loss=1.0,
            examples=10,
            backbone="0123456789abcdef",
            majority=40.0,
        )


def run(folder, plan=None, **options):
    return study.run(plan or describe(), folder, make_trainer=FakeTrainer, **options)


def plain(rows):
    """Rows without what differs between two runs of the same study."""
    free = {"seconds", "finished", "host"}
    return [{k: v for k, v in row.items() if k not in free} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


# === Grid and table ===


def test_every_cell_has_one_row(whole):
    folder, rows = whole
    places = [(r["kind"], r["source"], r["target"], r["seed"]) for r in rows]
    sources = [("source", source, None, 0) for source in SOURCES]
    scratch = [("scratch", None, t, s) for s in (0, 1) for t in TARGETS]
    pairs = [("transfer", a, b, s) for s in (0, 1) for b in TARGETS for a in SOURCES if a != b]
    assert places == sources + scratch + pairs
    lines = (folder / "table.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    header = (folder / "table.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.startswith("id,kind,source,target,examples,seed,score,step,last,best,")
    assert len({row["id"] for row in rows}) == len(rows)


def test_what_a_study_leaves_behind(whole):
    folder, _ = whole
    place = study.StudyFolder(folder)
    library = PromptLibrary(place.library)
    assert list(library) == sorted(SOURCES)
    source = Cell("source", "mr", None, None, 0)
    best = prompts.read(place.prompt(source))
    np.testing.assert_array_equal(library.prompt("mr").values, best.values)
    np.testing.assert_array_equal(library.embedding("mr").values, best.values / 2)
    assert best.provenance["backbone"] == "0123456789abcdef"
    early = prompts.read(place.embedding(Cell("scratch", None, "glue/rte", None, 1)))
    assert early.provenance["step"] == 4
    moved = prompts.read(place.prompt(Cell("transfer", "mr", "glue/rte", None, 1)))
    assert moved.provenance["source"] == "mr"
    assert not list((folder / "claims").iterdir())
    actual = study.status(folder)
    assert actual.complete
    assert actual.total == {"source": 3, "scratch": 4, "transfer": 10}


def test_nothing_finished_runs_again(whole):
    folder, rows = whole
    trainers = []

    def make(plan):
        trainers.append(FakeTrainer(plan))
        return trainers[-1]

    place, cell = study.StudyFolder(folder), describe().cells()[0]
    assert place.claims.take(cell.id)  # a kill between the row and what comes after it
    (place.partial(cell) / "numpy_checkpoints").mkdir(parents=True)
    assert study.run(describe(), folder, make_trainer=make) == rows
    assert trainers == []
    assert not list((folder / "claims").iterdir())
    assert not list((folder / "partial").iterdir())
    grown = describe(seeds=[0, 1, 2], targets=[*TARGETS, "glue/mrpc"])
    more = study.run(grown, folder, make_trainer=make)
    assert len(trainers[0].ran) == len(more) - len(rows) == 2 + 3 + 5 + 9
    assert [row for row in more if row in rows] == rows


def test_order_and_company_change_nothing(whole, tmp_path):
    """Three workers in one folder, each cell run once, give the table of one worker."""
    plan = describe()
    place = study.StudyFolder(tmp_path)
    place.open(plan)
    trainers = [FakeTrainer(plan, 0.01) for _ in range(3)]
    threads = [
        threading.Thread(
            target=work,
            args=(study.StudyFolder(tmp_path), plan, lambda _, t=trainer: t),
            kwargs={"poll": 0.01},
        )
        for trainer in trainers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ran = [cell for trainer in trainers for cell in trainer.ran]
    assert sorted(ran) == sorted(cell.id for cell in plan.cells())
    assert plain(place.rows()) == plain(whole[1])


# === Kills ===

PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from test_study import FakeTrainer, describe
from keras_spot import study
class Noted(FakeTrainer):
    def __call__(self, cell, start, partial):
        print(cell.id, flush=True)
        return super().__call__(cell, start, partial)
study.run(describe(), sys.argv[1], make_trainer=lambda plan: Noted(plan, float(sys.argv[2])))
"""


def program(folder, seconds):
    code = PROGRAM.format(tests=str(ROOT / "tests" / "study"))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_killed_at_any_moment(whole, tmp_path):
    """Killed within cells and between them, again and again; then finished."""
    for kill_after in (1, 3, 4):
        with program(tmp_path, 0.1) as process:
            for _ in range(kill_after):
                process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
    finished = {file.stem for file in (tmp_path / "cells").glob("[!.]*.json")}
    assert 0 < len(finished) < 17
    last = program(tmp_path, 0)
    rest = last.communicate(timeout=60)[0].split()
    assert last.returncode == 0
    assert not finished & set(rest)
    assert finished | set(rest) == {cell.id for cell in describe().cells()}
    assert plain(study.StudyFolder(tmp_path).rows()) == plain(whole[1])
    assert PromptLibrary(tmp_path / "library").verify() == []


def test_two_processes_share_a_folder(whole, tmp_path):
    both = [program(tmp_path, 0.05), program(tmp_path, 0.05)]
    ran = [process.communicate(timeout=60)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(ran[0] + ran[1]) == sorted(cell.id for cell in describe().cells())
    assert min(map(len, ran)) > 0
    assert plain(study.StudyFolder(tmp_path).rows()) == plain(whole[1])


def test_a_row_is_whole_or_absent(tmp_path, monkeypatch):
    place = study.StudyFolder(tmp_path)
    plan = describe()
    place.open(plan)
    cell = plan.cells()[0]

    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="No space"):
        place.finish(cell, {"id": cell.id})
    assert not place.is_done(cell)
    assert place.rows() == []
    assert list((tmp_path / "cells").iterdir()) == []


def test_many_writers_of_rows(tmp_path):
    """Rows appear whole however many write, and a reader meets whole ones only."""
    plan = describe(seeds=list(range(20)))
    place = study.StudyFolder(tmp_path)
    place.open(plan)
    cells, seen = plan.cells(), []

    def write(mine):
        for cell in mine:
            place.finish(cell, {**cell.columns(), "score": 1.0, "padding": "x" * 20_000})

    threads = [threading.Thread(target=write, args=(cells[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.append(len(place.rows()))
    assert len(place.rows()) == len(cells)
    assert seen == sorted(seen)


# === Claims ===


def test_one_of_many_takes_a_claim(tmp_path):
    taken = []
    start = threading.Barrier(8)

    def take():
        claims = Claims(tmp_path)
        start.wait()
        for name in range(30):
            if claims.take(str(name)):
                taken.append(name)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(30))


def hold(folder, name, **owner):
    (folder / name).write_text(json.dumps({"host": "elsewhere", "pid": 1, **owner}))


def test_a_silent_claim_is_taken_over_by_one(tmp_path):
    hold(tmp_path, "a.0")
    watchers = [Claims(tmp_path, stale_after=0.2) for _ in range(3)]
    assert [w.take("a") for w in watchers] == [None] * 3
    assert watchers[0].holder("a")["host"] == "elsewhere"
    time.sleep(0.15)
    os.utime(tmp_path / "a.0")  # a sign of life
    time.sleep(0.15)
    assert [w.take("a") for w in watchers] == [None] * 3
    time.sleep(0.25)
    assert [w.take("a") for w in watchers] == [tmp_path / "a.1", None, None]


def test_a_dead_process_of_this_host_loses_its_claim_at_once(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    claims = Claims(tmp_path)
    hold(tmp_path, "a.4", **{**identity(), "pid": dead.pid})
    assert claims.take("a") == tmp_path / "a.5"
    assert claims.take("a") is None
    hold(tmp_path, "b.0", **{**identity(), "pid": dead.pid, "host": "elsewhere"})
    assert claims.take("b") is None


def test_a_kept_claim_stays_and_a_raised_error_frees_it(tmp_path):
    mine, other = Claims(tmp_path, 0.3), Claims(tmp_path, 0.3)
    path = mine.take("a")
    with mine.kept(path):
        for _ in range(5):
            assert other.take("a") is None
            time.sleep(0.1)
    path = mine.take("b")
    with pytest.raises(KeyboardInterrupt), mine.kept(path):
        raise KeyboardInterrupt
    assert other.take("b") == tmp_path / "b.1"
    other.drop("b")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.0"]


def test_half_a_claim_is_somebodys(tmp_path):
    (tmp_path / "a.0").write_text("")
    claims = Claims(tmp_path, 0.1)
    assert claims.take("a") is None
    time.sleep(0.15)
    assert claims.take("a") == tmp_path / "a.1"


# === Failures ===


def test_a_failed_cell_stops_only_what_needs_it(tmp_path):
    class Failing(FakeTrainer):
        def __call__(self, cell, start, partial):
            if cell.id in ("source--mr--all--0", "scratch--glue.rte--all--1"):
                raise ValueError("`row` must have a label. Received: row 3")
            return super().__call__(cell, start, partial)

    with pytest.raises(RuntimeError) as error:
        study.run(describe(), tmp_path, make_trainer=Failing)
    assert str(error.value) == (
        "`study` has 6 runs that did not finish; the same call tries them again. "
        "ValueError: `row` must have a label. Received: row 3"
    )
    actual = study.status(tmp_path)
    assert actual.done == {"source": 2, "scratch": 3, "transfer": 6}
    assert {failure["id"] for failure in actual.failures} == {
        "source--mr--all--0",
        "scratch--glue.rte--all--1",
    }
    assert len(run(tmp_path)) == 17
    assert study.status(tmp_path).failures == []


# === Description ===


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sources": ["glue/sst3"]},
            "`task` must be a known name. Received: task='glue/sst3' "
            "(did you mean 'glue/sst2' or 'glue/stsb'?)",
        ),
        ({"sources": []}, "`sources` must be a list of at least one task. Received: sources=[]"),
        ({"targets": ["mr", "mr"]}, "`targets` must name every task once. Received: mr twice"),
        (
            {"sources": [{"task": "mr", "spilt": "test"}]},
            "`sources` must be a known name. Received: sources='spilt' (did you mean 'split'?)",
        ),
        (
            {"sources": [{"split": "test"}]},
            "`sources` must give each task's name as `task`. Received: {'split': 'test'}",
        ),
        (
            {"seeds": [0, 0]},
            "`seeds` must be a list of different whole numbers. Received: seeds=[0, 0]",
        ),
        (
            {"examples": [0]},
            "`examples` must be a positive integer. Received: examples=0",
        ),
        (
            {"embedding_steps": 5},
            "`embedding_steps` must be at most the steps of sources and targets (4). "
            "Received: embedding_steps=5",
        ),
        (
            {"evaluations": 9},
            "`evaluations` must be at most source_steps (8). Received: evaluations=9",
        ),
        (
            {"recipe": {"learning_rate": "x"}},
            "`learning_rate` must be a finite number above 0. Received: learning_rate='x'",
        ),
        (
            {"recipe": {"learningrate": 1}},
            "`recipe` must be a known name. Received: recipe='learningrate' "
            "(did you mean 'learning_rate'?)",
        ),
        (
            {"score": "first"},
            "`score` must be a known name. Received: score='first' (known: best, last)",
        ),
        (
            {"method": "rang"},
            "`method` must be a known name. Received: method='rang' (did you mean 'rank'?)",
        ),
        ({"remat": "yes"}, "`remat` must be True or False. Received: remat='yes'"),
    ],
)
def test_bad_descriptions(options, message):
    with pytest.raises(ValueError) as error:
        describe(**options)
    assert str(error.value) == message


def test_a_description_survives_its_file(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "name: own\ninput: 'own: {text}'\nlabels: ['a', 'b']\nmetrics: [accuracy]\n"
        "files: {train: t.csv, validation: v.csv}\n"
    )
    (tmp_path / "study.yaml").write_text(
        "name: mine\nsources: [mr, {task: snli, split: test, validation: 'validation[:9]'}]\n"
        "targets: [{task: own.yaml}]\nsource_steps: 8\ntarget_steps: 6\nexamples: [16, null]\n"
        "recipe: {learning_rate: 0.1}\ndata_dir: data\n"
    )
    actual = study.load(tmp_path / "study.yaml")
    assert actual.sources[1] == study.StudyTask("snli", "test", "validation[:9]")
    assert actual.targets[0].task.files["train"] == str(tmp_path / "t.csv")
    assert actual.data_dir == str(tmp_path / "data")
    assert actual.full_recipe.learning_rate == 0.1
    assert actual.embedding_steps == 6
    assert study.Study.from_record(json.loads(json.dumps(actual.record()))) == actual


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_steps": 5, "embedding_steps": 4},
            "`folder` must hold a study with the same target_steps (5). Received: target_steps=4",
        ),
        (
            {"sources": [{"task": "mr", "split": "train[:9]"}]},
            "`folder` must hold a study with the same source mr. Received: {'task': 'mr', "
            "'split': 'train', 'validation': None, 'method': None}",
        ),
    ],
)
def test_another_study_in_the_folder(whole, options, message):
    folder, _ = whole
    before = sorted(p.name for p in folder.rglob("*"))
    with pytest.raises(ValueError) as error:
        run(folder, describe(**options))
    assert str(error.value) == message
    assert sorted(p.name for p in folder.rglob("*")) == before


def test_no_study_in_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="`folder` must be the folder of a study"):
        study.status(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_checked_before_anything_trains(data_dir, tmp_path):
    options = {"targets": ["synthetic/topic"], "data_dir": data_dir}
    plan = describe(sources=["mr"], **options)
    with pytest.raises(FileNotFoundError, match=r"`task` mr needs the data set mr:1.0.0"):
        study.run(plan, tmp_path / "a")
    source = {"task": "synthetic/movies", "validation": "dev"}
    with pytest.raises(ValueError, match="`split` must be a known name"):
        study.run(describe(sources=[source], **options), tmp_path / "a")
    plan = describe(sources=["synthetic/movies"], examples=[10**6], **options)
    with pytest.raises(ValueError, match=r"must be at most the [0-9]+ rows of synthetic/topic"):
        study.run(plan, tmp_path / "a")
    plan = describe(sources=["synthetic/movies"], backbone="tiney", **options)
    with pytest.raises(ValueError, match="did you mean 'tiny'"):
        study.run(plan, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_damaged_row_does_not_stop_the_others(tmp_path):
    plan = describe(seeds=[0, 1])
    place = study.StudyFolder(tmp_path)
    place.open(plan)
    first, *others = plan.cells()
    for cell in (first, *others):
        place.finish(cell, {**cell.columns(), "score": 1.0})
    row = tmp_path / "cells" / f"{first.id}.json"
    for text in ("{", "[]", "{}", '{"id": 3}', row.read_text().replace("1.0", '"high"')):
        row.write_text(text)
        with pytest.warns(UserWarning, match=f"^a record is left out: .*{row}") as warned:
            assert [actual["id"] for actual in place.rows()] == [cell.id for cell in others]
        assert len(warned) == 1
