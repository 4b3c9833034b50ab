"""What a report says: which source to use first, then everything behind it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_spot.study import analysis
from keras_spot.study.report import methods, statistics
from keras_spot.study.report.document import (
    Block,
    Document,
    Facts,
    Paragraph,
    Pictures,
    Points,
    Section,
    Table,
)
from keras_spot.study.report.pictures import Captioned, Drawn
from keras_spot.study.report.words import around, capital, number, percent, several, signed
from keras_spot.study.results import Part, Results, size_name

__all__ = ["NONE", "answer", "compose", "reason"]

NONE = "none: train from scratch"


def compose(results: Results, drawn: Sequence[Drawn], of_methods: Captioned) -> Document:
    """Return the report of a study.

    Args:
        results: what the study says.
        drawn: the pictures of every part.
        of_methods: those of the methods that it compares.
    """
    sections = []
    for part, pictures in zip(results.parts, drawn):
        sections += [_answer(results, part, pictures), *_behind(part, pictures)]
    sections = [*methods.sections(results, of_methods), *sections, *_runs(results)]
    return Document(results.study.name, _lead(results), sections)


def _lead(results: Results) -> str:
    study, status = results.study, results.status
    done, total = sum(status.done.values()), sum(status.total.values())
    failed = f", {len(status.failures)} went wrong" if status.failures else ""
    return (
        f"{several(len(study.sources), 'source')} of {study.source_steps} steps, "
        f"{several(len(study.targets), 'target')} of {study.target_steps} steps, "
        f"{several(len(study.seeds), 'seed')}, backbone {Path(study.backbone).name}; {done} of "
        f"{total} runs finished{failed}."
    )


# === Which source? ===


def _answer(results: Results, part: Part, drawn: Drawn) -> Section:
    title = "Which source should I use?"
    if len(results.parts) > 1:
        title = f"Which source should I use with {size_name(part.grid.examples)}?"
    blocks: list[Block] = [
        Paragraph(answer(part.recommendations), important=True),
        _recommended(part, results.metrics),
    ]
    if drawn.gains:
        blocks.append(Pictures(drawn.gains))
    return Section(title, 2, blocks)


def answer(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the recommendations for all targets in a sentence or two.

    Args:
        records: of `analysis.recommendations`.
    """
    use = [record for record in records if record["use"]]
    scratch = [record["target"] for record in records if not record["use"] and record["decided"]]
    undecided = [record["target"] for record in records if not record["decided"]]
    sentences = []
    if use:
        starts = [f"{r['target']} from {r['use']['source']} ({_gain(r['use'])})" for r in use]
        sentences.append(f"Start {_listed(starts)}.")
    if scratch and not use and not undecided:
        sentences.append("No source helps any target: train from scratch.")
    elif scratch:
        sentences.append(f"Train {_listed(scratch)} from scratch.")
    if undecided:
        sentences.append(f"Nothing can be claimed yet about {_listed(undecided)}.")
    return " ".join(sentences)


def _recommended(part: Part, metrics: Mapping[str, str]) -> Table:
    rows = []
    for record in part.recommendations:
        use = record["use"]
        rows.append(
            [
                record["target"],
                use["source"] if use else NONE if record["decided"] else "undecided",
                _gain(use) if use else signed(None),
                around(use["score"], use["spread"]) if use else signed(None),
                around(record["baseline"], record["baseline_spread"]),
                number(record["majority"]),
                metrics.get(record["target"], "score"),
                capital(reason(record)),
            ]
        )
    head = ["target", "use", "gain", "with it", "from scratch", "majority class", "metric", "why"]
    note = (
        "Gain: points over training from scratch for the same steps on the same examples; ± is one "
        "standard deviation over the seeds. Majority class: the score of always giving the "
        "commonest training answer. A source is named where its mean gain over at least "
        f"{analysis.MIN_SEEDS} seeds lies beyond its spread and its score above the majority "
        "class. It is the best in hindsight. "
        f"{statistics.by_chance(len(part.grid.seeds), len(part.pairs))}"
    )
    return Table(head, rows, note)


def reason(record: Mapping[str, Any]) -> str:
    """Return in words why a recommendation is what it is.

    Args:
        record: of `analysis.recommendations`.
    """
    best, use = record["best"], record["use"]
    if use:
        others = [pair["source"] for pair in record["others"]]
        return "gains more than its spread" + (f"; so do {_listed(others)}" if others else "")
    if best is None:
        return "no transfer to it has finished"
    leading = f"best so far: {best['source']}, {_gain(best)}"
    if not record["decided"]:
        if best["seeds"] < analysis.MIN_SEEDS:
            return f"{several(best['seeds'], 'seed')} cannot tell chance from gain; {leading}"
        return f"gains without any spread cannot be judged; {leading}"
    if max(best["score"], record["baseline"]) <= record["majority"]:
        nearest = f"{best['source']} comes nearest with {number(best['score'])}"
        return f"nothing beats the majority class; {nearest} ({_gain(best)})"
    return f"no gain is above its spread; the best is {best['source']}, {_gain(best)}"


