"""What the rows of a study say: gains, oracle, retrieval, correlation (NumPy alone).

Letters: S sources, T targets, R seeds. Scores are percentages. A gain is a transferred run's score
less that of the run from scratch with the same seed, examples and steps; a spread is the sample
standard deviation over the seeds, NaN for a single one.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_spot import transfer
from keras_spot.base.errors import invalid, unknown

Record = dict[str, Any]
DRAWS = 2000
"""Random retrievals that a p-value is an estimate from; its error is at most 0.011."""
CHOICES = ("same", "others")


@dataclasses.dataclass(frozen=True)
class Grid:
    """The scores of a study with one number of target examples.

    Attributes:
        examples: that number; None for all.
        sources, targets, seeds: names along the axes.
        baseline: float64 `[T, R]`, from scratch; NaN for a run that is not there.
        scores: float64 `[S, T, R]`, transferred.
        majority: float64 `[T]`, score of the commonest answer; NaN where there is none.
    """

    examples: int | None
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: np.ndarray
    scores: np.ndarray
    majority: np.ndarray

    @property
    def gains(self) -> np.ndarray:
        """float64 `[S, T, R]`, seed by seed."""
        return self.scores - self.baseline

    def usable(self, target: int) -> np.ndarray:
        """The numbers of the sources that have a run for every seed of a target."""
        return np.flatnonzero(np.isfinite(self.scores[:, target]).all(axis=1))


def grids(rows: Sequence[Mapping[str, Any]]) -> list[Grid]:
    """Return the grid of every number of target examples, in the order of the rows.

    Raises:
        ValueError: no row of a target.
    """
    on_targets = [row for row in rows if row["kind"] != "source"]
    if not on_targets:
        raise invalid("rows", "must hold at least one run on a target", f"{len(rows)} rows")
    return [
        _grid([row for row in on_targets if row["examples"] == size], size)
        for size in _distinct(row["examples"] for row in on_targets)
    ]


def _grid(rows: Sequence[Mapping[str, Any]], size: int | None) -> Grid:
    sources = _distinct(row["source"] for row in rows if row["kind"] == "transfer")
    targets = _distinct(row["target"] for row in rows)
    seeds = _distinct(row["seed"] for row in rows)
    baseline = np.full((len(targets), len(seeds)), np.nan)
    scores = np.full((len(sources), *baseline.shape), np.nan)
    majority = np.full(len(targets), np.nan)
    for row in rows:
        place = targets.index(row["target"]), seeds.index(row["seed"])
        if row["kind"] == "transfer":
            scores[sources.index(row["source"]), *place] = row["score"]
        else:
            baseline[place] = row["score"]
            if row.get("majority") is not None:
                majority[place[0]] = row["majority"]
    return Grid(size, sources, targets, seeds, baseline, scores, majority)


# === Gains ===


def pairs(grid: Grid) -> list[Record]:
    """Return a record for every source and target that has a run.

    `source`, `target`, `seeds` (number of them), `baseline` and `score` with their spreads,
    `gain` and `gain_spread` over the paired seeds, `error_reduction` (of the means, a
    fraction, see `transfer.relative_error_reduction`), and whether the mean gain lies beyond
    its spread: `helps` above zero, `harms` below.
    """
    records = []
    for t, target in enumerate(grid.targets):
        for s, source in enumerate(grid.sources):
            both = np.isfinite(grid.gains[s, t])
            if not both.any():
                continue
            score, score_spread = mean_spread(grid.scores[s, t, both])
            baseline, baseline_spread = mean_spread(grid.baseline[t, both])
            gain, gain_spread = mean_spread(grid.gains[s, t, both])
            records.append(
                {
                    "source": source,
                    "target": target,
                    "seeds": int(both.sum()),
                    "baseline": baseline,
                    "baseline_spread": baseline_spread,
                    "score": score,
                    "spread": score_spread,
                    "gain": gain,
                    "gain_spread": gain_spread,
                    "error_reduction": _error_reduction(score, baseline),
                    "helps": gain - gain_spread > 0,  # never so with one seed
                    "harms": gain + gain_spread < 0,
                }
            )
    return records


def oracle(grid: Grid) -> list[Record]:
    """Return the pair (as in `pairs`) of the best source of every target, known in hindsight."""
    found = pairs(grid)
    best = []
    for target in grid.targets:
        of_target = [pair for pair in found if pair["target"] == target]
        if of_target:
            best.append(max(of_target, key=lambda pair: pair["gain"]))
    return best


def by_target(grid: Grid) -> list[Record]:
    """Return a record for every target.

    `target`, `majority`, `baseline` with its spread, the mean over all sources (`transfer`,
    `gain`), the oracle (`best_source`, `best`, `best_gain`), and the numbers of sources that
    help and harm.
    """
    found, best = pairs(grid), {record["target"]: record for record in oracle(grid)}
    records = []
    for t, target in enumerate(grid.targets):
        of_target = [pair for pair in found if pair["target"] == target]
        baseline, spread = mean_spread(grid.baseline[t][np.isfinite(grid.baseline[t])])
        record: Record = {
            "target": target,
            "majority": float(grid.majority[t]),
            "baseline": baseline,
            "baseline_spread": spread,
            "sources": len(of_target),
        }
        if of_target:
            record |= {
                "transfer": float(np.mean([pair["score"] for pair in of_target])),
                "gain": float(np.mean([pair["gain"] for pair in of_target])),
                "best_source": best[target]["source"],
                "best": best[target]["score"],
                "best_spread": best[target]["spread"],
                "best_gain": best[target]["gain"],
                "helps": sum(pair["helps"] for pair in of_target),
                "harms": sum(pair["harms"] for pair in of_target),
            }
        records.append(record)
    return records


def mean_spread(values: Any) -> tuple[float, float]:
    """Return the mean and the sample standard deviation, NaN where they are not defined.

    >>> mean_spread([1.0, 2.0, 3.0])
    (2.0, 1.0)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of no or one value
        return float(np.mean(values)), float(np.std(values, ddof=1))


