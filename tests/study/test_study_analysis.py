"""The analysis of a study against loops in plain Python and the published arithmetic."""

import itertools
import statistics

import numpy as np
import pytest

from keras_spot import transfer
from keras_spot.study import analysis, ranking, results
from keras_spot.study.report import content
from keras_spot.study.report import statistics as report_statistics


def row(source, target, seed, score, examples=None, **more):
    kind = "scratch" if source is None else "transfer"
    return {
        "kind": kind,
        "source": source,
        "target": target,
        "examples": examples,
        "seed": seed,
        "score": score,
        "majority": 50.0,
        **more,
    }


SMALL = [
    row(None, "cb", 0, 92.0),
    row(None, "cb", 1, 93.4),
    row(None, "cb", 2, 92.7),
    row("mnli", "cb", 0, 97.0),
    row("mnli", "cb", 1, 97.0),
    row("mnli", "cb", 2, 97.0),
    row("record", "cb", 0, 74.0),
    row("record", "cb", 1, 74.2),
    row("record", "cb", 2, 74.1),
]


def random_grid(sources=5, targets=3, seeds=3, seed=0):
    rng = np.random.default_rng(seed)
    return analysis.Grid(
        None,
        tuple(f"s{i}" for i in range(sources)),
        tuple(f"t{i}" for i in range(targets)),
        tuple(range(seeds)),
        rng.uniform(40, 60, (targets, seeds)),
        rng.uniform(40, 70, (sources, targets, seeds)),
        np.full(targets, np.nan),
    )


def test_the_published_arithmetic():
    (grid,) = analysis.grids(SMALL)
    mnli, record = analysis.pairs(grid)
    assert mnli["baseline"] == pytest.approx(92.7)
    assert mnli["score"] == 97.0
    assert mnli["error_reduction"] == pytest.approx(0.589, abs=5e-4)
    assert mnli["gain"] == pytest.approx(4.3)
    assert mnli["gain_spread"] == pytest.approx(statistics.stdev([5.0, 3.6, 4.3]))
    assert (mnli["helps"], mnli["harms"]) == (True, False)
    assert record["gain"] == pytest.approx(-18.6)
    assert (record["helps"], record["harms"]) == (False, True)
    assert [pair["source"] for pair in analysis.oracle(grid)] == ["mnli"]
    (target,) = analysis.by_target(grid)
    assert target["gain"] == pytest.approx((4.3 - 18.6) / 2)
    assert (target["best_source"], target["helps"], target["harms"]) == ("mnli", 1, 1)
    assert target["majority"] == 50.0


def pair(scratch, transferred, majority=50.0):
    """The analysis of one source on one target."""
    rows = [row(None, "cb", s, score, majority=majority) for s, score in enumerate(scratch)]
    rows += [row("mr", "cb", s, score) for s, score in enumerate(transferred)]
    (grid,) = analysis.grids(rows)
    (record,) = analysis.pairs(grid)
    (advice,) = analysis.recommendations(grid)
    return record, advice


@pytest.mark.parametrize(
    ("scratch", "transferred", "majority", "verdict", "use", "decided"),
    [
        ([70, 71, 72], [76, 78, 80], 52.0, "helps", True, True),
        ([70, 71, 72], [76, 78, 80], None, "helps", True, True),  # no label, no majority
        ([70, 71, 72], [60, 62, 64], 52.0, "harms", False, True),
        ([70, 71, 72], [60, 75, 80], 52.0, "within the spread", False, True),
        ([60.8, 65.5, 73.2], [71.0, 72.1, 74.7], 74.2, "below the majority class", False, True),
        ([60, 65, 70], [72, 74, 79], 75.0, "below the majority class", False, True),  # equal to it
        ([70, 71], [76, 78], 52.0, "too few seeds", False, False),
        ([70, 71], [60, 60], 52.0, "too few seeds", False, False),
        ([70, 71], [75, 76], 52.0, "too few seeds", False, False),
        ([70, 71], [60, 61], 52.0, "too few seeds", False, False),  # a spread of 0
        ([70], [90], 52.0, "too few seeds", False, False),
        ([70, 71, 72], [75, 76, 77], 52.0, "no spread", False, False),
        ([70, 71, 72], [65, 66, 67], 52.0, "no spread", False, False),
        ([0, 0, 0], [0, 0, 0], 0.0, "within the spread", False, True),
    ],
)
def test_what_is_claimed_of_a_pair(scratch, transferred, majority, verdict, use, decided):
    record, advice = pair(scratch, transferred, majority)
    assert record["verdict"] == verdict
    assert (record["helps"], record["harms"]) == (verdict == "helps", verdict == "harms")
    assert (advice["use"] is not None, advice["decided"]) == (use, decided)
    assert advice["best"]["source"] == "mr"