def _gain(pair: Mapping[str, Any]) -> str:
    return signed(pair["gain"], pair["gain_spread"])


def _listed(names: Sequence[str]) -> str:
    """Return names as one would say them.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


# === What is behind it ===


def _behind(part: Part, drawn: Drawn) -> list[Section]:
    sections = []
    if drawn.curves:
        sections.append(Section("Learning curves", 3, [Pictures(drawn.curves)]))
    if part.pairs:
        sections.append(Section("Where transfer helps and where it hurts", 3, [_marked(part)]))
        sections.append(Section("Every pair", 3, [_pairs(part)], folded=True))
    return [*sections, *statistics.sections(part, drawn)]


def _marked(part: Part) -> Points:
    words = {
        analysis.HELPS: "Helps beyond the spread",
        analysis.HARMS: "Hurts beyond the spread",
        analysis.BELOW_MAJORITY: "Gains beyond the spread, but stays below the majority class",
        analysis.TOO_FEW_SEEDS: f"Fewer than {analysis.MIN_SEEDS} seeds, nothing is claimed",
        analysis.NO_SPREAD: "The same gain with every seed, nothing is claimed",
    }
    lines = []
    for verdict, text in words.items():
        pairs = [pair for pair in part.pairs if pair["verdict"] == verdict]
        if not pairs and verdict not in (analysis.HELPS, analysis.HARMS):
            continue
        pairs.sort(key=lambda pair: -abs(pair["gain"]))
        named = [f"{pair['source']} → {pair['target']} ({_gain(pair)})" for pair in pairs]
        if verdict in analysis.UNDECIDED:
            named = []
        count = f"{len(pairs)} of {len(part.pairs)}" if pairs else "nowhere"
        lines.append(f"{text}: {count}" + (f": {', '.join(named)}." if named else "."))
    return Points(lines)


def _pairs(part: Part) -> Table:
    rows = [
        [
            pair["source"],
            pair["target"],
            around(pair["baseline"], pair["baseline_spread"]),
            around(pair["score"], pair["spread"]),
            number(pair["majority"]),
            _gain(pair),
            percent(pair["error_reduction"]),
            pair["verdict"],
        ]
        for pair in part.pairs
    ]
    head = ["source", "target", "from scratch", "transferred", "majority class", "gain"]
    return Table([*head, "error reduction", "verdict"], rows, sortable=True)


# === How it was run ===


def _runs(results: Results) -> list[Section]:
    failures = [f"{f['id']}: {f['error']}" for f in results.status.failures]
    sections = [Section("How it was run", 2, [_facts(results)])]
    if failures:
        sections.append(Section("Runs that went wrong", 3, [Points(failures)]))
    title = f"Every run ({len(results.rows)})"
    return [*sections, Section(title, 3, [_every_run(results)], folded=True, page_only=True)]


def _facts(results: Results) -> Facts:
    study, recipe = results.study, results.study.full_recipe
    minutes = sum(row["seconds"] for row in results.rows) / 60
    limit = f", first {study.validation_limit} rows" if study.validation_limit else ""
    return Facts(
        {
            "Backbone": f"{Path(study.backbone).name}, fingerprint {results.rows[-1]['backbone']}",
            "Grid": f"{several(len(study.sources), 'source')} by "
            f"{several(len(study.targets), 'target')} by {several(len(study.seeds), 'seed')}",
            "Steps": f"{study.source_steps} on sources, {study.target_steps} on targets and "
            f"from scratch, embeddings after {study.embedding_steps}",
            "Recipe": f"{recipe.prompt_length} prompt tokens, batch {recipe.batch_size}, "
            f"learning rate {recipe.learning_rate:g}",
            "Score": f"mean of the task's metrics at the {study.score} checkpoint, method "
            f"{study.method}{limit}",
            "Time": f"{several(max(1, round(minutes)), 'minute')} of one worker",
        }
    )


def _every_run(results: Results) -> Table:
    fields = ["kind", "source", "target", "examples", "seed", "step", "steps"]
    fields += ["method", "rate"] if results.study.prompt_methods else []
    digits = {"score": 2, "best": 2, "loss": 3, "seconds": 1}
    rows = []
    for row in results.rows:
        shown = row | {"examples": row["examples"] or row["train_examples"]}
        texts = ["" if shown[field] is None else str(shown[field]) for field in fields]
        numbers = [f"{row[field]:.{places}f}" for field, places in digits.items()]
        rows.append(texts + numbers)
    return Table([*fields, *digits], rows, "Click a heading to sort.", sortable=True)
