"""What the rows of a study say: gains, which of them are no chance, what to use (NumPy alone).

Letters: S sources, T targets, R seeds. Scores are percentages. A gain is a transferred run's score
less that of the run from scratch with the same seed, examples and steps; a spread is the sample
standard deviation over the seeds, NaN for a single one.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_spot import transfer
from keras_spot.base.errors import invalid

__all__ = [
    "MIN_SEEDS",
    "ROUNDING",
    "UNDECIDED",
    "Grid",
    "Record",
    "by_target",
    "compared",
    "error_reduction",
    "grids",
    "mean_spread",
    "oracle",
    "pairs",
    "recommendations",
    "verdict",
]

Record = dict[str, Any]
MIN_SEEDS = 3
"""Seeds below which a spread supports no claim."""
ROUNDING = 1e-6
"""Points below which a gain or a spread is 0 but for floating point."""
HELPS, HARMS = "helps", "harms"
BELOW_MAJORITY, WITHIN_SPREAD = "below the majority class", "within the spread"
TOO_FEW_SEEDS, NO_SPREAD = "too few seeds", "no spread"
UNDECIDED = (TOO_FEW_SEEDS, NO_SPREAD)
"""Verdicts on a pair that more seeds would have to settle."""


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
        InvalidArgument: no row of a target.
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


# === One source on one target ===


def pairs(grid: Grid) -> list[Record]:
    """Return a record for every source and target that has a run.

    `source`, `target`, `seeds` (number of them), `majority`, `baseline` and `score` with their
    spreads, `gain` and `gain_spread` over the paired seeds, `error_reduction` (of the means, a
    fraction, see `transfer.relative_error_reduction`), `verdict` (see there), and whether that
    is that the source `helps` or `harms`.
    """
    records = []
    for t, target in enumerate(grid.targets):
        for s, source in enumerate(grid.sources):
            both = np.isfinite(grid.gains[s, t])
            if both.any():
                names = {"source": source, "target": target}
                majority = float(grid.majority[t])
                baseline, scores = grid.baseline[t, both], grid.scores[s, t, both]
                records.append({**names, "majority": majority, **compared(baseline, scores)})
    for record in records:
        record["error_reduction"] = error_reduction(record["score"], record["baseline"])
        record["verdict"] = verdict(record)
        record["helps"] = record["verdict"] == HELPS
        record["harms"] = record["verdict"] == HARMS
    return records


def compared(baselines: np.ndarray, scores: np.ndarray) -> Record:
    """Return what S seeds gained, given two scores of each, `[S]`: means and spreads."""
    score, spread = mean_spread(scores)
    baseline, baseline_spread = mean_spread(baselines)
    gain, gain_spread = mean_spread(scores - baselines)
    return {
        "seeds": len(scores),
        "baseline": baseline,
        "baseline_spread": baseline_spread,
        "score": score,
        "spread": spread,
        "gain": gain,
        "gain_spread": gain_spread,
    }


def verdict(pair: Mapping[str, Any]) -> str:
    """Return what may be claimed of a pair.

    `HELPS` or `HARMS` where the mean gain lies beyond its spread over at least `MIN_SEEDS`
    seeds; but a gain that leaves the score at or below that of always giving the commonest
    answer is `BELOW_MAJORITY`. `WITHIN_SPREAD` where it does not, `TOO_FEW_SEEDS` and `NO_SPREAD`
    (equal gains that are not zero) where nothing can be claimed.

    Args:
        pair: `seeds`, `gain`, `gain_spread`, `score` and `majority`, NaN without one.
    """
    gain, spread = pair["gain"], pair["gain_spread"]
    if pair["seeds"] < MIN_SEEDS:
        return TOO_FEW_SEEDS
    if spread < ROUNDING:
        return WITHIN_SPREAD if abs(gain) < ROUNDING else NO_SPREAD
    if abs(gain) <= spread:
        return WITHIN_SPREAD
    if gain < 0:
        return HARMS
    return BELOW_MAJORITY if pair["score"] <= pair["majority"] else HELPS


# === All sources on one target ===


def recommendations(grid: Grid) -> list[Record]:
    """Return for every target which source to start from.

    Records have `target`, `majority`, `baseline` with its spread, `sources` (number of those
    tried), `use` (the record of the pair that helps most, None for training from scratch), `others`
    (the records of all others that help, the best first), `best` (that of the largest mean gain,
    helpful or not, None without a source), and `decided`: False where no source helps but some pair
    has too few seeds to tell.
    """
    records = []
    for record, of_target in _by_target(grid):
        ranked = sorted(of_target, key=lambda pair: -pair["gain"])
        helpful = [pair for pair in ranked if pair["helps"]]
        undecided = any(pair["verdict"] in UNDECIDED for pair in ranked)
        record |= {
            "use": helpful[0] if helpful else None,
            "others": helpful[1:],
            "best": ranked[0] if ranked else None,
            "decided": bool(helpful) or (bool(ranked) and not undecided),
        }
        records.append(record)
    return records


def by_target(grid: Grid) -> list[Record]:
    """Return a record for every target.

    `target`, `majority`, `baseline` with its spread, the mean over all sources (`transfer`,
    `gain`), the oracle (`best_source`, `best`, `best_gain`), and the numbers of sources that
    help and harm.
    """
    records = []
    for record, of_target in _by_target(grid):
        if of_target:
            best = max(of_target, key=lambda pair: pair["gain"])
            record |= {
                "transfer": float(np.mean([pair["score"] for pair in of_target])),
                "gain": float(np.mean([pair["gain"] for pair in of_target])),
                "best_source": best["source"],
                "best": best["score"],
                "best_spread": best["spread"],
                "best_gain": best["gain"],
                "helps": sum(pair["helps"] for pair in of_target),
                "harms": sum(pair["harms"] for pair in of_target),
            }
        records.append(record)
    return records


def oracle(grid: Grid) -> list[Record]:
    """Return the pair (as in `pairs`) of the best source of every target, known in hindsight."""
    return [
        max(of_target, key=lambda pair: pair["gain"])
        for _, of_target in _by_target(grid)
        if of_target
    ]


def _by_target(grid: Grid) -> list[tuple[Record, list[Record]]]:
    """Return what is known of every target without a source, and its pairs."""
    every = pairs(grid)
    records = []
    for t, target in enumerate(grid.targets):
        of_target = [pair for pair in every if pair["target"] == target]
        baseline, spread = mean_spread(grid.baseline[t][np.isfinite(grid.baseline[t])])
        record = {
            "target": target,
            "majority": float(grid.majority[t]),
            "baseline": baseline,
            "baseline_spread": spread,
            "sources": len(of_target),
        }
        records.append((record, of_target))
    return records


def mean_spread(values: Any) -> tuple[float, float]:
    """Return the mean and the sample standard deviation, NaN where they are not defined.

    >>> mean_spread([1.0, 2.0, 3.0])
    (2.0, 1.0)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of no or one value
        return float(np.mean(values)), float(np.std(values, ddof=1))


def error_reduction(score: float, baseline: float) -> float:
    """Return `transfer.relative_error_reduction`, NaN where there is no error to reduce."""
    if not baseline < 100:
        return float("nan")
    return float(transfer.relative_error_reduction(score, baseline))


def _distinct(values: Any) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))