def test_the_source_that_helps_most_is_recommended():
    rows = [row(None, "cb", s, 60.0 + s) for s in range(3)]
    for source, gains in {
        "lucky": [30, 0, 0],  # the largest gain, but by one seed
        "steady": [6, 7, 8],
        "weaker": [2, 3, 4],
        "bad": [-5, -4, -6],
    }.items():
        rows += [row(source, "cb", s, 60.0 + s + gain) for s, gain in enumerate(gains)]
    rows += [row(None, "wic", s, 50.0) for s in range(3)]
    cb, wic = analysis.recommendations(analysis.grids(rows)[0])
    assert (cb["use"]["source"], cb["use"]["gain"], cb["use"]["gain_spread"]) == ("steady", 7, 1)
    assert [other["source"] for other in cb["others"]] == ["weaker"]
    assert (cb["best"]["source"], cb["sources"], cb["majority"]) == ("lucky", 4, 50.0)
    assert (wic["use"], wic["best"], wic["decided"]) == (None, None, False)
    assert content.reason(cb) == "gains more than its spread; so do weaker"
    assert content.reason(wic) == "no transfer to it has finished"
    assert content.answer([cb, wic]) == (
        "Start cb from steady (+7.0 ± 1.0). Nothing can be claimed yet about wic."
    )


@pytest.mark.parametrize(
    ("scratch", "transferred", "reason", "answer"),
    [
        (
            [60.0, 65.0, 70.0],
            [71.0, 72.0, 73.6],
            "nothing beats the majority class; mr comes nearest with 72.2 (+7.2 ± 3.7)",
            "No source helps any target: train from scratch.",
        ),
        (
            [80.0, 81.0, 82.0],
            [82.0, 81.0, 83.0],
            "no gain is above its spread; the best is mr, +1.0 ± 1.0",
            "No source helps any target: train from scratch.",
        ),
        (
            [80.0, 81.0],
            [85.0, 86.0],
            "2 seeds cannot tell chance from gain; best so far: mr, +5.0 ± 0.0",
            "Nothing can be claimed yet about cb.",
        ),
        (
            [80.0, 81.0, 82.0],
            [85.0, 86.0, 87.0],
            "gains without any spread cannot be judged; best so far: mr, +5.0 ± 0.0",
            "Nothing can be claimed yet about cb.",
        ),
    ],
)
def test_the_recommendation_in_words(scratch, transferred, reason, answer):
    _, advice = pair(scratch, transferred, majority=74.2)
    assert content.reason(advice) == reason
    assert content.answer([advice]) == answer


def test_grids_by_number_of_examples():
    rows = [row(None, "cb", 0, 50.0, 16), row(None, "rte", 0, 60.0), row("mr", "cb", 0, 55.0, 16)]
    few, every = analysis.grids(rows)
    assert (few.examples, few.targets, few.sources) == (16, ("cb",), ("mr",))
    assert (every.examples, every.targets, every.sources) == (None, ("rte",), ())
    assert analysis.pairs(every) == analysis.oracle(every) == []
    assert analysis.recommendations(every)[0]["use"] is None
    with pytest.raises(ValueError) as error:
        analysis.grids([{"kind": "source"}])
    assert str(error.value) == "`rows` must hold at least one run on a target. Received: 1 rows"


@pytest.mark.parametrize("choose", ["same", "others"])
def test_retrieval_against_loops(choose):
    grid = random_grid()
    similarities = np.random.default_rng(1).normal(size=grid.scores.shape)
    actual = ranking.retrieval(grid, similarities, choose=choose, draws=3)
    for k in range(1, 6):
        scores, expected, reduced = [], [], []
        for t, r in itertools.product(range(3), range(3)):

            def known(s, t=t, r=r):
                if choose == "same":
                    return grid.scores[s, t, r]
                return np.mean([grid.scores[s, t, q] for q in range(3) if q != r])

            order = sorted(range(5), key=lambda s, t=t, r=r: -similarities[s, t, r])
            score = grid.scores[max(order[:k], key=known), t, r]
            every = [
                grid.scores[max(chosen, key=known), t, r]
                for chosen in itertools.combinations(range(5), k)
            ]
            scores.append(score)
            expected.append(np.mean(every))
            reduced.append(transfer.relative_error_reduction(score, grid.baseline[t, r]))
        record = actual[k - 1]
        assert record["k"] == k
        assert record["score"] == pytest.approx(np.mean(scores))
        assert record["gain"] == pytest.approx(np.mean(scores) - grid.baseline.mean())
        assert record["random"] == pytest.approx(np.mean(expected))
        assert record["random_gain"] == pytest.approx(np.mean(expected) - grid.baseline.mean())
        assert record["error_reduction"] == pytest.approx(np.mean(reduced))
    assert actual[-1]["random"] == pytest.approx(actual[-1]["score"])


