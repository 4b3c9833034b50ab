"""What a study's folder says, gathered for its report."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_spot import prompts, transfer
from keras_spot.base.errors import invalid
from keras_spot.study import analysis, ranking
from keras_spot.study import comparison as comparing
from keras_spot.study.analysis import Grid, Record
from keras_spot.study.cells import Cell
from keras_spot.study.description import Study
from keras_spot.study.table import Row, Status, StudyFolder, status

__all__ = ["Embeddings", "Part", "Results", "first_sources", "gather", "metric_name", "size_name"]

Embeddings = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Part:
    """What a study says with one number of target examples.

    Attributes:
        grid: the scores.
        recommendations, pairs, targets: see `analysis.recommendations`, `pairs` and `by_target`.
        embeddings: task -> `[P, H]`, of the sources and, by the first seed, of the targets; none
            where they are not kept, and then nothing that follows.
        similarities: name -> float64 `[S, T, R]`, NaN where a run is missing.
        retrieval: name -> `ranking.retrieval`, the best known by its own score; `{}` with one
            source.
        by_other_seeds: name -> the same, the best known by the other seeds; `{}` with one seed.
        correlations: name -> `ranking.correlations`; `{}` where there is none for any target.
    """

    grid: Grid
    recommendations: list[Record]
    pairs: list[Record]
    targets: list[Record]
    embeddings: Embeddings
    similarities: Mapping[str, np.ndarray]
    retrieval: Mapping[str, list[Record]]
    by_other_seeds: Mapping[str, list[Record]]
    correlations: Mapping[str, list[Record]]


@dataclasses.dataclass(frozen=True)
class Results:
    """What a study says.

    Attributes:
        study: its description.
        status: how far it is.
        rows: the rows of all finished runs.
        parts: one for every number of target examples.
        metrics: target -> what its score is, such as `"mean of F1 and accuracy"`.
        comparison: of a study of several methods, `comparison.compare`. What the other attributes
            say, but for `rows`, is then of the first method.
    """

    study: Study
    status: Status
    rows: Sequence[Row]
    parts: Sequence[Part]
    metrics: Mapping[str, str]
    comparison: Sequence[Record] = ()

    @property
    def first_rows(self) -> Sequence[Row]:
        """The rows of the first method, of a study of one method all."""
        return comparing.of_method(self.rows, next(iter(self.study.prompt_methods), None))


def gather(
    folder: str | os.PathLike,
    by: Mapping[str, transfer.Similarity] = transfer.SIMILARITIES,
) -> Results:
    """Analyse the study in a folder, finished or not.

    Args:
        folder: the study's folder.
        by: the similarities to retrieve by: names and functions, see `transfer`.

    Raises:
        MissingFile: no study there.
        InvalidArgument: a study without any run on a target.
    """
    place = StudyFolder(folder)
    study = place.study()
    rows = place.rows(study)
    method = next(iter(study.prompt_methods), None)
    first = comparing.of_method(rows, method)
    if not any(row["target"] is not None for row in first):
        raise invalid("folder", "must have at least one finished run on a target", place.path)
    parts = [_part(place, study, grid, by) for grid in analysis.grids(first)]
    compared: list[Record] = []
    if study.prompt_methods:
        compared = comparing.compare(rows, study.prompt_methods, study.has_own_sources)
    return Results(study, status(place), rows, parts, _metrics(first), compared)


def _part(
    place: StudyFolder, study: Study, grid: Grid, by: Mapping[str, transfer.Similarity]
) -> Part:
    sources, targets = _embeddings(place, study, grid) if place.has_embeddings else ({}, {})
    first_seed = {grid.targets[t]: embedding for (t, _), embedding in reversed(targets.items())}
    embeddings = sources | {n: first_seed[n] for n in grid.targets if n in first_seed}
    similarities = {}
    if sources:
        block = np.stack(list(sources.values()))
        similarities = {name: _similarities(grid, block, targets, by[name]) for name in by}
    choices = ["same", "others"][: min(2, len(grid.seeds))] if len(grid.sources) > 1 else []
    correlations = {name: ranking.correlations(grid, v) for name, v in similarities.items()}
    known = any(np.isfinite(record["r"]) for of in correlations.values() for record in of)
    retrieval = {
        choice: {
            name: ranking.retrieval(grid, values, choose=choice)
            for name, values in similarities.items()
        }
        for choice in choices
    }
    return Part(
        grid,
        recommendations=analysis.recommendations(grid),
        pairs=analysis.pairs(grid),
        targets=analysis.by_target(grid),
        embeddings=embeddings,
        similarities=similarities,
        retrieval=retrieval.get("same", {}),
        by_other_seeds=retrieval.get("others", {}),
        correlations=correlations if known else {},
    )


def _embeddings(
    place: StudyFolder, study: Study, grid: Grid
) -> tuple[dict[str, np.ndarray], dict[tuple[int, int], np.ndarray]]:
    """Return the embeddings `[P, H]` of the sources, and by number and seed of the targets."""
    method = next(iter(study.prompt_methods), None)
    sources = {
        name: _read(place, Cell("source", name, None, None, study.source_seed, method))
        for name in grid.sources
    }
    targets = {
        (t, r): _read(place, Cell("scratch", None, target, grid.examples, seed, method))
        for t, target in enumerate(grid.targets)
        for r, seed in enumerate(grid.seeds)
        if np.isfinite(grid.baseline[t, r])
    }
    return sources, targets


def _similarities(
    grid: Grid,
    sources: np.ndarray,
    targets: Mapping[tuple[int, int], np.ndarray],
    similarity: transfer.Similarity,
) -> np.ndarray:
    """Return float64 `[S, T, R]` for sources `[S, P, H]` and each target and seed `[P, H]`."""
    values = np.full(grid.scores.shape, np.nan)
    for (t, r), query in targets.items():
        values[:, t, r] = transfer.similarities(query, sources, similarity)
    return values


def _read(place: StudyFolder, cell: Cell) -> np.ndarray:
    return np.asarray(prompts.read(place.embedding(cell)).values)


def _metrics(rows: Sequence[Row]) -> dict[str, str]:
    return {row["target"]: metric_name(row["scores"]) for row in rows if row["target"]}


def metric_name(scores: Mapping[str, float]) -> str:
    """Return what `score` is the mean of, in words.

    >>> metric_name({"f1": 80.0, "accuracy": 70.0, "score": 75.0, "invalid": 0.0})
    'mean of F1 and accuracy'
    """
    names = [name for name in scores if name not in ("score", "invalid") and "/" not in name]
    spelled = {"f1": "F1", "macro_f1": "macro-F1", "matthews": "Matthews correlation"}
    words = [spelled.get(name, name.replace("_", " ")) for name in names]
    if len(words) < 2:
        return "".join(words) or "score"
    return f"mean of {', '.join(words[:-1])} and {words[-1]}"


def size_name(examples: int | None) -> str:
    """Return how many target examples there were, in words.

    >>> size_name(16), size_name(None)
    ('16 target examples', 'all target examples')
    """
    return f"{'all' if examples is None else examples} target examples"


def first_sources(part: Part, k: int = 1) -> list[dict[str, Any]]:
    """Return for every similarity whether the best of its first k sources beats a random k.

    Records have `similarity`, the fields of `ranking.retrieval` for that k (the best known by the
    other seeds where there are any), and `beats`: whether fewer than 5% of random rankings do
    as well.
    """
    retrieval = part.by_other_seeds or part.retrieval
    return [
        {"similarity": name, **records[k - 1], "beats": records[k - 1]["p"] < 0.05}
        for name, records in retrieval.items()
        if len(records) >= k
    ]
