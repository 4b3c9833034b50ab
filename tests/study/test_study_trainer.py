"""The study's trainer: cells are runs of one session, whatever ran in it before."""

import dataclasses
import hashlib

import numpy as np
import pytest
import toy

from keras_spot import prompts, study
from keras_spot.base.errors import InvalidArgument
from keras_spot.study.cells import Cell
from keras_spot.study.trainer import CellTrainer
from keras_spot.training.execute import TrainedRun, execute
from keras_spot.training.run_folder import RunFolder
from keras_spot.training.session import Session

SOURCE = Cell("source", "synthetic/movies", None, None, 0)
SCRATCH = Cell("scratch", None, "synthetic/topic", None, 1)
FEW = Cell("scratch", None, "synthetic/entailment", 8, 0)


@pytest.fixture(scope="module")
def plan(tmp_path_factory, tokenizer, data_dir):
    folder = tmp_path_factory.mktemp("preset")
    # Without gain rounding errors do not grow: a study has the D of its longest label, `load_task`
    # that of the task's own.
    toy.shallow(tokenizer.vocabulary_size(), gain=0).save_to_preset(folder)
    tokenizer.save_to_preset(folder)
    return study.Study(
        sources=["synthetic/movies"],
        targets=["synthetic/topic", "synthetic/entailment"],
        backbone=folder,
        seeds=[0, 1],
        examples=[8, None],
        source_steps=8,
        target_steps=6,
        embedding_steps=3,
        evaluations=2,
        recipe={"prompt_length": 4, "batch_size": 4, "learning_rate": 0.1},
        validation_limit=20,
        input_length=24,
        data_dir=data_dir,
    )


@pytest.fixture(scope="module")
def trainer(plan):
    return CellTrainer(plan)


@pytest.fixture(scope="module")
def outcomes(trainer, tmp_path_factory):
    """The outcomes of some cells, run in one session one after the other."""
    place = tmp_path_factory.mktemp("partial")
    return {cell: trainer(cell, None, place / cell.id) for cell in (SOURCE, FEW, SCRATCH)}


def test_a_session_that_was_used_gives_what_a_new_one_gives(trainer, outcomes, tmp_path):
    """And rows kept in memory give what rows streamed from disk give."""
    run = trainer.run(SCRATCH, None)
    alone = execute(run, tmp_path / "alone", every=[3, 6])
    (trained,) = alone.runs.values()
    outcome = outcomes[SCRATCH]
    np.testing.assert_allclose(outcome.prompt, alone.model.prompt, atol=1e-4)
    np.testing.assert_allclose(
        outcome.embedding, prompts.read(trained.run_dir, 3).values, atol=1e-4
    )
    assert outcome.curve == [(line["step"], line["score"]) for line in trained.history]
    assert outcome.scores["score"] == trained.history[-1]["score"]
    assert outcome.step == 6
    assert outcome.loss == pytest.approx(np.mean([line["loss"] for line in trained.history]))


def test_a_transfer_starts_from_the_sources_best_prompt(trainer, outcomes, tmp_path):
    cell = Cell("transfer", "synthetic/movies", "synthetic/topic", None, 1)
    source = outcomes[SOURCE]
    moved = trainer(cell, source.prompt, tmp_path / "partial")
    record = prompts.read_run(tmp_path / "partial")
    digest = hashlib.sha256(source.prompt.tobytes()).hexdigest()[:16]
    assert record["prompt_init"] == f"array {digest}"
    assert not np.array_equal(moved.prompt, outcomes[SCRATCH].prompt)
    best = max(score for _, score in source.curve)
    assert source.scores["score"] == best
    assert (source.step, best) in source.curve


def test_few_examples_are_each_seeds_own(trainer, outcomes):
    kept = trainer.session.kept(trainer.run(FEW, None))
    drawn = {seed: kept.subset(8, seed) for seed in (0, 1, 2)}
    keys = {s: {ids.tobytes() for row in rows for ids, *_ in row} for s, rows in drawn.items()}
    assert [len(rows) for rows in drawn.values()] == [8, 8, 8]
    assert keys[0] != keys[1] != keys[2]
    assert kept.subset(8, 0) == drawn[0]
    used = {ids.tobytes() for row in drawn[0] for ids, *_ in row}
    seen = set()
    for x, _, _ in kept.batches(8, 0).take(6):
        for ids, mask in zip(x["encoder_token_ids"].numpy(), x["encoder_padding_mask"].numpy()):
            seen.add(ids[mask.astype(bool)].tobytes())
    assert seen == used
    assert outcomes[FEW].examples == 8


