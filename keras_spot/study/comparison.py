"""Which of a study's methods is better than another, and no chance (NumPy alone).

All runs of a comparison start from the same prompt, make the same steps on the same examples in the
same order; what differs is the method. They are paired by target, seed and number of examples.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from keras_spot.study.analysis import Record, compared
from keras_spot.study.cells import MIXED
from keras_spot.study.methods import Method

__all__ = [
    "CLAIMED",
    "OWN_SOURCE",
    "SCRATCH",
    "Means",
    "by_chance",
    "compare",
    "means",
    "of_method",
    "references",
    "share_of_steps",
    "sign_test",
    "verdict",
]

SCRATCH = "scratch"
OWN_SOURCE = "its source"
"""The start of runs of which each target has a source of its own."""
CLAIMED = 0.05
"""Sign-test p from which on a difference is claimed."""


def of_method(rows: Sequence[dict[str, Any]], method: str | None) -> list[dict[str, Any]]:
    """Return the rows of one method's runs on targets and their sources."""
    return [row for row in rows if row["kind"] != "tuning" and row.get("method") == method]


def references(methods: Mapping[str, Method]) -> dict[str, list[str]]:
    """Return the methods that others are compared with, and which those are.

    All others are compared with the first method; those that are more than a plain prompt also with
    the plain prompts of other lengths.
    """
    first, *others = methods
    plain = [n for n in others if not methods[n].reparameterization and not methods[n].transfer]
    more = [name for name in others if name not in plain]
    return {first: others, **{name: more for name in plain if more}}


def compare(
    rows: Sequence[dict[str, Any]], methods: Mapping[str, Method], own_sources: bool = False
) -> list[Record]:
    """Return a record for every method, start and reference that have runs beside each other.

    References are the methods of `references` from the same start; and, for every method from a
    source, the first method's runs from scratch, `"NAME from scratch"`.

    `method`; `start`, `"scratch"` or the name of the source; `examples`; `reference`; `rate`;
    `targets` and `seeds`, their numbers; `score` and `baseline` with their spreads, of the means
    over the targets by seed; `gain` and `gain_spread`, paired by seed; `better` and `worse`, the
    numbers of seeds whose mean over the targets is; `p`, of the two-sided sign test on those;
    `runs_better` and `runs_worse`, of single runs; `reached`, the share of runs that reach the
    reference's last score; `steps`, the median share of its steps that they need for that (NaN
    where no half of them does); `own_steps`, what the reference itself needs, which is less than 1
    where it has settled before or its score swings; and `verdict`.

    Args:
        rows: a study's rows.
        methods: its methods by name; see `references`.
        own_sources: whether each target has one source of its own, so that the runs from all of
            these are compared together, as `"its source"`. Default False.
    """
    grids = {name: _runs(rows, name, own_sources) for name in methods}
    records: list[Record] = []

    def add(name: str, start: str, size: int | None, reference: str, base: _Runs) -> None:
        own = _beside(grids[name], start, size)
        pairs = [(key, base[key], own[key]) for key in base if key in own]
        if pairs:
            record = {"method": name, "start": start, "examples": size, "reference": reference}
            records.append({**record, **_compared(pairs)})

    for reference, others in references(methods).items():
        for start, size in dict.fromkeys(key[:2] for key in grids[reference]):
            for name in others:
                add(name, start, size, reference, _beside(grids[reference], start, size))
    first = next(iter(methods))
    for name in methods:
        for start, size in dict.fromkeys(key[:2] for key in grids[name] if key[0] != SCRATCH):
            base = _beside(grids[first], SCRATCH, size)
            add(name, start, size, f"{first} from {SCRATCH}", base)
    return records


_Runs: TypeAlias = Mapping[tuple[str, int], Mapping[str, Any]]
"""The row of each target and seed."""


def _beside(
    runs: Mapping[tuple[str, int | None, str, int], Mapping[str, Any]], start: str, size: int | None
) -> _Runs:
    """Return by target and seed the runs that stand beside those from a start.

    What all sources are mixed in stands beside every single one.
    """
    starts = (start,) if start == SCRATCH else (start, *MIXED)
    return {key[2:]: row for key, row in runs.items() if key[0] in starts and key[1] == size}


def _runs(
    rows: Sequence[dict[str, Any]], method: str, own_sources: bool
) -> dict[tuple[str, int | None, str, int], Mapping[str, Any]]:
    def start(row: Mapping[str, Any]) -> str:
        source = row["source"]
        is_own = own_sources and source not in MIXED
        return SCRATCH if source is None else OWN_SOURCE if is_own else str(source)

    return {
        (start(row), row["examples"], row["target"], row["seed"]): row
        for row in of_method(rows, method)
        if row["target"] is not None
    }


_Pair: TypeAlias = tuple[tuple[str, int], Mapping[str, Any], Mapping[str, Any]]