def test_a_perfect_ranking_beats_random_ones_and_a_random_one_does_not():
    grid = random_grid(sources=8, targets=6, seeds=2)
    means = grid.scores.mean(axis=2, keepdims=True)
    perfect = ranking.retrieval(grid, np.broadcast_to(means, grid.scores.shape))
    assert perfect[0]["p"] < 0.001
    assert perfect[0]["score"] > perfect[0]["random"] + 5
    chance = [
        ranking.retrieval(
            grid,
            np.repeat(np.random.default_rng(i).normal(size=(8, 6, 1)), 2, axis=2),
            draws=200,
        )[0]["p"]
        for i in range(200)
    ]
    assert np.mean(np.array(chance) < 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(chance) == pytest.approx(0.5, abs=0.08)


def test_runs_that_are_missing():
    grid = random_grid()
    grid.scores[2, 0, 1] = np.nan  # a source without one of the seeds of a target
    grid.scores[0, 1] = np.nan  # a target's own source
    grid.baseline[2, 0] = np.nan
    similarities = np.random.default_rng(1).normal(size=grid.scores.shape)
    actual = ranking.retrieval(grid, similarities)
    assert [record["k"] for record in actual] == [1, 2, 3, 4]
    best = [grid.scores[[0, 1, 3, 4], 0].max(axis=0), grid.scores[1:, 1].max(axis=0)]
    assert actual[-1]["score"] == pytest.approx(np.mean(best))
    assert actual[-1]["gain"] == pytest.approx(np.mean(best) - grid.baseline[:2].mean())
    assert [record["sources"] for record in ranking.correlations(grid, similarities)] == [4, 4, 0]


def test_correlations_are_of_means_over_seeds():
    grid = random_grid()
    similarities = np.random.default_rng(2).normal(size=grid.scores.shape)
    record = ranking.correlations(grid, similarities)[1]
    x = [similarities[s, 1].mean() for s in range(5)]
    y = [(grid.scores[s, 1] - grid.baseline[1]).mean() for s in range(5)]
    r, p = transfer.correlation(x, y)
    assert (record["r"], record["p"]) == (pytest.approx(r), pytest.approx(p))
    assert record["r"] == pytest.approx(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"choose": "other"},
            "`choose` must be a known name. Received: choose='other' (did you mean 'others'?)",
        ),
        (
            {"choose": "others", "seeds": 1},
            "`choose` must be 'same' with one seed. Received: choose='others'",
        ),
    ],
)
def test_bad_choices(options, message):
    grid = random_grid(seeds=options.pop("seeds", 3))
    with pytest.raises(ValueError) as error:
        ranking.retrieval(grid, grid.scores, **options)
    assert str(error.value) == message


def test_that_retrieval_beats_chance_needs_evidence():
    grid = random_grid(sources=8, targets=6, seeds=2)
    means = np.broadcast_to(grid.scores.mean(axis=2, keepdims=True), grid.scores.shape)
    part = results.Part(
        grid,
        recommendations=analysis.recommendations(grid),
        pairs=analysis.pairs(grid),
        targets=analysis.by_target(grid),
        embeddings={},
        similarities={"good": means, "bad": -means},
        retrieval={n: ranking.retrieval(grid, s) for n, s in (("good", means), ("bad", -means))},
        by_other_seeds={},
        correlations={"good": ranking.correlations(grid, means)},
    )
    good, bad = results.first_sources(part)
    assert (good["similarity"], good["beats"], bad["beats"]) == ("good", True, False)
    lines = report_statistics.retrieval_lines(part)
    assert lines[0].startswith("The first source by good beats a random one: gain +")
    assert lines[1].startswith("The first source by bad does not beat a random one: gain ")