def test_an_interrupted_cell_goes_on_where_it_was_scored(trainer, outcomes, tmp_path, monkeypatch):
    score, scored = Session.scores, []

    def dying(self, run):
        if len(scored) == 1:
            raise KeyboardInterrupt
        scored.append(score(self, run))
        return scored[-1]

    monkeypatch.setattr(Session, "scores", dying)
    with pytest.raises(KeyboardInterrupt):
        trainer(SCRATCH, None, tmp_path / "partial")
    assert (tmp_path / "partial" / "state.npz").is_file()
    monkeypatch.setattr(Session, "scores", score)
    trainer(FEW, None, tmp_path / "other")
    again, whole = trainer(SCRATCH, None, tmp_path / "partial"), outcomes[SCRATCH]
    np.testing.assert_array_equal(again.prompt, whole.prompt)
    np.testing.assert_array_equal(again.embedding, whole.embedding)
    assert (again.curve, again.scores, again.step) == (whole.curve, whole.scores, whole.step)
    assert again.loss == whole.loss


def test_dropout_depends_on_the_cell_alone(plan, outcomes, tmp_path):
    with_dropout = dataclasses.replace(
        plan, recipe={**plan.recipe, "dropout": 0.5}, target_steps=3, evaluations=1
    )
    other = CellTrainer(with_dropout)
    once = other(SCRATCH, None, tmp_path / "once").prompt
    other(FEW, None, tmp_path / "other")
    again = other(SCRATCH, None, tmp_path / "again").prompt
    np.testing.assert_array_equal(again, once)
    assert not np.array_equal(once, outcomes[SCRATCH].embedding)


def test_a_study_from_end_to_end_in_two_processes(plan, outcomes, tmp_path):
    small = dataclasses.replace(plan, targets=["synthetic/topic"], examples=[None], seeds=[1])
    rows = study.run(small, tmp_path, workers=2)
    assert [row["kind"] for row in rows] == ["source", "scratch", "transfer"]
    place = study.StudyFolder(tmp_path)
    np.testing.assert_allclose(
        prompts.read(place.prompt(SCRATCH)).values,
        outcomes[SCRATCH].prompt,
        rtol=1e-4,
        atol=1e-4,
    )
    assert rows[1]["backbone"] == outcomes[SCRATCH].backbone
    assert not list((tmp_path / "partial").iterdir())


@pytest.mark.slow
def test_a_study_on_ray(plan, outcomes, tmp_path):
    ray = pytest.importorskip("ray", reason="needs the [ray] extra")
    small = dataclasses.replace(plan, targets=["synthetic/topic"], examples=[None], seeds=[1])
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        rows = study.run(small, tmp_path, workers="ray")
    finally:
        ray.shutdown()
    assert [row["kind"] for row in rows] == ["source", "scratch", "transfer"]
    assert rows[1]["score"] == outcomes[SCRATCH].scores["score"]


def test_methods_are_runs_of_their_own_shapes_and_rates(plan, tmp_path):
    methods = {
        "plain": {"learning_rates": [0.1, 0.3]},
        "low": {
            "reparameterization": {"low-rank": {"rank": 2}},
            "prompt_length": 3,
            "learning_rates": [0.1, 0.3],
        },
    }
    several = dataclasses.replace(plan, methods=methods)
    trainer = CellTrainer(several)
    outcomes = {}
    for method, rate in (("plain", 0.1), ("low", 0.3), ("plain", 0.3)):
        cell = Cell("scratch", None, "synthetic/entailment", 8, 0, method, rate)
        folder = tmp_path / f"{method}{rate}"
        outcomes[method, rate] = trainer(cell, None, folder)
        record = prompts.read_run(folder)
        assert record["recipe"]["learning_rate"] == rate
        assert record["optimizer"]["learning_rate"] == pytest.approx(rate)
        assert record["prompt_length"] == len(outcomes[method, rate].prompt)
    assert record["reparameterization"] is None
    assert [len(outcome.prompt) for outcome in outcomes.values()] == [4, 3, 4]
    # A session that had another rate gives what a new one gives.
    new = CellTrainer(several)(cell, None, tmp_path / "new")
    np.testing.assert_array_equal(outcomes["plain", 0.3].prompt, new.prompt)
    assert not np.array_equal(outcomes["plain", 0.1].prompt, new.prompt)
    start = outcomes["low", 0.3].prompt
    moved = Cell("transfer", "synthetic/movies", "synthetic/topic", None, 1, "low", 0.1)
    trainer.session.start(trainer.run(moved, new.prompt))
    np.testing.assert_array_equal(trainer.session.model.prompt, new.prompt)
    trainer(moved, start, tmp_path / "moved")
    assert list(prompts.read_run(tmp_path / "moved")["reparameterization"]) == ["low-rank"]