def _compared(pairs: Sequence[_Pair]) -> Record:
    """Return what is known of pairs (target and seed, row of the reference, row of another)."""
    targets = list(dict.fromkeys(target for (target, _), _, _ in pairs))
    by_seed: dict[int, list[tuple[float, float]]] = {}
    for (_, seed), first, other in pairs:
        by_seed.setdefault(seed, []).append((first["score"], other["score"]))
    # A seed counts where every target has its pair: means over other targets say nothing.
    whole = [np.mean(runs, axis=0) for runs in by_seed.values() if len(runs) == len(targets)]
    means = np.array(whole).reshape(-1, 2)
    gains = means[:, 1] - means[:, 0]
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    singles = [other["score"] - first["score"] for _, first, other in pairs]
    shares = [share_of_steps(first, other) for _, first, other in pairs]
    record: Record = {
        "rate": pairs[0][2].get("rate"),
        "targets": len(targets),
        **compared(means[:, 0], means[:, 1]),
        "better": better,
        "worse": worse,
        "p": sign_test(better, worse),
        "runs_better": sum(single > 0 for single in singles),
        "runs_worse": sum(single < 0 for single in singles),
        "reached": sum(math.isfinite(share) for share in shares) / len(shares),
        "steps": _median(shares),
        "own_steps": _median([share_of_steps(first, first) for _, first, _ in pairs]),
    }
    return {**record, "verdict": verdict(record)}


def verdict(record: Mapping[str, Any]) -> str:
    """Return what may be claimed: `"better"`, `"worse"`, `"no difference shown"` or too few seeds.

    With fewer than six seeds even all of them on one side have a p above 0.05.
    """
    if sign_test(record["seeds"], 0) > CLAIMED:
        return "too few seeds"
    if record["p"] > CLAIMED:
        return "no difference shown"
    return "better" if record["better"] > record["worse"] else "worse"


def sign_test(better: int, worse: int) -> float:
    """Return the two-sided p of as uneven a split by fair coins; ties are left out.

    >>> sign_test(10, 0), sign_test(3, 0), sign_test(4, 4)
    (0.001953125, 0.25, 1.0)
    """
    count, least = better + worse, min(better, worse)
    tail = sum(math.comb(count, k) for k in range(least + 1)) / 2**count
    return min(1.0, 2 * tail)


def by_chance(records: Sequence[Mapping[str, Any]]) -> float:
    """Return how many differences would be claimed, on average, if there were none at all.

    >>> round(by_chance([{"seeds": 10}] * 100), 1)  # 0 or 1, 9 or 10 of 10 seeds
    2.1
    """
    return sum(
        math.comb(n, better) / 2**n
        for n in (record["seeds"] for record in records)
        for better in range(n + 1)
        if sign_test(better, n - better) <= CLAIMED
    )


def share_of_steps(first: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the share of its steps after which a run reaches another's last score; inf if never.

    Known to the scored checkpoints only.
    """
    goal = first["curve"][-1][1]
    reaching = [step for step, score in other["curve"] if score >= goal]
    return reaching[0] / other["steps"] if reaching else math.inf


def _median(shares: Sequence[float]) -> float:
    """Return the median where it is finite, else NaN."""
    ordered = sorted(shares)
    middle = [ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]]
    return sum(middle) / 2 if math.isfinite(middle[1]) else math.nan


# === What pictures show ===


@dataclasses.dataclass(frozen=True)
class Means:
    """Means over the targets, of runs of one start, one number of examples and the same seeds.

    Attributes:
        start: `"scratch"`, the name of a source, or `"its source"`.
        examples: of the targets; None for all.
        targets: their number.
        scores: method -> one score a seed.
        curves: method -> one curve a seed, of (step, score).
    """

    start: str
    examples: int | None
    targets: int
    scores: Mapping[str, list[float]]
    curves: Mapping[str, list[list[tuple[int, float]]]]


def means(
    rows: Sequence[dict[str, Any]], methods: Mapping[str, Method], own_sources: bool = False
) -> list[Means]:
    """Return the means over the targets by seed, of every start that two methods have run from.

    Of each method those seeds count that all of these methods have run on every target. Methods
    without runs from scratch come last, so that the others have one place in all.

    Args:
        rows, methods, own_sources: as for `compare`.
    """
    names = sorted(methods, key=lambda name: methods[name].transfer is not None)
    grids = {name: _runs(rows, name, own_sources) for name in names}
    starts = dict.fromkeys(
        key[:2] for grid in grids.values() for key in grid if key[0] not in MIXED
    )
    return [one for start in starts if (one := _means(grids, *start)) is not None]


def _means(grids: Mapping[str, Any], start: str, size: int | None) -> Means | None:
    here = {name: _beside(grid, start, size) for name, grid in grids.items()}
    targets = {target for runs in here.values() for target, _ in runs}
    whole = {}
    for name, runs in here.items():
        seeds = dict.fromkeys(seed for _, seed in runs)
        whole[name] = [s for s in seeds if all((target, s) in runs for target in targets)]
    whole = {name: seeds for name, seeds in whole.items() if seeds}
    if len(whole) < 2:
        return None
    first, *others = whole.values()
    common = [seed for seed in first if all(seed in other for other in others)]
    if not common:
        return None
    of_seed = {
        name: [[here[name][target, seed] for target in sorted(targets)] for seed in common]
        for name in whole
    }
    return Means(
        start,
        size,
        len(targets),
        {name: [_mean_score(runs) for runs in each] for name, each in of_seed.items()},
        {name: [_mean_curve(runs) for runs in each] for name, each in of_seed.items()},
    )


def _mean_score(runs: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([run["score"] for run in runs]))


def _mean_curve(runs: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    return [
        (points[0][0], float(np.mean([score for _, score in points])))
        for points in zip(*(run["curve"] for run in runs))
    ]
