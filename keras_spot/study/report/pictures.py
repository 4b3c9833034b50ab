"""The pictures of a study's report."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_spot import transfer
from keras_spot.study import plots
from keras_spot.study.results import Part, Results

CURVES = 12
"""Targets up to which each gets a picture of its learning curves."""


def draw(results: Results, folder: Path) -> dict[int, list[tuple[str, Path]]]:
    """Draw what every part of a study has enough runs for.

    Args:
        results: the study's.
        folder: where the SVG files go.

    Returns:
        Number of the part -> captions and files, in the order of the report.

    Raises:
        ModuleNotFoundError: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    found = {}
    for number, part in enumerate(results.parts):
        size = "all" if part.grid.examples is None else str(part.grid.examples)
        found[number] = list(_of_part(results, part, folder, size))
    return found


def _of_part(results: Results, part: Part, folder: Path, size: str) -> Iterator[tuple[str, Path]]:
    grid = part.grid
    if part.pairs:
        gains = _matrix(part, "gain")
        path = folder / f"gains-{size}.svg"
        plots.gain_matrix(
            gains, grid.sources, grid.targets, path, spreads=_matrix(part, "gain_spread")
        )
        yield (
            "Mean gain of every source on every target over the seeds. Bold: beyond one standard "
            "deviation of the gains.",
            path,
        )
    for retrieval, choice, said in (
        (part.honest, "others", "chosen by the other seeds"),
        (part.retrieval, "same", "chosen by the score that is shown"),
    ):
        if retrieval and all(retrieval.values()):
            path = folder / f"top-k-{choice}-{size}.svg"
            plots.top_k_curve(retrieval, path, title=f"Best of the first k sources, {said}")
            yield (
                f"Prompts are trained from the k most similar sources and the best is {said}; "
                "the dashed line is what k random sources are expected to give.",
                path,
            )
    for name, tensor in part.similarities.items():
        path = folder / f"similarity-gain-{name}-{size}.svg"
        label = name.replace("_", " ")
        plots.gain_scatter(
            _mean(tensor), _mean(grid.gains), grid.sources, grid.targets, path, xlabel=label
        )
        yield f"Gain against {label}: a panel for every target, a point for every source.", path
    if len(part.embeddings) >= 3:
        names = list(part.embeddings)
        every = np.stack(list(part.embeddings.values()))
        cosines = [transfer.average_token_cosine(one, every) for one in every]
        path = folder / f"heatmap-{size}.svg"
        plots.similarity_heatmap(np.array(cosines), names, path, marked=grid.targets)
        yield (
            "Average-token cosine of all task embeddings, targets in bold; tasks are joined by "
            "the average of one minus the cosine.",
            path,
        )
        path = folder / f"map-{size}.svg"
        plots.task_map(part.embeddings, path, marked=grid.targets)
        yield "Task embeddings in the plane, by classical scaling of their cosine distances.", path
    for record in part.targets if len(grid.targets) <= CURVES else ():
        curves = _curves(results, part, record)
        if curves:
            path = folder / f"curves-{record['target'].replace('/', '.')}-{size}.svg"
            plots.learning_curves(curves, path, title=record["target"])
            yield f"{record['target']}: mean and standard deviation over the seeds.", path


def _matrix(part: Part, field: str) -> np.ndarray:
    """Return a field of the pairs, `[S, T]`."""
    grid = part.grid
    matrix = np.full((len(grid.sources), len(grid.targets)), np.nan)
    for pair in part.pairs:
        place = grid.sources.index(pair["source"]), grid.targets.index(pair["target"])
        matrix[place] = pair[field]
    return matrix


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the means over the last axis of what is there, NaN where nothing is."""
    there = np.isfinite(values)
    total = np.where(there, values, 0).sum(axis=-1)
    return np.where(there.any(axis=-1), total / np.maximum(there.sum(axis=-1), 1), np.nan)


def _curves(results: Results, part: Part, record: dict) -> dict[str, list]:
    """Return the curves from scratch and from the best and the worst source of a target."""
    target = record["target"]
    of_target = [pair for pair in part.pairs if pair["target"] == target]
    best = max(of_target, key=lambda pair: pair["gain"], default=None)
    worst = min(of_target, key=lambda pair: pair["gain"], default=None)
    wanted = {"from scratch": None}
    if best:
        wanted[f"from {best['source']} (best)"] = best["source"]
    if worst and worst is not best:
        wanted[f"from {worst['source']} (worst)"] = worst["source"]
    curves: dict[str, list] = {}
    for label, source in wanted.items():
        for row in results.rows:
            here = row["target"] == target and row["examples"] == part.grid.examples
            if here and row["source"] == source:
                curves.setdefault(label, []).append([tuple(point) for point in row["curve"]])
    return curves
