"""Pictures with a line: learning curves, and the best of the first k sources."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.study.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Curve", "learning_curves", "top_k_curve"]

LABEL, TITLE = 34, 44
"""Letters beside an axis and above it that fit into a line."""

_LINE = 0.19
"""Inches of a line of a legend."""

Curve = Sequence[tuple[int, float]]
_RING: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markerfacecolor": "none",
    "markeredgecolor": style.INK,
    "markeredgewidth": 1.3,
}


def learning_curves(
    curves: Mapping[str, Sequence[Curve]],
    path: str | os.PathLike | None = None,
    *,
    title: str = "",
    ylabel: str = "validation score",
    majority: float | None = None,
    mark_best: bool = False,
) -> "Figure":
    """Draw the mean of several runs over the steps, with a band of one standard deviation.

    Args:
        curves: name -> runs (seeds), each a list of (step, score); the runs of one name share
            their steps.
        path: `*.png` or `*.svg` to write. Default None.
        title: above the picture.
        ylabel: what the scores are. Default `"validation score"`.
        majority: score of the commonest answer, a dotted line. Default None.
        mark_best: ring the highest mean of every name, the step that validation would keep.

    Returns:
        The matplotlib `Figure`.

    Raises:
        InvalidArgument: nothing to draw, or runs of one name with different steps.
        MissingExtra: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    if not curves or not all(curves.values()):
        raise invalid("curves", "must hold at least one run for every name", f"{dict(curves)}")
    for name, runs in curves.items():
        if any([s for s, _ in run] != [s for s, _ in runs[0]] for run in runs):
            raise invalid("curves", "must have the same steps in all runs of a name", name)
    with style.drawing((4.6, 3.6), path) as figure:
        axes = figure.subplots()
        for i, (name, runs) in enumerate(curves.items()):
            steps = [step for step, _ in runs[0]]
            scores = np.array([[score for _, score in run] for run in runs])
            mean = scores.mean(axis=0)
            spread = scores.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(len(steps))
            line = _line(axes, steps, mean, i, len(curves), name)
            axes.fill_between(
                steps, mean - spread, mean + spread, color=line.get_color(), alpha=0.15, lw=0
            )
            if mark_best:
                _ring(axes, steps[mean.argmax()], mean.max(), i, len(curves))
        if mark_best:
            axes.plot([], [], **_RING, markersize=9, label="kept by validation")
        if majority is not None and np.isfinite(majority):
            label = f"majority class, {majority:.1f}"
            axes.axhline(majority, color=style.INK, linestyle=":", linewidth=1.2, label=label)
        axes.set(
            xlabel="step", ylabel=textwrap.fill(ylabel, LABEL), title=textwrap.fill(title, TITLE)
        )
        axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(figure)
    return figure


def top_k_curve(
    retrieval: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike | None = None,
    *,
    title: str = "Best of the first k sources",
    metric: str = "score",
) -> "Figure":
    """Draw the gain of the best of the k most similar sources, beside that of k random ones.

    Args:
        retrieval: similarity -> records with `k`, `gain` and `random_gain`, as
            `keras_spot.study.ranking.retrieval` gives them.
        path: `*.png` or `*.svg` to write. Default None.
        title: above the picture.
        metric: what the gain is counted in. Default `"score"`.

    Returns:
        The matplotlib `Figure`.

    Raises:
        InvalidArgument: nothing to draw.
        MissingExtra: without matplotlib.
    """
    if not retrieval or not all(retrieval.values()):
        raise invalid("retrieval", "must hold at least one record for every name", dict(retrieval))
    with style.drawing((4.6, 3.8), path) as figure:
        axes = figure.subplots()
        for i, (name, records) in enumerate(retrieval.items()):
            numbers, gains = zip(*[(record["k"], record["gain"]) for record in records])
            _line(axes, numbers, gains, i, len(retrieval), name.replace("_", " "))
        random = next(iter(retrieval.values()))
        axes.plot(
            [record["k"] for record in random],
            [record["random_gain"] for record in random],
            color=style.PALE,
            linestyle="--",
            label="k at random (expected)",
        )
        axes.axhline(0, color=style.INK, linewidth=0.8, label="from scratch")
        axes.set(
            xlabel="k, sources tried", ylabel=textwrap.fill(f"mean gain, points of {metric}", LABEL)
        )
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(textwrap.fill(title, TITLE))
        _legend(figure)
    return figure


def _line(axes: Any, x: Sequence[int], y: Any, place: int, count: int, label: str) -> Any:
    """Draw one of several lines: the first is the widest and lowest, the last thin and on top."""
    below = (count - 1 - place) * min(1.0, 3 / max(count - 1, 1))
    (line,) = axes.plot(
        x,
        y,
        label=label,
        color=style.COLOURS[place % len(style.COLOURS)],
        linewidth=1.6 + 1.5 * below,
        linestyle=style.DASHES[place % len(style.DASHES)],
        marker=style.MARKERS[place % len(style.MARKERS)],
        markersize=4.5 + 2.5 * below,
        markeredgecolor=style.PAPER,
        markeredgewidth=0.7,
        zorder=2 + 0.1 * place,
    )
    return line


def _ring(axes: Any, x: float, y: float, place: int, count: int) -> None:
    """Ring a point of one of several lines; rings about the same point lie in each other."""
    size = 14 + 4 * (count - 1 - place)
    axes.plot([x], [y], **_RING, markersize=size, zorder=4, clip_on=False)


def _legend(figure: "Figure") -> None:
    """Put a legend below, in two columns where the names are short enough for that."""
    legend = figure.legend(loc="outside lower left", ncols=2)
    figure.draw_without_rendering()
    if legend.get_window_extent().width > figure.bbox.width:
        legend.remove()
        legend = figure.legend(loc="outside lower left", ncols=1)
        figure.set_figheight(figure.get_figheight() + _LINE * (len(legend.texts) // 2))
