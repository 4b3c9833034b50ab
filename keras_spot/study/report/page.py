"""The HTML of a report, as text."""

import base64
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_spot.study.report.style import SCRIPT, STYLE
from keras_spot.study.results import Part, Results, size_name
from keras_spot.study.summary import headline, number, percent, signed, spread

HALF = 520
"""Points up to which a picture is as wide as half the page."""

Pictures = Mapping[int, Sequence[tuple[str, Path]]]


def page(results: Results, pictures: Pictures) -> str:
    """Return the report as one HTML document without any reference to elsewhere."""
    title = html.escape(results.study.name)
    parts = "".join(_part(n, part, pictures.get(n, ())) for n, part in enumerate(results.parts))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n{_what(results)}{parts}{_rows(results)}"
        f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _what(results: Results) -> str:
    study, status = results.study, results.status
    done, total = sum(status.done.values()), sum(status.total.values())
    recipe = study.full_recipe
    facts = {
        "Backbone": f"{Path(study.backbone).name}, fingerprint {results.rows[-1]['backbone']}",
        "Grid": f"{len(study.sources)} sources by {len(study.targets)} targets by "
        f"{len(study.seeds)} seeds",
        "Runs": f"{done} of {total} finished",
        "Steps": f"{study.source_steps} on sources, {study.target_steps} on targets and their "
        f"baselines, embeddings after {study.embedding_steps}",
        "Recipe": f"{recipe.prompt_length} prompt tokens, batch {recipe.batch_size}, "
        f"learning rate {recipe.learning_rate:g}",
        "Score": f"mean of the task's metrics at the {study.score} checkpoint, method "
        f"{study.method}"
        + (f", first {study.validation_limit} rows" if study.validation_limit else ""),
    }
    cells = "".join(f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items())
    failed = ""
    if status.failures:
        items = "".join(
            f"<li>{html.escape(f['id'])}: {html.escape(f['error'])}</li>" for f in status.failures
        )
        failed = f"<h3>Runs that went wrong</h3><ul>{items}</ul>"
    return f"<dl>{cells}</dl>\n{failed}"


def _part(number_: int, part: Part, pictures: Sequence[tuple[str, Path]]) -> str:
    name = size_name(part.grid.examples)
    text = f"<h2>{html.escape(name[0].upper() + name[1:])}</h2>\n"
    if part.pairs:
        said = "".join(f"<li>{html.escape(line)}</li>" for line in headline(part))
        text += f"<ul class=said>{said}</ul>\n"
    text += _targets(part)
    if part.pairs:
        text += _marked(part, "helps", "Where transfer helps")
        text += _marked(part, "harms", "Where transfer hurts")
        text += _retrieval(part) + _correlations(part)
    figures = "".join(_figure(caption, path) for caption, path in pictures)
    if figures:
        text += f"<h3>Pictures</h3>\n<div class=figures>{figures}</div>\n"
    return f'<section id="part-{number_}">{text}</section>\n'


def _targets(part: Part) -> str:
    head = ["target", "majority", "from scratch", "mean of sources", "mean gain", "oracle"]
    head += ["best source", "helps", "harms"]
    rows = [
        [
            record["target"],
            number(record["majority"]),
            spread(record["baseline"], record["baseline_spread"]),
            number(record.get("transfer")),
            signed(record.get("gain")),
            spread(record.get("best"), record.get("best_spread")),
            record.get("best_source", ""),
            str(record.get("helps", 0)),
            str(record.get("harms", 0)),
        ]
        for record in part.targets
    ]
    note = (
        "Majority: always the commonest answer of the training rows. Oracle: the source that is "
        "best in hindsight. ± is one standard deviation over the seeds; a source helps or harms "
        "where the mean gain lies beyond that of the gains."
    )
    return f"<h3>Targets</h3>\n{table(head, rows)}<p class=note>{note}</p>\n"


