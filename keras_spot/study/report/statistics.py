"""The statistics behind a report's recommendation: means, chance, retrieval, correlation."""

import math

from keras_spot.study import analysis
from keras_spot.study.analysis import Record
from keras_spot.study.report.document import Block, Pictures, Points, Section, Table
from keras_spot.study.report.pictures import Captioned, Drawn
from keras_spot.study.report.words import around, number, percent, plain, several, signed
from keras_spot.study.results import Part, first_sources, size_name

__all__ = ["by_chance", "overview", "retrieval_lines", "sections"]


def sections(part: Part, drawn: Drawn) -> list[Section]:
    """Return the sections of one number of target examples; none without a transfer."""
    if not part.pairs:
        return []
    title = f"Statistics: {size_name(part.grid.examples)}"
    chapter = [Section(title, 2, [Points(overview(part))])]
    chapter.append(Section("Targets", 3, [_targets(part)]))
    if any(part.retrieval.values()):
        title = "Does retrieval beat a random source?"
        chapter.append(_section(title, _retrieval(part), drawn.top_k))
    if part.correlations:
        chapter.append(_section("Similarity and gain", _correlations(part), drawn.similarity))
    if drawn.tasks:
        chapter.append(Section("The tasks", 3, [Pictures(drawn.tasks)]))
    return chapter


def _section(title: str, table: Table, pictures: Captioned) -> Section:
    blocks: list[Block] = [table]
    if pictures:
        blocks.append(Pictures(pictures))
    return Section(title, 3, blocks)


def overview(part: Part) -> list[str]:
    """Return the findings in sentences: does a source help, how often, and does retrieval?"""
    gains = [pair["gain"] for pair in part.pairs]
    best = [record["best_gain"] for record in part.targets if "best_gain" in record]
    helps = sum(pair["helps"] for pair in part.pairs)
    harms = sum(pair["harms"] for pair in part.pairs)
    lines = [
        f"A source changes the score by {signed(sum(gains) / len(gains))} points on the average "
        "over all pairs, against training from scratch for the same steps.",
        f"It helps in {helps} of {several(len(gains), 'pair')} and hurts in {harms}. "
        + by_chance(len(part.grid.seeds), len(gains)),
        f"The best source of every target, known in hindsight, gives "
        f"{signed(sum(best) / len(best))}.",
    ]
    return [*lines, *retrieval_lines(part)]


def by_chance(seeds: int, pairs: int) -> str:
    """Return how many means would lie beyond the spread if no source changed anything.

    The mean of n normal gains exceeds their standard deviation when Student's t of n - 1
    degrees of freedom exceeds the root of n.
    """
    if seeds < analysis.MIN_SEEDS:
        return f"With fewer than {analysis.MIN_SEEDS} seeds nothing is claimed of any pair."
    from scipy import stats

    expected = round(float(pairs * stats.t.sf(math.sqrt(seeds), seeds - 1)))
    gains = f"about {several(expected, 'gain')}" if expected else "hardly any gain"
    return f"With {seeds} seeds chance alone would put {gains} beyond the spread on either side."


def retrieval_lines(part: Part) -> list[str]:
    """Return a sentence for every similarity: does its first source beat a random one?"""
    lines = []
    for record in first_sources(part):
        answer = "beats" if record["beats"] else "does not beat"
        lines.append(
            f"The first source by {plain(record['similarity'])} {answer} a random one: gain "
            f"{signed(record['gain'])} against {signed(record['random_gain'])} expected; "
            f"{percent(record['p'])} of random rankings do at least as well."
        )
    return lines


def _targets(part: Part) -> Table:
    rows = [
        [
            record["target"],
            number(record["majority"]),
            around(record["baseline"], record["baseline_spread"]),
            number(record.get("transfer")),
            signed(record.get("gain")),
            around(record.get("best"), record.get("best_spread")),
            record.get("best_source", ""),
            f"{record.get('helps', 0)} / {record.get('harms', 0)}",
        ]
        for record in part.targets
    ]
    head = ["target", "majority class", "from scratch", "mean of sources", "mean gain", "oracle"]
    note = (
        "Oracle: the source of the largest mean gain, known in hindsight. Help / harm: how many "
        "sources do beyond their spread."
    )
    return Table([*head, "its source", "help / harm"], rows, note)


def _retrieval(part: Part) -> Table:
    """Return the table of the best of the first k sources, one column for every similarity."""
    retrieval = part.by_other_seeds or part.retrieval
    columns = [records for records in retrieval.values() if records]
    rows = []
    for records in zip(*columns):
        cells = [f"{signed(r['gain'])} (p {r['p']:.2f})" for r in records]
        rows.append([str(records[0]["k"]), *cells, signed(records[0]["random_gain"])])
    chosen = "the other seeds" if part.by_other_seeds else "the score that is shown"
    note = (
        f"Gain of the best of the k most similar sources, the best chosen by {chosen}, mean of "
        "targets and seeds; p is the share of random rankings that do at least as well."
    )
    names = [plain(name) for name, records in retrieval.items() if records]
    return Table(["k", *names, "k at random"], rows, note)


def _correlations(part: Part) -> Table:
    rows = [
        [cells[0]["target"], *map(_correlation, cells)]
        for cells in zip(*part.correlations.values())
    ]
    note = "Pearson's r of similarity with mean gain over the sources, and its two-sided p-value."
    return Table(["target", *map(plain, part.correlations)], rows, note)


def _correlation(record: Record) -> str:
    r = number(record["r"], 2)
    return r if math.isnan(record["r"]) else f"{r} (p {number(record['p'], 2)})"
