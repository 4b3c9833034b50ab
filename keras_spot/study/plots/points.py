"""Pictures with a point for every task: gain against similarity, and a map of the tasks."""

import itertools
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_spot import transfer
from keras_spot.base.errors import invalid
from keras_spot.study.plots import style
from keras_spot.study.plots.labels import write_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["classical_scaling", "gain_scatter", "task_map"]

_LETTERS = 30
"""Letters beside a row of panels that fit into a line."""


def gain_scatter(
    similarities: np.ndarray,
    gains: np.ndarray,
    sources: Sequence[str],
    targets: Sequence[str],
    path: str | os.PathLike | None = None,
    *,
    xlabel: str = "similarity",
    title: str = "Gain and similarity",
    metric: str = "score",
) -> "Figure":
    """Draw gain against similarity, a panel for every target and in it a point for every source.

    A panel has the regression line, Pearson's r and its p-value, and names its best and worst
    source.

    Args:
        similarities, gains: `[S, T]` numbers, NaN where there are none.
        sources, targets: S and T names.
        path: `*.png` or `*.svg` to write. Default None.
        xlabel: what the similarity is.
        title: above the picture.
        metric: what the gains are counted in. Default `"score"`.

    Returns:
        The matplotlib `Figure`.

    Raises:
        InvalidArgument: shapes that do not fit.
        MissingExtra: without matplotlib.
    """
    x, y = np.asarray(similarities, "float64"), np.asarray(gains, "float64")
    shape = len(sources), len(targets)
    if x.shape != shape or y.shape != shape or 0 in shape:
        rule = f"must be numbers [{shape[0]}, {shape[1]}], as many as `gains`"
        raise invalid("similarities", rule, f"shapes {x.shape} and {y.shape}")
    columns = _columns(len(targets))
    rows = -(-len(targets) // columns)
    with style.drawing((2.45 * columns + 0.5, 2.2 * rows + 0.7), path) as figure:
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        drawn = []
        for t, (panel, target) in enumerate(itertools.zip_longest(panels, targets)):
            if target is None:
                panel.axis("off")
                continue
            both = np.isfinite(x[:, t]) & np.isfinite(y[:, t])
            names = [name for name, there in zip(sources, both) if there]
            drawn.append((panel, _panel(panel, x[both, t], y[both, t]), names))
            panel.set_title(target, fontsize=9.5, pad=15)
        figure.supxlabel(xlabel, fontsize=9.5)
        label = textwrap.fill(f"gain over scratch, points of {metric}", _LETTERS * rows)
        figure.supylabel(label, fontsize=9.5)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.draw_without_rendering()
        for panel, (points, lines), names in drawn:
            _name_ends(panel, points, names, lines)
    return figure


def _columns(panels: int) -> int:
    """Return a number of columns, about as many as rows, that leaves few places empty.

    >>> [_columns(n) for n in (1, 2, 3, 4, 6, 7, 10)]
    [1, 2, 3, 4, 3, 4, 5]
    """
    about = max(3, round(math.sqrt(panels * 1.2)))
    choices = [min(panels, about + more) for more in (0, 1, 2, -1)]
    return min(choices, key=lambda columns: -panels % columns)


def _panel(axes: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw points and their regression; return the points `[N, 2]` and the lines."""
    axes.axhline(0, color=style.INK, linewidth=0.6)
    axes.grid(True)
    axes.margins(0.16, 0.22)
    axes.tick_params(labelsize=7.5)
    axes.xaxis.get_major_locator().set_params(nbins=4)
    axes.scatter(x, y, s=22, color=style.COLOURS[0], alpha=0.85, linewidths=0)
    lines = []
    if len(x) >= 3 and np.ptp(x) > 0:
        slope, intercept = np.polyfit(x - x.mean(), y, 1)
        ends = np.array([x.min(), x.max()])
        lines.append(np.stack([ends, intercept + slope * (ends - x.mean())], axis=1))
        axes.plot(*lines[0].T, color=style.COLOURS[1], lw=1.4)
        r, p = transfer.correlation(x.tolist(), y.tolist())
        text = f"r = {r:.2f}, p = {p:.2f}".replace("-", "\N{MINUS SIGN}")
        axes.text(0, 1.02, text, transform=axes.transAxes, fontsize=7.5, va="bottom")
    return np.stack([x, y], axis=1), lines


def _name_ends(
    axes: Any, points: np.ndarray, names: Sequence[str], lines: Sequence[np.ndarray]
) -> None:
    """Name the sources of the lowest and of the highest gain."""
    if not len(points):
        return
    ends = sorted({int(points[:, 1].argmin()), int(points[:, 1].argmax())})
    zero = np.array([[axes.get_xlim()[0], 0.0], [axes.get_xlim()[1], 0.0]])
    chosen = [names[i] for i in ends]
    write_names(axes, points[ends], chosen, 7, others=points, lines=[*lines, zero])


def task_map(
    embeddings: Mapping[str, np.ndarray],
    path: str | os.PathLike | None = None,
    *,
    marked: Sequence[str] = (),
    title: str = "Map of tasks",
) -> "Figure":
    """Draw tasks in the plane, near each other where their embeddings point the same way.

    Classical scaling (Torgerson 1952) of the cosine distances of mean tokens: the two leading
    axes, with the share of the squared distances that each holds.

    Args:
        embeddings: task -> `[P, H]`, at least three of one width H.
        path: `*.png` or `*.svg` to write. Default None.
        marked: tasks with a marker of their own, such as the targets of a study.
        title: above the picture.

    Returns:
        The matplotlib `Figure`.

    Raises:
        InvalidArgument: fewer than three tasks.
        MissingExtra: without matplotlib.
    """
    if len(embeddings) < 3:
        rule = "must hold at least three tasks"
        raise invalid("embeddings", rule, f"{len(embeddings)}")
    names = list(embeddings)
    means = np.concatenate([transfer.unit_mean(np.asarray(e)[None]) for e in embeddings.values()])
    places, shares = classical_scaling(1 - means @ means.T)
    side = 5.2 + 0.06 * len(names)
    with style.drawing((side * 1.25, side), path) as figure:
        axes = figure.subplots()
        of_kind = np.array([name in marked for name in names])
        for kind, label in ((False, "source"), (True, "target")):
            axes.scatter(
                *places[of_kind == kind].T,
                s=42,
                color=style.COLOURS[int(kind)],
                marker=style.MARKERS[int(kind)],
                linewidths=0,
                label=label,
                zorder=3,
            )
        axes.margins(0.16, 0.12)
        axes.grid(True)
        axes.set(
            xlabel=f"first axis ({100 * shares[0]:.0f}% of the squared cosine distances)",
            ylabel=f"second axis ({100 * shares[1]:.0f}%)",
        )
        axes.set_title(title)
        if of_kind.any() and not of_kind.all():
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
        figure.draw_without_rendering()
        write_names(axes, places, names, 8.5 if len(names) <= 25 else 7.5)
    return figure


def classical_scaling(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places in the plane `[N, 2]` for squared distances `[N, N]`, and each axis' share.

    >>> places, shares = classical_scaling(np.array([[0, 1, 4], [1, 0, 1], [4, 1, 0]]))
    >>> np.abs(places[:, 0]).round(3), shares.round(3)
    (array([1., 0., 1.]), array([1., 0.]))
    """
    count = len(distances)
    centre = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(-centre @ distances @ centre / 2)
    values = np.clip(values[::-1], 0, None)
    vectors = vectors[:, ::-1][:, :2]
    # An axis has no direction of its own: the farthest task lies on its positive side.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), [0, 1]])
    total = values.sum() or 1.0
    return vectors * np.sqrt(values[:2]), values[:2] / total
