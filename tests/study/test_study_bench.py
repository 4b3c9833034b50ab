"""The study's trainer: what one reused model gives is what a fresh one gives."""

import dataclasses

import numpy as np
import pytest
import toy

import keras_spot
from keras_spot import study
from keras_spot.study.bench import Bench
from keras_spot.study.cells import Cell

SOURCE = Cell("source", "synthetic/movies", None, None, 0)
SCRATCH = Cell("scratch", None, "synthetic/topic", None, 1)
FEW = Cell("scratch", None, "synthetic/entailment", 8, 0)


@pytest.fixture(scope="module")
def plan(tmp_path_factory, tokenizer, data_dir):
    folder = tmp_path_factory.mktemp("preset")
    # Without gain rounding errors do not grow: a study has the D of its longest label, `load_task`
    # that of the task's own.
    toy.backbone(tokenizer.vocabulary_size(), gain=0).save_to_preset(folder)
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
def bench(plan):
    return Bench(plan)


@pytest.fixture(scope="module")
def found(bench, tmp_path_factory):
    """The outcomes of some cells, run on one model one after the other."""
    partial = tmp_path_factory.mktemp("partial") / "state.npz"
    outcomes = {}
    for cell in (SOURCE, FEW, SCRATCH):
        outcomes[cell] = bench(cell, None, partial)
        partial.unlink(missing_ok=True)
    return outcomes


def fresh(plan, task, split, seed, steps, start=None):
    """The prompt of `build` and `fit` alone."""
    model = keras_spot.build(
        plan.backbone,
        start,
        recipe=plan.full_recipe,
        input_length=24,
        target_length=8,
        seed=seed,
    )
    data = keras_spot.load_task(
        task,
        split,
        model.preprocessor.tokenizer,
        4,
        data_dir=plan.data_dir,
        seed=seed,
        repeat=True,
        input_length=24,
        target_length=8,
    )
    model.fit(data, steps_per_epoch=steps, verbose=0)
    return model


def test_a_reused_model_gives_the_prompts_of_a_fresh_one(plan, found):
    model = fresh(plan, "synthetic/topic", "train", 1, 6)
    np.testing.assert_allclose(found[SCRATCH].prompt, model.prompt, atol=1e-4)
    scores = keras_spot.evaluate(
        model, "synthetic/topic", method="rank", limit=20, data_dir=plan.data_dir
    ).scores
    assert found[SCRATCH].scores == scores
    assert found[SCRATCH].curve[-1] == (6, scores["score"])
    assert found[SCRATCH].step == 6
    early = fresh(plan, "synthetic/topic", "train", 1, 3)
    np.testing.assert_allclose(found[SCRATCH].embedding, early.prompt, atol=1e-4)


def test_a_transfer_starts_from_the_sources_best_prompt(plan, bench, found, tmp_path):
    cell = Cell("transfer", "synthetic/movies", "synthetic/topic", None, 1)
    moved = bench(cell, found[SOURCE].prompt, tmp_path / "partial.npz")
    model = fresh(plan, "synthetic/topic", "train", 1, 6, found[SOURCE].prompt)
    np.testing.assert_allclose(moved.prompt, model.prompt, atol=1e-4)
    best = max(score for _, score in found[SOURCE].curve)
    assert found[SOURCE].scores["score"] == best
    assert (found[SOURCE].step, best) in found[SOURCE].curve


def test_few_examples_are_each_seeds_own(bench, found):
    kept = bench.task(False, "synthetic/entailment")
    drawn = {seed: kept.subset(8, seed) for seed in (0, 1, 2)}
    keys = {s: {ids.tobytes() for row in rows for ids, _ in row} for s, rows in drawn.items()}
    assert [len(rows) for rows in drawn.values()] == [8, 8, 8]
    assert keys[0] != keys[1] != keys[2]
    assert kept.subset(8, 0) == drawn[0]
    used = {ids.tobytes() for row in drawn[0] for ids, _ in row}
    seen = set()
    for x, _, _ in kept.batches(8, 0).take(6):
        for ids, mask in zip(x["encoder_token_ids"].numpy(), x["encoder_padding_mask"].numpy()):
            seen.add(ids[mask.astype(bool)].tobytes())
    assert seen == used
    assert found[FEW].examples == 8


def test_an_interrupted_run_goes_on_where_it_was_scored(bench, found, tmp_path, monkeypatch):
    partial = tmp_path / "partial.npz"
    kept = type(bench.task(False, "synthetic/topic"))
    score, scored = kept.score, []

    def dying(self, *args):
        if len(scored) == 1:
            raise KeyboardInterrupt
        scored.append(score(self, *args))
        return scored[-1]

    monkeypatch.setattr(kept, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        bench(SCRATCH, None, partial)
    assert partial.is_file()
    monkeypatch.setattr(kept, "score", score)
    bench(FEW, None, tmp_path / "other.npz")
    again = bench(SCRATCH, None, partial)
    whole = found[SCRATCH]
    np.testing.assert_array_equal(again.prompt, whole.prompt)
    np.testing.assert_array_equal(again.embedding, whole.embedding)
    assert (again.curve, again.scores, again.step) == (whole.curve, whole.scores, whole.step)
    assert again.loss == pytest.approx(whole.loss, rel=1e-5)


def test_dropout_depends_on_the_cell_alone(plan, bench, tmp_path, monkeypatch):
    with_dropout = dataclasses.replace(
        plan, recipe={**plan.recipe, "dropout": 0.5}, target_steps=3, evaluations=1
    )
    other = Bench(with_dropout)
    once = other(SCRATCH, None, tmp_path / "none.npz").prompt
    other(FEW, None, tmp_path / "none.npz")
    again = other(SCRATCH, None, tmp_path / "none.npz").prompt
    np.testing.assert_array_equal(again, once)
    assert not np.array_equal(once, bench(SCRATCH, None, tmp_path / "none.npz").embedding)


def test_a_study_from_end_to_end_in_two_processes(plan, found, tmp_path):
    small = dataclasses.replace(plan, targets=["synthetic/topic"], examples=[None], seeds=[1])
    rows = study.run(small, tmp_path, workers=2)
    assert [row["kind"] for row in rows] == ["source", "scratch", "transfer"]
    place = study.StudyFolder(tmp_path)
    np.testing.assert_allclose(
        keras_spot.prompts.read(place.prompt(SCRATCH)).values,
        found[SCRATCH].prompt,
        rtol=1e-4,
        atol=1e-4,
    )
    assert rows[1]["backbone"] == found[SCRATCH].backbone
    assert not list((tmp_path / "partial").iterdir())


@pytest.mark.slow
def test_a_study_on_ray(plan, found, tmp_path):
    ray = pytest.importorskip("ray", reason="needs the [ray] extra")
    small = dataclasses.replace(plan, targets=["synthetic/topic"], examples=[None], seeds=[1])
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        rows = study.run(small, tmp_path, workers="ray")
    finally:
        ray.shutdown()
    assert [row["kind"] for row in rows] == ["source", "scratch", "transfer"]
    assert rows[1]["score"] == found[SCRATCH].scores["score"]