# === Retrieval ===


def correlations(grid: Grid, similarities: np.ndarray) -> list[Record]:
    """Return Pearson's r of similarity with gain over the sources of every target.

    Both are means over the seeds. `target`, `r`, its two-sided `p`, and `sources`, their
    number; NaN below three or where nothing varies.

    Args:
        grid: the scores.
        similarities: float64 `[S, T, R]`.
    """
    records = []
    for t, target in enumerate(grid.targets):
        use = _with_baseline(grid, t)
        r, p = float("nan"), float("nan")
        if len(use) >= 3:
            gains = grid.gains[use, t].mean(axis=1)
            r, p = transfer.correlation(similarities[use, t].mean(axis=1).tolist(), gains.tolist())
        records.append({"target": target, "r": r, "p": p, "sources": len(use)})
    return records


def retrieval(
    grid: Grid, similarities: np.ndarray, *, choose: str = "same", draws: int = DRAWS
) -> list[Record]:
    """Return what the best of the k most similar sources gives, for every k.

    Every seed ranks the sources by its own embedding of the target; a run is made from each of
    the first k and the best is kept. Records have `k` and, as means over targets and seeds,
    `score`, `gain`, `error_reduction`; `random` and `random_gain`, the exact expectation for k
    sources drawn at random; and `p`, the share of random rankings (one for each target) that
    do at least as well.

    Args:
        grid: the scores.
        similarities: float64 `[S, T, R]`.
        choose: what the best is known by: `"same"`, the very score that is reported, which is
            what the paper does and flatters by chance as k grows, random choices as well; or
            `"others"`, the mean over the other seeds, which does not.
        draws: random rankings.

    Raises:
        ValueError: an unknown `choose`, or `"others"` with one seed.
    """
    if choose not in CHOICES:
        raise unknown("choose", choose, CHOICES)
    if choose == "others" and len(grid.seeds) < 2:
        raise invalid("choose", "must be 'same' with one seed", f"choose={choose!r}")
    use = {t: _with_baseline(grid, t) for t in range(len(grid.targets))}
    use = {t: sources for t, sources in use.items() if len(sources)}
    if not use:
        return []
    depth = max(map(len, use.values()))
    rng = np.random.default_rng(0)
    found = np.zeros(depth)
    expected = np.zeros(depth)
    reduced = np.zeros(depth)
    drawn = np.zeros((draws, depth))
    for t, sources in use.items():
        size = len(sources)
        # A draw's ranking serves all seeds, as rankings by similarity hardly differ by seed.
        orders = rng.permuted(np.tile(np.arange(size), (draws, 1)), axis=1)
        for r in range(len(grid.seeds)):
            reported = grid.scores[sources, t, r]
            known = reported
            if choose == "others":
                known = np.delete(grid.scores[sources, t], r, axis=1).mean(axis=1)
            order = np.argsort(-similarities[sources, t, r], kind="stable")
            best = _padded(best_so_far(known, reported, order[None])[0], depth)
            found += best
            reduced += [_error_reduction(score, grid.baseline[t, r]) for score in best]
            expected += _padded(expected_best(known, reported), depth)
            drawn += _padded(best_so_far(known, reported, orders), depth)
    runs = len(use) * len(grid.seeds)
    baseline = np.mean([grid.baseline[t].mean() for t in use])
    return [
        {
            "k": k + 1,
            "score": found[k] / runs,
            "gain": found[k] / runs - baseline,
            "error_reduction": reduced[k] / runs,
            "random": expected[k] / runs,
            "random_gain": expected[k] / runs - baseline,
            "p": float(np.mean(drawn[:, k] >= found[k] - 1e-9)),
        }
        for k in range(depth)
    ]


