"""The pictures of the methods that a study compares."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from keras_spot.study import comparison, plots
from keras_spot.study.comparison import Means
from keras_spot.study.report.pictures import CURVES, MIXED, Captioned
from keras_spot.study.report.words import capital, several
from keras_spot.study.results import Results, size_name

__all__ = ["draw_methods"]

TOGETHER = 6
"""Curves in one picture, which is as many as can be told apart."""


def draw_methods(results: Results, folder: Path) -> Captioned:
    """Draw the methods against each other: their scores, and how they get there.

    Args:
        results: the study's.
        folder: where the SVG files go.

    Raises:
        MissingExtra: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    study = results.study
    every = comparison.means(results.rows, study.prompt_methods, study.has_own_sources)
    names = set(results.metrics.values())
    metric = names.pop() if len(names) == 1 else MIXED
    drawn: Captioned = []
    for size in dict.fromkeys(one.examples for one in every):
        of_size = [one for one in every if one.examples == size]
        drawn += _scores(of_size, folder, metric)
        for one in of_size:
            groups = _in_one_picture(list(one.curves), results)
            drawn += [_curves(one, *group, folder, metric) for group in groups.items()]
    return drawn + _weights(results, folder)


def _scores(every: Sequence[Means], folder: Path, metric: str) -> Captioned:
    first = every[0]
    path = folder / f"methods-{_file(first)}.svg"
    plots.method_scores(
        {_start(one): one.scores for one in every},
        path,
        title=f"Methods, {size_name(first.examples)}",
        metric=f"mean over the targets, {metric}",
    )
    caption = (
        "Scores of the methods: a dot is the mean over the targets with one seed, the larger mark "
        "the mean over the seeds with one standard deviation."
    )
    return [(caption, path)]


def _in_one_picture(names: Sequence[str], results: Results) -> dict[str, list[str]]:
    """Return the methods whose curves go into one picture, by what they have in common.

    Where they are too many for one, those of each prompt length, beside the first method.
    """
    if len(names) <= TOGETHER:
        return {"": list(names)}
    study = results.study
    groups: dict[str, list[str]] = {}
    for name in names:
        length = study.prompt_methods[name].prompt_length or study.full_recipe.prompt_length
        group = groups.setdefault(f"{length} prompt tokens", [])
        group += [name] if group or name == names[0] else [names[0], name]
    return groups


def _curves(
    one: Means, common: str, names: Sequence[str], folder: Path, metric: str
) -> tuple[str, Path]:
    start = "".join(letter if letter.isalnum() else "-" for letter in one.start)
    number = f"-{common.partition(' ')[0]}" if common else ""
    path = folder / f"methods-curves-{start}-{_file(one)}{number}.svg"
    title = ", ".join(filter(None, [capital(_start(one)), common]))
    plots.learning_curves(
        {name: one.curves[name] for name in names},
        path,
        title=title,
        ylabel=f"mean over the targets, {metric}",
    )
    seeds = len(next(iter(one.scores.values())))
    caption = (
        f"{title}: mean over {several(one.targets, 'target')} after each number of "
        f"steps, {several(seeds, 'seed')}; the band is one standard deviation."
    )
    return caption, path


def _weights(results: Results, folder: Path) -> Captioned:
    """Draw the learned weights of the sources, the mean over the seeds, of every target."""
    by_target: dict[tuple[str, str], list[dict[str, float]]] = {}
    for row in results.rows:
        if row["target"] is not None and "weights" in row:
            by_target.setdefault((row["method"], row["target"]), []).append(row["weights"])
    drawn: Captioned = []
    for (method, target), runs in list(by_target.items())[:CURVES]:
        means = {name: statistics.fmean(run[name] for run in runs) for name in runs[0]}
        path = folder / f"weights-{method}-{target.replace('/', '.')}.svg"
        plots.source_weights(list(means), list(means.values()), path, title=target)
        caption = (
            f"{target}: what {method} weighs the sources' prompts by after its last step, the mean "
            f"over {several(len(runs), 'run')}."
        )
        drawn.append((caption, path))
    return drawn


def _start(one: Means) -> str:
    return "from scratch" if one.start == comparison.SCRATCH else f"from {one.start}"


def _file(one: Means) -> str:
    return "all" if one.examples is None else str(one.examples)
