"""How well similarity ranks the sources of a study: correlation with gain, retrieval (NumPy alone).

Letters: S sources, T targets, R seeds, as in `keras_spot.study.analysis`.
"""

import math

import numpy as np

from keras_spot import transfer
from keras_spot.base.errors import invalid, unknown
from keras_spot.study.analysis import Grid, Record, error_reduction

__all__ = ["CHOICES", "DRAWS", "best_so_far", "correlations", "expected_best", "retrieval"]

DRAWS = 2000
"""Random retrievals that a p-value is an estimate from; its error is at most 0.011."""
CHOICES = ("same", "others")


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
        InvalidArgument: an unknown `choose`, or `"others"` with one seed.
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
    best, expected, reduced = np.zeros(depth), np.zeros(depth), np.zeros(depth)
    drawn = np.zeros((draws, depth))
    for t, sources in use.items():
        # A draw's ranking serves all seeds, as rankings by similarity hardly differ by seed.
        orders = rng.permuted(np.tile(np.arange(len(sources)), (draws, 1)), axis=1)
        for r in range(len(grid.seeds)):
            reported = grid.scores[sources, t, r]
            known = reported
            if choose == "others":
                known = np.delete(grid.scores[sources, t], r, axis=1).mean(axis=1)
            order = np.argsort(-similarities[sources, t, r], kind="stable")
            curve = _padded(best_so_far(known, reported, order[None])[0], depth)
            best += curve
            reduced += [error_reduction(score, grid.baseline[t, r]) for score in curve]
            expected += _padded(expected_best(known, reported), depth)
            drawn += _padded(best_so_far(known, reported, orders), depth)
    runs = len(use) * len(grid.seeds)
    baseline = np.mean([grid.baseline[t].mean() for t in use])
    return [
        {
            "k": k + 1,
            "score": best[k] / runs,
            "gain": best[k] / runs - baseline,
            "error_reduction": reduced[k] / runs,
            "random": expected[k] / runs,
            "random_gain": expected[k] / runs - baseline,
            "p": float(np.mean(drawn[:, k] >= best[k] - 1e-9)),
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
