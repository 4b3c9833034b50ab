"""A study's findings as Markdown."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from keras_spot.study.results import Part, Results, size_name, verdict

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def markdown(results: Results) -> str:
    """Return what a study says as Markdown: headline, tables, what helps and what harms."""
    study, status = results.study, results.status
    done, total = sum(status.done.values()), sum(status.total.values())
    text = [
        f"# {study.name}",
        "",
        f"Backbone `{study.backbone}`, {len(study.sources)} sources of {study.source_steps} steps, "
        f"{len(study.targets)} targets of {study.target_steps} steps, {len(study.seeds)} seeds; "
        f"{done} of {total} runs finished. A run's score is that of its {study.score} checkpoint; "
        "± is one standard deviation over the seeds; gains are against the same target from "
        "scratch for the same steps on the same examples.",
        "",
    ]
    for part in results.parts:
        text += _part(part)
    return "\n".join(text)


def _part(part: Part) -> list[str]:
    text = [f"## {_capital(size_name(part.grid.examples))}", "", *_targets(part), ""]
    if not part.pairs:
        return text
    text[2:2] = [*[f"- {line}" for line in headline(part)], ""]
    text += [
        "### Retrieval",
        "",
        *_retrieval(part),
        "",
        "### Similarity and gain",
        "",
        *_correlations(part),
        "",
    ]
    text += ["### Where transfer helps and where it hurts", "", *_marked(part), ""]
    return [*text, "### Every pair", "", *_pairs(part), ""]


def headline(part: Part) -> list[str]:
    """Return the findings in sentences: does a source help, how often, and does retrieval?"""
    gains = [pair["gain"] for pair in part.pairs]
    best = [record["best_gain"] for record in part.targets if "best_gain" in record]
    helps = sum(pair["helps"] for pair in part.pairs)
    harms = sum(pair["harms"] for pair in part.pairs)
    lines = [
        f"A source changes the score by {signed(sum(gains) / len(gains))} points on the average "
        "over all pairs, against training from scratch for the same steps.",
        f"It helps beyond the spread in {helps} of {len(gains)} pairs and hurts in {harms}. "
        + _by_chance(len(part.grid.seeds), len(gains)),
        f"The best source of every target, known in hindsight, gives "
        f"{signed(sum(best) / len(best))}.",
    ]
    return [*lines, *retrieval_lines(part)]


def _by_chance(seeds: int, pairs: int) -> str:
    """Return how many means would lie beyond the spread if no source changed anything.

    The mean of n normal gains exceeds their standard deviation when Student's t of n - 1
    degrees of freedom exceeds the root of n.
    """
    if seeds < 2:
        return "One seed has no spread, so that nothing is flagged."
    from scipy import stats

    expected = pairs * stats.t.sf(math.sqrt(seeds), seeds - 1)
    return f"With {seeds} seeds chance alone would put about {expected:.0f} on either side."


def retrieval_lines(part: Part) -> list[str]:
    """Return a sentence for every similarity: does its first source beat a random one?"""
    lines = []
    for found in verdict(part):
        answer = "beats" if found["beats"] else "does not beat"
        name = found["similarity"].replace("_", " ")
        lines.append(
            f"The first source by {name} {answer} a random one: gain {signed(found['gain'])} "
            f"against {signed(found['random_gain'])} expected; {percent(found['p'])} of random "
            "rankings do at least as well."
        )
    return lines


def _targets(part: Part) -> list[str]:
    rows = [
        [
            record["target"],
            number(record["majority"]),
            spread(record["baseline"], record["baseline_spread"]),
            number(record.get("transfer")),
            signed(record.get("gain")),
            spread(record.get("best"), record.get("best_spread")),
            record.get("best_source", ""),
            f"{record.get('helps', 0)} / {record.get('harms', 0)}",
        ]
        for record in part.targets
    ]
    head = ["target", "majority", "from scratch", "mean of sources", "mean gain", "oracle"]
    return table([*head, "its source", "help / harm"], rows)


def _retrieval(part: Part) -> list[str]:
    names = list(part.retrieval)
    head = ["best of top k"]
    for name in names:
        head += [name.replace("_", " ")] + (["chosen by other seeds"] if part.honest else [])
    head += ["random k"] + (["chosen by other seeds"] if part.honest else [])
    rows = []
    for i, record in enumerate(part.retrieval[names[0]]):
        cells = [str(record["k"])]
        kinds = [part.retrieval, *([part.honest] if part.honest else [])]
        for name in names:
            cells += [_scored(kind[name][i]) for kind in kinds]
        cells += [f"{kind[names[0]][i]['random']:.1f}" for kind in kinds]
        rows.append(cells)
    return table(head, rows)


def _scored(record: dict[str, Any]) -> str:
    return f"{record['score']:.1f} ({percent(record['error_reduction'])}, p {record['p']:.2f})"


def _correlations(part: Part) -> list[str]:
    names = list(part.correlations)
    head = ["target", *[f"{name.replace('_', ' ')}: r (p)" for name in names]]
    columns = [part.correlations[name] for name in names]
    rows = [
        [cells[0]["target"], *[f"{number(c['r'], 2)} ({number(c['p'], 2)})" for c in cells]]
        for cells in zip(*columns)
    ]
    return table(head, rows)


def _marked(part: Part) -> list[str]:
    lines = []
    for flag, word in (("helps", "Helps"), ("harms", "Hurts")):
        marked = [pair for pair in part.pairs if pair[flag]]
        marked.sort(key=lambda pair: -abs(pair["gain"]))
        said = ", ".join(
            f"{pair['source']} → {pair['target']} ({signed(pair['gain'])} ± "
            f"{pair['gain_spread']:.1f})"
            for pair in marked
        )
        lines.append(f"- {word} beyond the spread ({len(marked)} of {len(part.pairs)}): {said}")
    return lines


def _pairs(part: Part) -> list[str]:
    rows = [
        [
            pair["source"],
            pair["target"],
            spread(pair["baseline"], pair["baseline_spread"]),
            spread(pair["score"], pair["spread"]),
            f"{signed(pair['gain'])} ± {number(pair['gain_spread'])}",
            percent(pair["error_reduction"]),
            "helps" if pair["helps"] else "harms" if pair["harms"] else "",
        ]
        for pair in part.pairs
    ]
    return table(
        ["source", "target", "from scratch", "transferred", "gain", "error reduction", ""], rows
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table.

    >>> table(["a", "b"], [["1", "2"]])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    lines = [list(head), *rows]
    text = [f"| {' | '.join(cells)} |" for cells in lines]
    return [text[0], "|" + "---|" * len(head), *text[1:]]


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with so many digits, a dash where there is none.

    >>> number(1.25), number(float("nan"))
    ('1.2', '–')
    """
    if value is None or math.isnan(value):
        return DASH
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """Return a number with its sign.

    >>> signed(1.25), signed(-3), signed(None)
    ('+1.2', '−3.0', '–')
    """
    if value is None or math.isnan(value):
        return DASH
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", MINUS)


def spread(mean: float | None, deviation: float | None) -> str:
    """Return a mean with its spread, where it has one.

    >>> spread(70.0, 1.5), spread(70.0, float("nan"))
    ('70.0 ± 1.5', '70.0')
    """
    around = number(deviation)
    return number(mean) + ("" if around == DASH else f" ± {around}")


def percent(value: float) -> str:
    """Return a fraction as a percentage.

    >>> percent(0.589), percent(-0.1)
    ('59%', '−10%')
    """
    return DASH if math.isnan(value) else f"{100 * value:.0f}%".replace("-", MINUS)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