def best_so_far(known: np.ndarray, reported: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Return the reported score of the best known source among the first 1, 2, ... of an order.

    Args:
        known: float `[S]`, what the choice is made by.
        reported: float `[S]`.
        orders: int `[N, S]`, orders of the sources.

    Returns:
        float64 `[N, S]`.

    >>> best_so_far(np.array([1.0, 3.0, 2.0]), np.array([10.0, 30.0, 20.0]), np.array([[0, 2, 1]]))
    array([[10., 20., 30.]])
    """
    best_first = np.argsort(-known, kind="stable")
    ranks = np.empty(len(known), int)
    ranks[best_first] = np.arange(len(known))
    return reported[best_first][np.minimum.accumulate(ranks[orders], axis=1)]


def expected_best(known: np.ndarray, reported: np.ndarray) -> np.ndarray:
    """Return the expected reported score of the best known of k sources drawn at random.

    Of the C(S, k) choices of k, C(S - i, k - 1) have the i-th best known source as their best.

    Args:
        known: float `[S]`, what the choice is made by.
        reported: float `[S]`.

    Returns:
        float64 `[S]`, for k = 1 to S.

    >>> expected_best(np.array([1.0, 3.0]), np.array([1.0, 3.0]))
    array([2., 3.])
    """
    size = len(known)
    ordered = reported[np.argsort(-known, kind="stable")]
    chances = np.array(
        [[math.comb(size - i, k - 1) for i in range(1, size + 1)] for k in range(1, size + 1)]
    )
    return (chances / chances.sum(axis=1, keepdims=True)) @ ordered


def _with_baseline(grid: Grid, target: int) -> np.ndarray:
    complete = np.isfinite(grid.baseline[target]).all()
    return grid.usable(target) if complete else np.zeros(0, int)


def _padded(values: np.ndarray, depth: int) -> np.ndarray:
    """Return curves over k `[..., S]` with their last value repeated up to `depth`."""
    width = [(0, 0)] * (values.ndim - 1) + [(0, depth - values.shape[-1])]
    return np.pad(values, width, mode="edge")


def _error_reduction(score: float, baseline: float) -> float:
    if not baseline < 100:
        return float("nan")
    return float(transfer.relative_error_reduction(score, baseline))


def _distinct(values: Any) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))