def test_a_mixture_of_prompts_learns_their_weights(plan, outcomes, tmp_path):
    methods = {"plain": {}, "learned": {"transfer": "learned"}}
    sources = ["synthetic/movies", "synthetic/products"]
    mixing = dataclasses.replace(plan, sources=sources, methods=methods)
    cell = next(cell for cell in mixing.cells() if cell.method == "learned")
    assert [one.source for one in mixing.starts(cell)] == sources
    start = np.stack([outcomes[SOURCE].prompt, outcomes[SCRATCH].prompt])
    outcome = CellTrainer(mixing)(cell, start, tmp_path / "mixed")
    assert sum(outcome.weights) == pytest.approx(1, abs=1e-5)
    assert abs(outcome.weights[0] - 0.5) > 1e-4
    assert np.abs(outcome.prompt - np.tensordot(outcome.weights, start, 1)).max() > 1e-3  # jointly


def test_a_prompt_that_the_sources_share_learns_from_theirs(plan, outcomes, tmp_path):
    sources = ["synthetic/movies", "synthetic/products"]
    methods = {"plain": {}, "shared": {"transfer": "shared"}}
    sharing = dataclasses.replace(plan, sources=sources, methods=methods, examples=[None])
    cells = [cell for cell in sharing.cells() if cell.method == "shared"]
    first, target = cells[0], cells[-1]
    assert first.is_shared
    assert [one.source for one in sharing.starts(first)] == sources
    assert sharing.starts(target) == [first]
    teachers = np.stack([outcomes[SOURCE].prompt, outcomes[SCRATCH].prompt])
    trainer = CellTrainer(sharing)
    outcome = trainer(first, teachers, tmp_path / "bank")
    record = prompts.read_run(tmp_path / "bank")
    assert record["bank"] == sources
    assert all("teacher" in one for one in record["prompts"].values())
    assert outcome.prompt.shape == (4, outcome.prompt.shape[1])
    assert [step for step, _ in outcome.curve] == [4, 8]
    bank = RunFolder(tmp_path / "bank")
    own = [prompts.read(bank.of_prompt(name).path, 8).values for name in sources]
    assert not np.array_equal(*own)  # each has factors of its own
    np.testing.assert_array_equal(prompts.read(bank.path, outcome.step).values, outcome.prompt)
    histories = [
        [line for line in bank.of_prompt(name).metrics() if "score" in line] for name in sources
    ]
    means = [np.mean([line["score"] for line in lines]) for lines in zip(*histories)]
    assert [score for _, score in outcome.curve] == pytest.approx(means)
    begun = trainer(target, outcome.prompt, tmp_path / "target")
    trainer.session.start(trainer.run(target, outcome.prompt))
    np.testing.assert_array_equal(trainer.session.model.prompt, outcome.prompt)
    assert list(prompts.read_run(tmp_path / "target")["reparameterization"]) == ["shared"]
    assert np.abs(begun.prompt - outcome.prompt).max() > 1e-3


def test_a_score_that_is_no_number_is_never_the_best_and_never_a_row(trainer, outcomes, tmp_path):
    run = trainer.run(SOURCE, None)
    folder = tmp_path / "run"
    for step in (3, 4, 8):
        folder.mkdir(exist_ok=True)
        prompts.write(prompts.step_path(folder, step), outcomes[SOURCE].prompt)
    history = [
        {"step": 4, "loss": 1.0, "score": 50.0},
        {"step": 8, "loss": 1.0, "score": None},
    ]
    trained = TrainedRun(trainer.session.model, folder, None, history)
    outcome = trainer._outcome(SOURCE, run, trained)
    assert (outcome.step, outcome.curve) == (4, [(4, 50.0)])
    with pytest.raises(InvalidArgument, match=r"must be a number .* step 8: NaN"):
        trainer._outcome(SOURCE, run, dataclasses.replace(trained, history=history[1:]))
