"""A study of several methods: tuned alike on the sources, compared by pairs."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from keras_spot import InvalidArgument, prompts, study
from keras_spot.study import comparison
from keras_spot.study.cells import Cell
from keras_spot.study.engine import Outcome
from keras_spot.study.methods import Method, best_rate
from keras_spot.study.report import method_pictures, write_report
from keras_spot.study.report import methods as report
from keras_spot.study.results import gather

METHODS = {
    "plain": {"learning_rates": [0.1, 0.3]},
    "residual": {"reparameterization": "residual", "learning_rates": [0.1, 0.3]},
    "short": {"prompt_length": 2, "learning_rates": [0.01, 0.3]},
}
GAINS = {"plain": 0.0, "residual": 2.0, "short": -1.0, "learned": 1.0, "shared": 1.0}


def describe(**options):
    given = {
        "sources": ["mr", "snli"],
        "targets": ["glue/sst2", "glue/rte"],
        "seeds": list(range(6)),
        "source_steps": 8,
        "target_steps": 4,
        "methods": METHODS,
        "tuned_on": ["mr"],
        "recipe": {"prompt_length": 3},
    }
    return study.Study(**{**given, **options})


class FakeTrainer:
    """Scores are functions of the cell: rate 0.3 is the best, each method gains its own."""

    starts: dict = {}
    rates: dict = {}

    def __init__(self, plan):
        self.plan = plan

    def __call__(self, cell, start, partial):
        self.starts[cell.id], self.rates[cell.id] = start, cell.rate
        length = self.plan.prompt_methods[cell.method].prompt_length or 3
        rng = np.random.default_rng([cell.seed, *(cell.target or "").encode()])
        score = 60 + rng.normal() + GAINS[cell.method] - abs(cell.rate - 0.3)
        steps = self.plan.steps(cell)
        return Outcome(
            curve=[(steps // 2, score - 1), (steps, score)],
            scores={"accuracy": score, "score": score},
            step=steps,
            prompt=rng.normal(size=(length, 4)).astype("float32"),
            embedding=rng.normal(size=(length, 4)).astype("float32"),
            loss=1.0,
            examples=10,
            backbone="0123456789abcdef",
            weights=[0.75, 0.25][: len(start)] if np.ndim(start) == 3 else None,
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods") / "study"
    return folder, study.run(describe(), folder, make_trainer=FakeTrainer)


def test_the_grid_has_every_method(whole):
    _, rows = whole
    kinds = [row["kind"] for row in rows]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "tuning": 3 * 2,  # methods by rates, on the one source that is tuned on
        "source": 2 * 2,  # sources by prompt lengths
        "scratch": 3 * 12,
        "transfer": 3 * 12 * 2,
    }
    assert len({row["id"] for row in rows}) == len(rows)
    assert "transfer--mr--glue.rte--all--0--residual" in {row["id"] for row in rows}
    assert "tuning--mr--all--0--short--0.01" in {row["id"] for row in rows}
    first = [row for row in rows if row["target"] and row["seed"] == 0]
    assert rows[10 : 10 + len(first)] == first  # a seed has all methods before the next begins


def test_rates_are_chosen_on_the_sources_and_recorded(whole):
    _, rows = whole
    assert {row["rate"] for row in rows if row["kind"] != "tuning"} == {0.3}
    assert set(FakeTrainer.rates.values()) == {0.1, 0.3, 0.01}
    two = Method("a", learning_rates=(0.1, 0.2))
    assert best_rate(two, [{"rate": 0.1, "score": 3}, {"rate": 0.2, "score": 2}]) == 0.1
    assert best_rate(Method("a", learning_rates=(0.5,)), []) == 0.5
    assert best_rate(Method("a"), []) is None


def test_methods_of_a_length_start_from_the_same_source_prompt(whole):
    folder, _ = whole
    place = study.StudyFolder(folder)
    for method, of_source in (("plain", "plain"), ("residual", "plain"), ("short", "short")):
        source = Cell("source", "snli", None, None, 0, of_source)
        expected = prompts.read(place.prompt(source)).values
        start = FakeTrainer.starts[Cell("transfer", "snli", "glue/rte", None, 3, method).id]
        np.testing.assert_array_equal(start, expected)
    assert FakeTrainer.starts[Cell("scratch", None, "glue/rte", None, 3, "residual").id] is None
    assert prompts.read(place.prompt(source)).provenance["method"] == "short"


def test_the_comparison_is_by_pairs(whole):
    _, rows = whole
    every = comparison.compare(rows, describe().prompt_methods)
    records = [record for record in every if record["reference"] == "plain"]
    starts = ("scratch", "mr", "snli")
    assert [(r["method"], r["start"]) for r in records] == [
        (method, start) for start in starts for method in ("residual", "short")
    ]
    others = every[len(records) :][:3]  # against the plain prompt of another length
    assert [(r["reference"], r["method"], r["start"]) for r in others] == [
        ("short", "residual", start) for start in starts
    ]
    assert all(r["gain"] == pytest.approx(3.0) and r["verdict"] == "better" for r in others)
    against_scratch = every[len(records) + 3 :]  # what a source and a method do together
    assert [(r["reference"], r["method"], r["start"]) for r in against_scratch] == [
        ("plain from scratch", method, start)
        for method in ("plain", "residual", "short")
        for start in ("mr", "snli")
    ]
    assert [round(r["gain"], 6) for r in against_scratch] == [0, 0, 2, 2, -1, -1]
    by_id = {row["id"]: row for row in rows}
    for record in records:
        kind = "scratch" if record["start"] == "scratch" else "transfer"
        source = None if kind == "scratch" else record["start"]
        gains = []
        for seed in range(6):
            of_seed = [
                by_id[Cell(kind, source, target, None, seed, record["method"]).id]["score"]
                - by_id[Cell(kind, source, target, None, seed, "plain").id]["score"]
                for target in ("glue/sst2", "glue/rte")
            ]
            gains.append(np.mean(of_seed))
        assert record["gain"] == pytest.approx(np.mean(gains))
        assert record["gain_spread"] == pytest.approx(np.std(gains, ddof=1), abs=1e-9)
        better = record["method"] == "residual"
        assert record["verdict"] == ("better" if better else "worse")
        assert record["p"] == pytest.approx(2 / 2**6)
        assert record["reached"] == (1.0 if better else 0.0)
        # A gain of 2 is there at half of the steps, where the score is 1 lower.
        assert record["steps"] == 0.5 if better else math.isnan(record["steps"])
        assert record["own_steps"] == 1.0


def test_the_sign_test_is_the_binomial_test():
    for better in range(8):
        for worse in range(8 - better):
            expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
            assert comparison.sign_test(better, worse) == pytest.approx(expected)


def test_a_seed_without_all_targets_and_few_seeds_claim_nothing(whole):
    _, rows = whole
    some = [row for row in rows if row["seed"] < 2]
    some = [r for r in some if not (r["seed"] == 1 and r["target"] == "glue/rte")]
    (record, *_) = comparison.compare(some, describe().prompt_methods)
    assert (record["seeds"], record["targets"], record["verdict"]) == (1, 2, "too few seeds")
    text = report.answer(comparison.compare(some, describe().prompt_methods))
    assert text.startswith("Nothing can be claimed: with 1 paired seeds")
    plan, records = describe(), comparison.compare(some, describe().prompt_methods)
    assert len({record["reference"] for record in records}) > 1
    (section,) = report.sections(SimpleNamespace(study=plan, rows=some, comparison=records), [])
    texts = [block.text for block in section.blocks if hasattr(block, "text")]
    assert texts == [text]  # once, whatever it is said of
    assert report.answer([]) == "No pair of runs of two methods has finished yet."


def test_targets_with_a_source_each_are_compared_together(tmp_path):
    targets = [
        {"task": "glue/sst2", "sources": ["mr"]},
        {"task": "glue/rte", "sources": ["snli"]},
    ]
    plan = describe(targets=targets, tuning_steps=6, embedding_steps=4)
    assert plan.has_own_sources
    assert not describe().has_own_sources
    assert study.Study.from_record(plan.record()).cells() == plan.cells()
    assert {plan.steps(cell) for cell in plan.cells() if cell.kind == "tuning"} == {6}
    rows = study.run(plan, tmp_path / "study", make_trainer=FakeTrainer)
    pairs = {(row["source"], row["target"]) for row in rows if row["kind"] == "transfer"}
    assert pairs == {("mr", "glue/sst2"), ("snli", "glue/rte")}
    records = comparison.compare(rows, plan.prompt_methods, plan.has_own_sources)
    assert {(r["start"], r["targets"]) for r in records} == {("scratch", 2), ("its source", 2)}
    assert {r["start"] for r in records if " " in r["reference"]} == {"its source"}
    text = (write_report(tmp_path / "study").parent / "summary.md").read_text("utf-8")
    assert "residual from its source (+2.0 ± 0.0, p 0.031)" in text
    assert "after 6 steps; no target" in text
    for name in ("methods-all", "methods-curves-scratch-all", "methods-curves-its-source-all"):
        assert f"pictures/{name}.svg" in text


def test_weights_of_the_sources_are_learned_beside_each_single_one(tmp_path):
    methods = {
        "plain": {"learning_rates": [0.1, 0.3]},
        "learned": {"transfer": "learned", "learning_rates": [0.1, 0.3]},
    }
    plan = describe(methods=methods, tuned_on=None)
    assert study.Study.from_record(plan.record()).cells() == plan.cells()
    rows = study.run(plan, tmp_path / "study", make_trainer=FakeTrainer)
    mixed = [row for row in rows if row["method"] == "learned" and row["target"]]
    assert {(row["kind"], row["source"]) for row in mixed} == {("transfer", "learned")}
    assert len(mixed) == 2 * 6
    place = study.StudyFolder(tmp_path / "study")
    sources = [Cell("source", name, None, None, 0, "plain") for name in ("mr", "snli")]
    values = [prompts.read(place.prompt(source)).values for source in sources]
    np.testing.assert_array_equal(FakeTrainer.starts[mixed[0]["id"]], np.stack(values))
    tuning = Cell("tuning", "mr", None, None, 0, "learned", 0.1)  # by the other sources alone
    assert [cell.source for cell in plan.starts(tuning)] == ["snli"]
    np.testing.assert_array_equal(FakeTrainer.starts[tuning.id], values[1:])
    assert mixed[0]["weights"] == {"mr": 0.75, "snli": 0.25}
    records = comparison.compare(rows, plan.prompt_methods)
    assert [(r["method"], r["start"], r["seeds"]) for r in records] == [
        ("learned", "mr", 6),
        ("learned", "snli", 6),
        ("plain", "mr", 6),  # against plain from scratch
        ("plain", "snli", 6),
        ("learned", "learned", 6),
    ]
    text = (write_report(tmp_path / "study").parent / "summary.md").read_text("utf-8")
    assert "the prompt and the weights of the sources it starts from" in text
    assert "pictures/weights-learned-glue.sst2.svg" in text
    assert [len(one.scores) for one in comparison.means(rows, plan.prompt_methods)] == [2, 2]


def test_what_the_sources_share_is_learned_from_their_prompts_and_starts_targets(tmp_path):
    methods = {
        "plain": {"learning_rates": [0.1, 0.3]},
        "shared": {"transfer": "shared", "learning_rates": [0.1, 0.3]},
    }
    plan = describe(methods=methods)
    assert study.Study.from_record(plan.record()).cells() == plan.cells()
    rows = study.run(plan, tmp_path / "study", make_trainer=FakeTrainer)
    (source,) = [row for row in rows if row["kind"] == "source" and row["method"] == "shared"]
    assert (source["source"], source["rate"]) == ("shared", 0.3)
    place = study.StudyFolder(tmp_path / "study")
    sources = [Cell("source", name, None, None, 0, "plain") for name in ("mr", "snli")]
    values = [prompts.read(place.prompt(cell)).values for cell in sources]
    np.testing.assert_array_equal(FakeTrainer.starts[source["id"]], np.stack(values))
    on_targets = [row for row in rows if row["method"] == "shared" and row["target"]]
    assert {(row["kind"], row["source"]) for row in on_targets} == {("transfer", "shared")}
    assert len(on_targets) == 2 * 6
    common = prompts.read(place.prompt(Cell("source", "shared", None, None, 0, "shared"))).values
    np.testing.assert_array_equal(FakeTrainer.starts[on_targets[0]["id"]], common)
    assert FakeTrainer.starts["tuning--mr--all--0--shared--0.1"] is None
    records = comparison.compare(rows, plan.prompt_methods)
    assert [(r["method"], r["start"]) for r in records if r["reference"] == "plain"] == [
        ("shared", "mr"),
        ("shared", "snli"),
    ]
    text = (write_report(tmp_path / "study").parent / "summary.md").read_text("utf-8")
    assert "the prompt that all sources share, and task factors" in text


def test_means_are_of_the_seeds_that_all_methods_have(whole):
    _, rows = whole
    plan = describe()
    missing = ("scratch--glue.rte--all--0--short", "scratch--glue.sst2--all--5--plain")
    some = [row for row in rows if row["id"] not in missing]
    every = comparison.means(some, plan.prompt_methods)
    assert [(one.start, one.targets) for one in every] == [
        (start, 2) for start in ("scratch", "mr", "snli")
    ]
    assert {len(runs) for runs in every[0].scores.values()} == {4}
    assert {len(runs) for runs in every[1].scores.values()} == {6}
    by_id = {row["id"]: row["score"] for row in rows}
    both = [by_id[f"scratch--{target}--all--1--plain"] for target in ("glue.sst2", "glue.rte")]
    assert every[0].scores["plain"][0] == pytest.approx(np.mean(both))
    assert every[0].curves["plain"][0] == [
        (2, pytest.approx(np.mean(both) - 1)),
        (4, pytest.approx(np.mean(both))),
    ]
    alone = [row for row in rows if row["method"] == "plain"]
    assert comparison.means(alone, plan.prompt_methods) == []


def test_the_report_says_which_method_is_better(whole):
    folder, _ = whole
    gathered = gather(folder)
    assert len(gathered.first_rows) == 2 + 12 + 24
    assert gathered.parts[0].grid.scores.shape == (2, 2, 6)
    write_report(folder)
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    section = summary.partition("## Which method trains the better prompt?")[2]
    assert section.index("Better than plain: residual from scratch (+2.0 ± 0.0") < 20
    assert "these 15 comparisons about 0.5 would have by chance alone" in section
    assert "| short | the prompt itself | 2 | 0.01, 0.3 | 0.3 |" in section
    assert "Which source should I use?" in section
    assert "methods-curves-mr-all.svg" in section


def test_curves_of_many_methods_are_drawn_by_prompt_length(whole, monkeypatch):
    folder, _ = whole
    monkeypatch.setattr(method_pictures, "TOGETHER", 2)
    drawn = method_pictures.draw_methods(gather(folder), folder / "pictures")
    groups = [path.name for _, path in drawn if "curves-mr" in path.name]
    assert groups == ["methods-curves-mr-all-3.svg", "methods-curves-mr-all-2.svg"]
    assert "From mr, 2 prompt tokens: mean over 2 targets" in drawn[4][0]


def test_a_description_survives_and_may_grow():
    plan = describe()
    again = study.Study.from_record(json.loads(json.dumps(plan.record())))
    assert again.record() == plan.record()
    assert again.cells() == plan.cells()
    more = {**METHODS, "low": {"reparameterization": "low-rank", "learning_rates": [0.1, 0.2]}}
    describe(methods=more).check_continues(plan.record())
    plan.check_continues(describe(methods=more).record())
    changed = {**METHODS, "short": {"prompt_length": 1, "learning_rates": [0.1, 0.3]}}
    with pytest.raises(ValueError, match="must hold a study with the same method short"):
        describe(methods=changed).check_continues(plan.record())
    first = {"low": more["low"], **METHODS}
    with pytest.raises(ValueError, match="must hold a study whose methods are the first ones"):
        describe(methods=first).check_continues(plan.record())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["plain"]}, "`methods` must be a mapping of names to settings."),
        ({"methods": {"A b": {}}}, "`methods` must be named by small letters, digits and hyphens."),
        (
            {"methods": {"a": {"rates": [1]}}},
            "`methods` must be a known name. Received:",
        ),
        (
            {"methods": {"a": {"learning_rates": [0.1, 0]}}},
            "`methods` must have a list of different",
        ),
        ({"methods": {"a": {"prompt_length": 0}}}, "`methods` must have positive prompt lengths."),
        (
            {"methods": {"a": {"reparameterization": "residuum"}}},
            "`reparameterization` must be a known name. Received: reparameterization='residuum'",
        ),
        (
            {"methods": {"a": {"learning_rates": [0.1, 0.2]}, "b": {}}},
            "`methods` must have the same number of learning rates each, to be tuned alike. "
            "Received: a 2, b 1",
        ),
        (
            {"methods": {"a": {"transfer": "learned"}, "b": {}}},
            "`methods` must begin with one that has runs from scratch",
        ),
        (
            {"methods": {"a": {}, "b": {"transfer": "learned", "prompt_length": 2}}},
            "`methods` must have another method of the same prompt length, to train the sources",
        ),
        ({"methods": {"a": {}, "b": {"transfer": "learnt"}}}, "`methods` must be a known name."),
        (
            {"methods": {"a": {}, "b": {"transfer": "learned", "reparameterization": "residual"}}},
            "`methods` must have a reparameterization or a transfer, not both. Received: b",
        ),
        (
            {
                "methods": {"a": {}, "b": {"transfer": "learned"}},
                "sources": ["mr"],
            },
            "`methods` must have a method that mixes sources only with two of them or more.",
        ),
        (
            {"methods": {"a": {}, "b": {"transfer": "shared"}}, "targets": ["glue/rte", "mr"]},
            "`methods` must share a prompt only of sources that are no targets. Received: b: mr",
        ),
        (
            {
                "methods": {"a": {}, "b": {"transfer": "shared"}},
                "sources": ["mr", {"task": "snli", "split": "test"}],
            },
            "`methods` must share a prompt only of sources with the same splits and method.",
        ),
        ({"tuned_on": ["cb"]}, "`tuned_on` must be a known name."),
        ({"tuning_steps": 2}, "`tuning_steps` must be at least 4, as embedding_steps and"),
        (
            {"targets": [{"task": "glue/rte", "sources": ["sst2"]}]},
            "`sources` must be a known name.",
        ),
        (
            {"targets": [{"task": "glue/rte", "sources": "mr"}]},
            "`sources` must be a list of names of sources.",
        ),
        (
            {"sources": [{"task": "mr", "sources": ["mr"]}], "tuned_on": None},
            "`sources` must be given of a target alone. Received: mr",
        ),
    ],
)
def test_bad_methods(options, message):
    with pytest.raises(InvalidArgument) as caught:
        describe(**options)
    assert str(caught.value).startswith(message)
