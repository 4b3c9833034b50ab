"""What a report says of the methods that a study compares."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_spot.study import comparison
from keras_spot.study.report.document import Block, Paragraph, Section, Table
from keras_spot.study.report.words import DASH, around, number, percent, signed
from keras_spot.study.results import Results, size_name

__all__ = ["answer", "sections"]


def sections(results: Results) -> list[Section]:
    """Return the section of the methods, none where a study compares none."""
    methods = results.study.prompt_methods
    if not methods:
        return []
    blocks: list[Block] = [
        Paragraph(answer(results.comparison), important=True),
        _methods(results),
        _compared(results.comparison),
    ]
    return [Section("Which method trains the better prompt?", 2, blocks)]


def answer(records: Sequence[Mapping[str, Any]]) -> str:
    """Return in a sentence or two which methods are better or worse than the first.

    Args:
        records: of `comparison.compare`.
    """
    if not records:
        return "No pair of runs of two methods has finished yet."
    if all(record["verdict"] == "too few seeds" for record in records):
        seeds = max(record["seeds"] for record in records)
        return (
            f"Nothing can be claimed: with {seeds} paired seeds even all of them on one side have "
            f"a sign-test p of {comparison.sign_test(seeds, 0):.2f}, above {comparison.CLAIMED}."
        )
    sentences = []
    for verdict in ("better", "worse"):
        named = [_named(record) for record in records if record["verdict"] == verdict]
        if named:
            sentences.append(f"{verdict.capitalize()} than {records[0]['reference']}: {named[0]}")
            sentences[-1] += "".join(f"; {one}" for one in named[1:]) + "."
    reference = records[0]["reference"]
    return " ".join(sentences) or f"No method differs from {reference} beyond chance (sign test)."


def _named(record: Mapping[str, Any]) -> str:
    gain = signed(record["gain"], record["gain_spread"])
    return f"{record['method']} from {record['start']} ({gain}, p {record['p']:.3f})"


def _methods(results: Results) -> Table:
    recipe, rows = results.study.full_recipe, []
    rates = {row["method"]: row["rate"] for row in results.rows if row["kind"] in _FINAL}
    for name, method in results.study.prompt_methods.items():
        tried = [f"{rate:g}" for rate in method.learning_rates or (recipe.learning_rate,)]
        rate = rates.get(name) or (recipe.learning_rate if name in rates else None)
        cells = [
            name,
            str(method.reparameterization or "the prompt itself"),
            str(method.prompt_length or recipe.prompt_length),
            ", ".join(tried),
            DASH if rate is None else f"{rate:g}",
        ]
        rows.append(cells)
    note = (
        "The rate is the one of the best mean score on the sources after "
        f"{results.study.target_steps} steps; no target was looked at to choose it."
    )
    head = ["method", "trained", "prompt tokens", "rates tried", "rate chosen"]
    return Table(head, rows, note)


_FINAL = ("scratch", "transfer")


def _compared(records: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [
            record["method"],
            record["start"],
            size_name(record["examples"]),
            around(record["baseline"], record["baseline_spread"]),
            around(record["score"], record["spread"]),
            signed(record["gain"], record["gain_spread"]),
            f"{record['better']} / {record['worse']} of {record['seeds']}",
            number(record["p"], 3),
            f"{record['runs_better']} / {record['runs_worse']}",
            percent(record["reached"]),
            DASH if math.isnan(record["steps"]) else f"{record['steps']:.2f}",
            record["verdict"],
        ]
        for record in records
    ]
    head = ["method", "start", "examples", "first method", "score", "gain", "seeds better / worse"]
    head += ["sign test p", "runs better / worse", "reach its score", "share of steps", "verdict"]
    note = (
        "Means over the targets; ± is one standard deviation over the seeds. Gain: over the first "
        "method from the same start with the same seed, steps and examples. Share of steps: the "
        "median, over the runs, of the share of the steps after which the first method's last "
        "score is reached, by the scored checkpoints. A difference is claimed where the sign test "
        f"over the seeds has a p of at most {comparison.CLAIMED}."
    )
    return Table(head, rows, note, sortable=True)
