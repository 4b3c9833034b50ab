"""Everything that is to be said of a study's folder, gathered for the summary and the report."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_spot import prompts, transfer
from keras_spot.base.errors import invalid
from keras_spot.study import analysis
from keras_spot.study.analysis import Grid, Record
from keras_spot.study.cells import Cell
from keras_spot.study.description import Study
from keras_spot.study.table import Row, Status, StudyFolder, status

Embeddings = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Part:
    """What a study says with one number of target examples.

    Attributes:
        grid: the scores.
        pairs, targets, oracle: see `analysis.pairs`, `by_target` and `oracle`.
        embeddings: task -> `[P, H]`, of the sources and, by the first seed, of the targets.
        similarities: name -> float64 `[S, T, R]`, NaN where a run is missing.
        retrieval: name -> `analysis.retrieval`, the best known by its own score.
        honest: name -> the same, the best known by the other seeds; `{}` with one seed.
        correlations: name -> `analysis.correlations`.
    """

    grid: Grid
    pairs: list[Record]
    targets: list[Record]
    oracle: list[Record]
    embeddings: Embeddings
    similarities: Mapping[str, np.ndarray]
    retrieval: Mapping[str, list[Record]]
    honest: Mapping[str, list[Record]]
    correlations: Mapping[str, list[Record]]


@dataclasses.dataclass(frozen=True)
class Results:
    """What a study says.

    Attributes:
        study: its description.
        status: how far it is.
        rows: the rows of all finished runs.
        parts: one for every number of target examples.
    """

    study: Study
    status: Status
    rows: Sequence[Row]
    parts: Sequence[Part]


def gather(
    folder: str | os.PathLike,
    by: Mapping[str, transfer.Similarity] = transfer.SIMILARITIES,
) -> Results:
    """Analyse the study in a folder, finished or not.

    Args:
        folder: the study's folder.
        by: the similarities to retrieve by: names and functions, see `transfer`.

    Raises:
        FileNotFoundError: no study there.
        ValueError: a study without any run on a target.
    """
    place = StudyFolder(folder)
    study = place.study()
    rows = place.rows(study)
    if not any(row["kind"] != "source" for row in rows):
        raise invalid("folder", "must have at least one finished run on a target", place.path)
    parts = [_part(place, study, grid, by) for grid in analysis.grids(rows)]
    return Results(study, status(place), rows, parts)


def _part(
    place: StudyFolder, study: Study, grid: Grid, by: Mapping[str, transfer.Similarity]
) -> Part:
    sources = {
        name: _read(place, Cell("source", name, None, None, study.source_seed))
        for name in grid.sources
    }
    runs = {
        (t, r): _read(place, Cell("scratch", None, target, grid.examples, seed))
        for t, target in enumerate(grid.targets)
        for r, seed in enumerate(grid.seeds)
        if np.isfinite(grid.baseline[t, r])
    }
    similarities = {name: np.full(grid.scores.shape, np.nan) for name in by if sources}
    for name, found in similarities.items():
        for (t, r), query in runs.items():
            found[:, t, r] = transfer.similarities(
                query, np.stack(list(sources.values())), by[name]
            )
    targets = {grid.targets[t]: query for (t, _), query in reversed(runs.items())}
    honest = len(grid.seeds) > 1
    return Part(
        grid,
        analysis.pairs(grid),
        analysis.by_target(grid),
        analysis.oracle(grid),
        {**sources, **{name: targets[name] for name in grid.targets if name in targets}},
        similarities,
        {name: analysis.retrieval(grid, found) for name, found in similarities.items()},
        {
            name: analysis.retrieval(grid, found, choose="others")
            for name, found in similarities.items()
            if honest
        },
        {name: analysis.correlations(grid, found) for name, found in similarities.items()},
    )


def _read(place: StudyFolder, cell: Cell) -> np.ndarray:
    return np.asarray(prompts.read(place.embedding(cell)).values)


def size_name(examples: int | None) -> str:
    """Return how many target examples there were, in words.

    >>> size_name(16), size_name(None)
    ('16 target examples', 'all target examples')
    """
    return f"{'all' if examples is None else examples} target examples"


def verdict(part: Part, k: int = 1) -> list[dict[str, Any]]:
    """Return for every similarity whether the best of its first k sources beats a random k.

    Records have `similarity`, the fields of `analysis.retrieval` for that k (`honest` where
    there are seeds enough), and `beats`: whether fewer than 5% of random rankings do as well.
    """
    found = part.honest or part.retrieval
    return [
        {"similarity": name, **records[k - 1], "beats": records[k - 1]["p"] < 0.05}
        for name, records in found.items()
        if len(records) >= k
    ]