def _marked(part: Part, flag: str, title: str) -> str:
    marked = sorted((p for p in part.pairs if p[flag]), key=lambda p: -abs(p["gain"]))
    if not marked:
        return f"<h3>{title}</h3>\n<p>Nowhere beyond the spread.</p>\n"
    rows = [
        [
            pair["source"],
            pair["target"],
            spread(pair["baseline"], pair["baseline_spread"]),
            spread(pair["score"], pair["spread"]),
            f"{signed(pair['gain'])} ± {number(pair['gain_spread'])}",
            percent(pair["error_reduction"]),
        ]
        for pair in marked
    ]
    head = ["source", "target", "from scratch", "transferred", "gain", "error reduction"]
    return f"<h3>{title}</h3>\n{table(head, rows)}"


def _retrieval(part: Part) -> str:
    found = part.honest or part.retrieval
    names = [name for name in found if found[name]]
    if not names:
        return ""
    rows = []
    for i, record in enumerate(found[names[0]]):
        cells = [str(record["k"])]
        for name in names:
            here = found[name][i]
            cells.append(f"{signed(here['gain'])} (p {here['p']:.2f})")
        rows.append([*cells, signed(record["random_gain"])])
    head = ["k", *[name.replace("_", " ") for name in names], "k at random"]
    chosen = "the other seeds" if part.honest else "the score that is shown"
    note = (
        f"Gain of the best of the k most similar sources, the best chosen by {chosen}, mean of "
        "targets and seeds; p is the share of random rankings that do at least as well."
    )
    title = "Does retrieval beat a random source?"
    return f"<h3>{title}</h3>\n{table(head, rows)}<p class=note>{note}</p>\n"


def _correlations(part: Part) -> str:
    names = list(part.correlations)
    rows = [
        [cells[0]["target"], *[f"{number(c['r'], 2)} (p {number(c['p'], 2)})" for c in cells]]
        for cells in zip(*part.correlations.values())
    ]
    if not rows:
        return ""
    head = ["target", *[name.replace("_", " ") for name in names]]
    note = "Pearson's r of similarity with mean gain over the sources, and its two-sided p-value."
    return f"<h3>Similarity and gain</h3>\n{table(head, rows)}<p class=note>{note}</p>\n"


def _figure(caption: str, path: Path) -> str:
    picture = path.read_bytes()
    width = re.search(rb'<svg[^>]* width="([0-9.]+)pt"', picture)
    kind = "wide" if width and float(width[1]) > HALF else ""
    data = base64.b64encode(picture).decode("ascii")
    said = html.escape(caption)
    image = f'<img alt="{said}" src="data:image/svg+xml;base64,{data}">'
    return f'<figure class="{kind}">{image}<figcaption>{said}</figcaption></figure>\n'


def _rows(results: Results) -> str:
    head = ["kind", "source", "target", "examples", "seed", "score", "best", "step", "steps"]
    head += ["loss", "seconds"]
    rows = [
        [
            row["kind"],
            row["source"] or "",
            row["target"] or "",
            _examples(row),
            str(row["seed"]),
            f"{row['score']:.2f}",
            f"{row['best']:.2f}",
            str(row["step"]),
            str(row["steps"]),
            f"{row['loss']:.3f}",
            f"{row['seconds']:.1f}",
        ]
        for row in results.rows
    ]
    seconds = math.fsum(row["seconds"] for row in results.rows)
    note = f"{len(rows)} runs, {seconds / 60:.0f} minutes of one worker. Click a heading to sort."
    return f"<h2>Every run</h2>\n<p class=note>{note}</p>\n{table(head, rows, 'sortable')}"


def _examples(row: Mapping[str, Any]) -> str:
    return str(row["train_examples"]) if row["examples"] is None else str(row["examples"])


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return an HTML table; cells that begin like a number are set to the right.

    >>> table(["a"], [["<1>"]])
    '<div class=wide><table class=""><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;1&gt;</td></tr></tbody></table></div>\\n'
    """  # noqa: E501
    heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class=wide><table class="{kind}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def _cell(text: str) -> str:
    kind = " class=n" if text[:1].isdigit() or text[:1] in ("+", "\N{MINUS SIGN}", "-") else ""
    return f"<td{kind}>{html.escape(text)}</td>"
