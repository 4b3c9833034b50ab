"""What a report says of the methods that a study compares."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_spot.study import comparison
from keras_spot.study.cells import LEARNED, SHARED
from keras_spot.study.methods import Method
from keras_spot.study.report.document import Block, Paragraph, Pictures, Section, Table
from keras_spot.study.report.pictures import Captioned
from keras_spot.study.report.words import DASH, around, number, percent, signed
from keras_spot.study.results import Results, size_name

__all__ = ["answer", "sections"]


def sections(results: Results, drawn: Captioned) -> list[Section]:
    """Return the section of the methods, none where a study compares none.

    Args:
        results: what the study says.
        drawn: the pictures of the methods.
    """
    methods = results.study.prompt_methods
    if not methods:
        return []
    first = next(iter(methods))
    others = [record for record in results.comparison if record["reference"] != first]
    main = answer([record for record in results.comparison if record not in others])
    more = answer(others) if others else main
    blocks: list[Block] = [
        Paragraph(main, important=True),
        *([Paragraph(more)] if more != main else []),
        *([Pictures(drawn)] if drawn else []),
        _methods(results),
        _compared(results.comparison),
    ]
    return [Section("Which method trains the better prompt?", 2, blocks)]


def answer(records: Sequence[Mapping[str, Any]]) -> str:
    """Return in a few sentences which methods are better or worse than what they are compared with.

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
    for reference in dict.fromkeys(record["reference"] for record in records):
        own = [record for record in records if record["reference"] == reference]
        told = []
        for verdict in ("better", "worse"):
            named = [_named(record) for record in own if record["verdict"] == verdict]
            if named:
                told.append(f"{verdict.capitalize()} than {reference}: {'; '.join(named)}.")
        none = f"No method differs from {reference} beyond chance (sign test)."
        sentences += told or [none]
    return " ".join(sentences)


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
            _trained(method),
            str(method.prompt_length or recipe.prompt_length),
            ", ".join(tried),
            DASH if rate is None else f"{rate:g}",
        ]
        rows.append(cells)
    note = (
        "The rate is the one of the best mean score on the sources after "
        f"{results.study.tuning_steps or results.study.target_steps} steps; no target was looked "
        "at to choose it."
    )
    head = ["method", "trained", "prompt tokens", "rates tried", "rate chosen"]
    return Table(head, rows, note)


def _trained(method: Method) -> str:
    if method.transfer == LEARNED:
        return "the prompt and the weights of the sources it starts from"
    if method.transfer == SHARED:
        return "the prompt that all sources share, and task factors"
    trained = method.reparameterization or "the prompt itself"
    if not isinstance(trained, Mapping):
        return str(trained)
    ((name, settings),) = trained.items()
    return ", ".join([name, *(f"{key} {value}" for key, value in settings.items())])


_FINAL = ("scratch", "transfer")


def _compared(records: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [
            record["method"],
            record["reference"],
            record["start"],
            size_name(record["examples"]),
            around(record["baseline"], record["baseline_spread"]),
            around(record["score"], record["spread"]),
            signed(record["gain"], record["gain_spread"]),
            f"{record['better']} / {record['worse']} of {record['seeds']}",
            number(record["p"], 3),
            f"{record['runs_better']} / {record['runs_worse']}",
            percent(record["reached"]),
            *(_share(record[name]) for name in ("steps", "own_steps")),
            record["verdict"],
        ]
        for record in records
    ]
    head = ["method", "against", "start", "examples", "its score", "score", "gain"]
    head += ["seeds better / worse", "sign test p", "runs better / worse", "reach its score"]
    head += ["share of steps", "its own share", "verdict"]
    note = (
        "Means over the targets; ± is one standard deviation over the seeds. Gain: over the other "
        "method from the same start with the same seed, steps and examples. Share of steps: the "
        "median, over the runs, of the share of the steps after which the other's last score is "
        "reached, by the scored checkpoints; its own share is the same of the other itself. A "
        "difference is claimed where the sign test over the seeds has a p of at most "
        f"{comparison.CLAIMED}, which of these {len(records)} comparisons about "
        f"{number(comparison.by_chance(records), 1)} would have by chance alone."
    )
    return Table(head, rows, note, sortable=True)


def _share(share: float) -> str:
    return DASH if math.isnan(share) else f"{share:.2f}"
