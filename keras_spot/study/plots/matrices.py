"""Pictures with a cell for every pair of tasks."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.study.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MINUS", "WRITTEN", "gain_matrix", "similarity_heatmap"]

MINUS = "\N{MINUS SIGN}"
WRITTEN = 15
"""Columns up to which a cell has room for its number."""


def gain_matrix(
    gains: np.ndarray,
    sources: Sequence[str],
    targets: Sequence[str],
    path: str | os.PathLike | None = None,
    *,
    bold: np.ndarray | None = None,
    title: str = "Gain over training from scratch",
    metric: str = "score",
) -> "Figure":
    """Draw the gain of every source (rows, the best above) on every target (columns).

    Blue helps, red hurts, white is no change. Where there are few columns the numbers are
    written.

    Args:
        gains: `[S, T]` numbers, NaN where there is none.
        sources, targets: S and T names.
        path: `*.png` or `*.svg` to write. Default None.
        bold: `[S, T]` booleans, the cells to stress, such as the gains that are no chance: with
            bold numbers, or a dot where there is no room for them. Default none.
        title: above the picture.
        metric: what the gains are counted in. Default `"score"`.

    Returns:
        The matplotlib `Figure`.

    Raises:
        InvalidArgument: shapes that do not fit, or no gain at all.
        MissingExtra: without matplotlib.
    """
    gains = np.asarray(gains, "float64")
    if gains.shape != (len(sources), len(targets)) or not np.isfinite(gains).any():
        rule = f"must be numbers [{len(sources)}, {len(targets)}], not all NaN"
        raise invalid("gains", rule, f"shape={gains.shape}")
    stressed = np.zeros(gains.shape, bool) if bold is None else np.asarray(bold, bool)
    if stressed.shape != gains.shape:
        rule = f"must be booleans [{len(sources)}, {len(targets)}]"
        raise invalid("bold", rule, f"shape={stressed.shape}")
    order = _best_first(gains)
    gains, stressed = gains[order], stressed[order]
    written = len(targets) <= WRITTEN
    wide, high = (0.62, 0.34) if written else (0.27, 0.2)
    longest = max(map(len, (*sources, *targets)))
    size = (longest * 0.085 + wide * len(targets) + 1.5, longest * 0.07 + high * len(sources) + 0.9)
    with style.drawing((max(size[0], 4.5), max(size[1], 2.8)), path) as figure:
        axes = figure.subplots()
        reach = max(float(np.nanpercentile(np.abs(gains), 97)), 0.1)
        extend = "both" if (np.abs(gains[np.isfinite(gains)]) > reach).any() else "neither"
        axes.set_facecolor(style.BLANK)
        image = axes.imshow(gains, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
        _ticks(axes, [sources[i] for i in order], targets, 9 if written else 7.5)
        _grid(axes, gains.shape, 1.0 if written else 0.5)
        for s, t in np.argwhere(np.isfinite(gains)):
            if written or stressed[s, t]:
                text = f"{round(gains[s, t], 1) + 0.0:+.1f}".replace("-", MINUS)
                _write(image, s, t, text if written else "\N{BULLET}", stressed[s, t])
        bar = figure.colorbar(image, ax=axes, extend=extend, fraction=0.04, pad=0.02, shrink=0.9)
        bar.set_label(f"gain, points of {metric}")
        bar.outline.set_visible(False)
        axes.set_title(title, loc="left")
        axes.set(xlabel="target", ylabel="source")
    return figure


def _best_first(gains: np.ndarray) -> np.ndarray:
    """Return the order of the rows by their mean, rows without a number last."""
    means = [row[np.isfinite(row)].mean() if np.isfinite(row).any() else -np.inf for row in gains]
    return np.argsort(-np.array(means), kind="stable")


def similarity_heatmap(
    similarities: np.ndarray,
    names: Sequence[str],
    path: str | os.PathLike | None = None,
    *,
    marked: Sequence[str] = (),
    title: str = "Similarity of task embeddings",
    metric: str = "similarity",
) -> "Figure":
    """Draw how alike all tasks are, those that are alike beside each other, with a dendrogram.

    Clusters are joined by the average of 1 - similarity (SciPy's `linkage`), leaves in the order
    that puts the most alike side by side.

    Args:
        similarities: `[N, N]` numbers, a cosine; made symmetric.
        names: N tasks.
        path: `*.png` or `*.svg` to write. Default None.
        marked: tasks to write in bold, such as the targets of a study.
        title: above the picture.
        metric: what the similarities are. Default `"similarity"`.

    Returns:
        The matplotlib `Figure`.

    Raises:
        InvalidArgument: a shape that does not fit, fewer than two tasks, NaN.
        MissingExtra: without matplotlib.
    """
    values = np.asarray(similarities, "float64")
    count = len(names)
    if values.shape != (count, count) or count < 2 or not np.isfinite(values).all():
        rule = f"must be finite numbers [{count}, {count}] of at least 2 tasks"
        raise invalid("similarities", rule, f"shape={values.shape}")
    tree = _dendrogram(values)
    values = values[np.ix_(tree["leaves"], tree["leaves"])]
    names = [names[i] for i in tree["leaves"]]

    written = count <= WRITTEN
    cell = 0.46 if written else 0.235
    side, label = cell * count, max(map(len, names)) * (0.085 if written else 0.068)
    tall = 0.55 + 0.02 * count
    with style.drawing((side + tall + label + 1.2, side + label + 0.75), path) as figure:
        left, axes = figure.subplots(1, 2, width_ratios=[tall, side])
        figure.get_layout_engine().set(wspace=0, w_pad=0.01)
        _draw_tree(left, tree, count)
        off = values[~np.eye(count, dtype=bool)]
        image = axes.imshow(values, cmap="cividis", vmin=off.min(), vmax=off.max(), aspect="auto")
        axes.yaxis.tick_right()
        _ticks(axes, names, names, 9 if written else 7.5, upright=True)
        for tick in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            tick.set_fontweight("bold" if tick.get_text() in marked else "normal")
        _grid(axes, values.shape, 0.6 if written else 0.3)
        for i, j in np.ndindex(values.shape) if written else ():
            if i != j:
                _write(image, i, j, _short(float(values[i, j])), size=7.5)
        bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.04, shrink=0.7)
        bar.outline.set_visible(False)
        bar.set_label(metric)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _dendrogram(similarities: np.ndarray) -> dict[str, Any]:
    """Return SciPy's drawing of the tree of tasks and the order of its leaves."""
    from scipy.cluster import hierarchy
    from scipy.spatial import distance

    apart = np.clip(1 - (similarities + similarities.T) / 2, 0, None)
    np.fill_diagonal(apart, 0)
    pairwise = distance.squareform(apart, checks=False)
    tree = hierarchy.optimal_leaf_ordering(hierarchy.linkage(pairwise, "average"), pairwise)
    return dict(hierarchy.dendrogram(tree, no_plot=True))


def _draw_tree(axes: Any, tree: dict[str, Any], count: int) -> None:
    for depths, places in zip(tree["dcoord"], tree["icoord"]):
        # SciPy puts the leaves at 5, 15, 25, ...
        axes.plot([-d for d in depths], [p / 10 - 0.5 for p in places], color=style.PALE, lw=1)
    axes.set(xlim=(-1.03 * max(map(max, tree["dcoord"])), 0), ylim=(count - 0.5, -0.5))
    axes.axis("off")


def _short(value: float) -> str:
    """Return a cosine in three letters or so.

    >>> _short(0.504), _short(-0.001)
    ('.50', '.00')
    """
    return f"{round(value, 2) + 0.0:.2f}".replace("0.", ".", 1).replace("-", MINUS)


def _write(
    image: Any, row: int, column: int, text: str, bold: bool = False, size: float = 8.5
) -> None:
    """Write into a cell, in whichever letters stand out more from its colour."""
    colour = image.cmap(image.norm(image.get_array()[row, column]))
    image.axes.text(
        column,
        row,
        text,
        ha="center",
        va="center",
        fontsize=size,
        color=style.ON_DARK if _luminance(colour) < 0.18 else style.ON_LIGHT,
        fontweight="bold" if bold else "normal",
    )


def _luminance(colour: Sequence[float]) -> float:
    """Return the relative luminance of an sRGB colour, 0 to 1 (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _ticks(
    axes: Any, rows: Sequence[str], columns: Sequence[str], size: float, upright: bool = False
) -> None:
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
    axes.set_yticks(range(len(rows)), rows, fontsize=size)
    if len(columns) <= WRITTEN and not upright:
        for tick in axes.get_xticklabels():
            tick.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)


def _grid(axes: Any, shape: tuple[int, ...], width: float) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=style.PAPER, linewidth=width)
    axes.tick_params(which="minor", length=0)
