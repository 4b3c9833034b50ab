"""The pictures of a study's report."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_spot import transfer
from keras_spot.study import plots
from keras_spot.study.report.words import plain
from keras_spot.study.results import Part, Results, size_name

__all__ = ["CURVES", "MIXED", "Captioned", "Drawn", "draw"]

CURVES = 12
"""Targets up to which each gets a picture of its learning curves."""
MIXED = "each target's metric"

Captioned = list[tuple[str, Path]]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The pictures of one number of target examples, captions and files.

    Attributes:
        gains: the gain of every source on every target.
        curves: learning curves of the targets.
        top_k: the best of the first k sources.
        similarity: gain against similarity.
        tasks: the heatmap and the map of the tasks.
    """

    gains: Captioned
    curves: Captioned
    top_k: Captioned
    similarity: Captioned
    tasks: Captioned


def draw(results: Results, folder: Path) -> list[Drawn]:
    """Draw what every part of a study has enough runs for.

    Args:
        results: the study's.
        folder: where the SVG files go.

    Raises:
        MissingExtra: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    drawn = []
    for part in results.parts:
        size = "all" if part.grid.examples is None else str(part.grid.examples)
        names = {results.metrics.get(target, "score") for target in part.grid.targets}
        metric = names.pop() if len(names) == 1 else MIXED
        drawn.append(
            Drawn(
                gains=_gains(part, folder / f"gains-{size}.svg", metric),
                curves=_curves(results, part, folder, size),
                top_k=_top_k(part, folder, size, metric),
                similarity=_similarity(part, folder, size, metric),
                tasks=_tasks(part, folder, size),
            )
        )
    return drawn


def _gains(part: Part, path: Path, metric: str) -> Captioned:
    if not part.pairs:
        return []
    grid = part.grid
    gains = np.full((len(grid.sources), len(grid.targets)), np.nan)
    bold = np.zeros(gains.shape, bool)
    for pair in part.pairs:
        place = grid.sources.index(pair["source"]), grid.targets.index(pair["target"])
        gains[place] = pair["gain"]
        bold[place] = pair["helps"] or pair["harms"]
    title = f"Gain over scratch, {size_name(grid.examples)}"
    plots.gain_matrix(
        gains, grid.sources, grid.targets, path, bold=bold, title=title, metric=metric
    )
    caption = (
        "Mean gain of every source on every target over the seeds. Bold: helps or hurts beyond "
        "its spread, and not below the majority class."
    )
    return [(caption, path)]


def _curves(results: Results, part: Part, folder: Path, size: str) -> Captioned:
    if len(part.grid.targets) > CURVES:
        return []
    drawn = []
    for record in part.targets:
        target = record["target"]
        curves = _curves_of(results, part, target)
        if curves:
            path = folder / f"curves-{target.replace('/', '.')}-{size}.svg"
            plots.learning_curves(
                curves,
                path,
                title=target,
                ylabel=f"validation {results.metrics.get(target, 'score')}",
                majority=record["majority"],
            )
            several = len(part.grid.seeds) > 1
            over = "mean and standard deviation over the seeds" if several else "one seed"
            drawn.append((f"{target}: {over}.", path))
    return drawn


def _curves_of(results: Results, part: Part, target: str) -> dict[str, list]:
    """Return the curves from scratch and from the best and the worst source of a target."""
    ranked = sorted(
        (pair for pair in part.pairs if pair["target"] == target), key=lambda pair: -pair["gain"]
    )
    wanted: dict[str | None, str] = {None: "from scratch"}
    if ranked:
        wanted[ranked[0]["source"]] = f"from {ranked[0]['source']} (best)"
    if len(ranked) > 1:
        wanted[ranked[-1]["source"]] = f"from {ranked[-1]['source']} (worst)"
    curves: dict[str, list] = {}
    for source, label in wanted.items():
        for row in results.first_rows:
            here = row["target"] == target and row["examples"] == part.grid.examples
            if here and row["source"] == source:
                curves.setdefault(label, []).append([tuple(point) for point in row["curve"]])
    return curves


def _top_k(part: Part, folder: Path, size: str, metric: str) -> Captioned:
    drawn = []
    for retrieval, choice, chosen in (
        (part.by_other_seeds, "others", "chosen by the other seeds"),
        (part.retrieval, "same", "chosen by the score that is shown"),
    ):
        if retrieval and all(retrieval.values()):
            path = folder / f"top-k-{choice}-{size}.svg"
            title = f"Best of the first k sources, {chosen}"
            plots.top_k_curve(retrieval, path, title=title, metric=metric)
            caption = (
                f"Prompts are trained from the k most similar sources and the best is {chosen}; "
                "the dashed line is what k random sources are expected to give."
            )
            drawn.append((caption, path))
    return drawn


def _similarity(part: Part, folder: Path, size: str, metric: str) -> Captioned:
    drawn: Captioned = []
    grid = part.grid
    if not part.correlations:
        return drawn
    for name, values in part.similarities.items():
        path = folder / f"similarity-gain-{name}-{size}.svg"
        plots.gain_scatter(
            _mean(values),
            _mean(grid.gains),
            grid.sources,
            grid.targets,
            path,
            xlabel=plain(name),
            metric=metric,
        )
        caption = f"Gain against {plain(name)}: a panel for every target, a point for every source."
        drawn.append((caption, path))
    return drawn


def _tasks(part: Part, folder: Path, size: str) -> Captioned:
    if len(part.embeddings) < 3:
        return []
    heatmap, plane = folder / f"heatmap-{size}.svg", folder / f"map-{size}.svg"
    plots.similarity_heatmap(
        _cosines(part.embeddings),
        list(part.embeddings),
        heatmap,
        marked=part.grid.targets,
        metric="average token cosine",
    )
    plots.task_map(part.embeddings, plane, marked=part.grid.targets)
    return [
        (
            "Average-token cosine of all task embeddings, targets in bold; tasks are joined by "
            "the average of one minus the cosine.",
            heatmap,
        ),
        ("Task embeddings in the plane, by classical scaling of their cosine distances.", plane),
    ]


def _cosines(embeddings: Mapping[str, np.ndarray]) -> np.ndarray:
    every = np.stack(list(embeddings.values()))
    return np.array([transfer.average_token_cosine(one, every) for one in every])


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the means over the last axis of what is there, NaN where nothing is."""
    there = np.isfinite(values)
    total = np.where(there, values, 0).sum(axis=-1)
    return np.where(there.any(axis=-1), total / np.maximum(there.sum(axis=-1), 1), np.nan)
