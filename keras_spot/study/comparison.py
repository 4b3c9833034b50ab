"""Which of a study's methods is better than its first, and no chance (NumPy alone).

All runs of a comparison start from the same prompt, make the same steps on the same examples in the
same order; what differs is the method. They are paired by target, seed and number of examples.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_spot.study.analysis import Record, compared
from keras_spot.study.methods import Method

__all__ = ["CLAIMED", "SCRATCH", "compare", "of_method", "share_of_steps", "sign_test", "verdict"]

SCRATCH = "scratch"
CLAIMED = 0.05
"""Sign-test p from which on a difference is claimed."""


def of_method(rows: Sequence[dict[str, Any]], method: str | None) -> list[dict[str, Any]]:
    """Return the rows of one method's runs on targets and their sources."""
    return [row for row in rows if row["kind"] != "tuning" and row.get("method") == method]


def compare(rows: Sequence[dict[str, Any]], methods: Mapping[str, Method]) -> list[Record]:
    """Return a record for every method and start that has runs beside the first method's.

    `method`; `start`, `"scratch"` or the name of the source; `examples`; `reference`, the first
    method; `rate`; `targets` and `seeds`, their numbers; `score` and `baseline` with their spreads,
    of the means over the targets by seed; `gain` and `gain_spread`, paired by seed; `better` and
    `worse`, the numbers of seeds whose mean over the targets is; `p`, of the two-sided sign test on
    those; `runs_better` and `runs_worse`, of single runs; `reached`, the share of runs that reach
    the first method's last score; `steps`, the median share of its steps that they need for that
    (NaN where no half of them does); and `verdict`.

    Args:
        rows: a study's rows.
        methods: its methods by name, the first one what the others are compared with.
    """
    reference, *others = methods
    grids = {name: _runs(rows, name) for name in methods}
    records = []
    starts = dict.fromkeys((start, size) for start, size, _, _ in grids[reference])
    for start, size in starts:
        for name in others:
            pairs = [
                (key, grids[reference][key], grids[name][key])
                for key in grids[reference]
                if key[:2] == (start, size) and key in grids[name]
            ]
            if pairs:
                record = {"method": name, "start": start, "examples": size, "reference": reference}
                records.append({**record, **_compared(pairs)})
    return records


def _runs(
    rows: Sequence[dict[str, Any]], method: str
) -> dict[tuple[str, int | None, str, int], Mapping[str, Any]]:
    return {
        (row["source"] or SCRATCH, row["examples"], row["target"], row["seed"]): row
        for row in of_method(rows, method)
        if row["target"] is not None
    }


def _compared(pairs: Sequence[tuple[Any, Mapping[str, Any], Mapping[str, Any]]]) -> Record:
    """Return what is known of pairs (key, row of the first method, row of another)."""
    targets = list(dict.fromkeys(key[2] for key, _, _ in pairs))
    by_seed: dict[int, list[tuple[float, float]]] = {}
    for key, first, other in pairs:
        by_seed.setdefault(key[3], []).append((first["score"], other["score"]))
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
