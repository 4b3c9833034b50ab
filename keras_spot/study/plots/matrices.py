"""Pictures with a cell for every pair of tasks."""

import os
from collections.abc import Sequence

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.study.plots import style

MINUS = "\N{MINUS SIGN}"
WRITTEN = 15
"""Columns up to which a cell has room for its number."""


def gain_matrix(
    gains: np.ndarray,
    sources: Sequence[str],
    targets: Sequence[str],
    path: str | os.PathLike,
    *,
    spreads: np.ndarray | None = None,
    title: str = "Gain over training from scratch",
) -> None:
    """Draw the gain of every source (rows, the best above) on every target (columns).

    Blue helps, red hurts, white is no change. Where there are few columns the numbers are
    written, in bold where a gain lies beyond its spread.

    Args:
        gains: `[S, T]` numbers, NaN where there is none.
        sources, targets: S and T names.
        path: `*.png` or `*.svg`.
        spreads: `[S, T]` numbers, of the gains over the seeds.
        title: above the picture.

    Raises:
        ValueError: shapes that do not fit, or no gain at all.
        ModuleNotFoundError: without matplotlib.
    """
    gains = np.asarray(gains, "float64")
    if gains.shape != (len(sources), len(targets)) or not np.isfinite(gains).any():
        rule = f"must be numbers [{len(sources)}, {len(targets)}], not all NaN"
        raise invalid("gains", rule, f"shape={gains.shape}")
    means = [row[np.isfinite(row)].mean() if np.isfinite(row).any() else -np.inf for row in gains]
    order = np.argsort(-np.array(means), kind="stable")
    gains = gains[order]
    beyond = np.zeros(gains.shape, bool)
    if spreads is not None:
        beyond = np.abs(gains) > np.asarray(spreads, "float64")[order]
    written = len(targets) <= WRITTEN
    wide, high = (0.62, 0.34) if written else (0.27, 0.2)
    longest = max(map(len, (*sources, *targets)))
    size = (longest * 0.085 + wide * len(targets) + 1.5, longest * 0.07 + high * len(sources) + 0.9)
    with style.drawing(path, (max(size[0], 4.5), max(size[1], 2.8))) as figure:
        axes = figure.subplots()
        reach = max(float(np.nanpercentile(np.abs(gains), 97)), 0.1)
        extend = "both" if (np.abs(gains[np.isfinite(gains)]) > reach).any() else "neither"
        axes.set_facecolor("#ededed")
        image = axes.imshow(gains, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
        _ticks(axes, [sources[i] for i in order], targets, 9 if written else 7.5)
        _grid(axes, gains.shape, "white", 1.0 if written else 0.5)
        for s, t in np.argwhere(np.isfinite(gains)) if written else ():
            strong = abs(gains[s, t]) > 0.6 * reach
            axes.text(
                t,
                s,
                f"{round(gains[s, t], 1) + 0.0:+.1f}".replace("-", MINUS),
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if strong else style.INK,
                fontweight="bold" if beyond[s, t] else "normal",
            )
        bar = figure.colorbar(image, ax=axes, extend=extend, fraction=0.04, pad=0.02, shrink=0.9)
        bar.set_label("gain")
        bar.outline.set_visible(False)
        axes.set_title(title, loc="left")
        axes.set(xlabel="target", ylabel="source")


def similarity_heatmap(
    similarities: np.ndarray,
    names: Sequence[str],
    path: str | os.PathLike,
    *,
    marked: Sequence[str] = (),
    title: str = "Similarity of task embeddings",
) -> None:
    """Draw how alike all tasks are, those that are alike beside each other, with a dendrogram.

    Clusters are joined by the average of 1 - similarity (SciPy's `linkage`), leaves in the order
    that puts the most alike side by side.

    Args:
        similarities: `[N, N]` numbers, a cosine; made symmetric.
        names: N tasks.
        path: `*.png` or `*.svg`.
        marked: tasks to write in bold, such as the targets of a study.
        title: above the picture.

    Raises:
        ValueError: a shape that does not fit, fewer than two tasks, NaN.
        ModuleNotFoundError: without matplotlib.
    """
    values = np.asarray(similarities, "float64")
    count = len(names)
    if values.shape != (count, count) or count < 2 or not np.isfinite(values).all():
        rule = f"must be finite numbers [{count}, {count}] of at least 2 tasks"
        raise invalid("similarities", rule, f"shape={values.shape}")
    from scipy.cluster import hierarchy
    from scipy.spatial import distance

    values = (values + values.T) / 2
    apart = np.clip(1 - values, 0, None)
    np.fill_diagonal(apart, 0)
    pairwise = distance.squareform(apart, checks=False)
    tree = hierarchy.optimal_leaf_ordering(hierarchy.linkage(pairwise, "average"), pairwise)
    drawn = hierarchy.dendrogram(tree, no_plot=True)
    order = drawn["leaves"]
    values = values[np.ix_(order, order)]
    names = [names[i] for i in order]

    written = count <= WRITTEN
    cell = 0.46 if written else 0.235
    side, label = cell * count, max(map(len, names)) * (0.085 if written else 0.068)
    tall = 0.55 + 0.02 * count
    with style.drawing(path, (side + tall + label + 1.2, side + label + 0.75)) as figure:
        left, axes = figure.subplots(1, 2, width_ratios=[tall, side])
        figure.get_layout_engine().set(wspace=0, w_pad=0.01)
        for depths, places in zip(drawn["dcoord"], drawn["icoord"]):
            # SciPy puts the leaves at 5, 15, 25, ...
            left.plot([-d for d in depths], [p / 10 - 0.5 for p in places], color=style.PALE, lw=1)
        left.set(xlim=(-1.03 * max(map(max, drawn["dcoord"])), 0), ylim=(count - 0.5, -0.5))
        left.axis("off")
        off = values[~np.eye(count, dtype=bool)]
        image = axes.imshow(values, cmap="cividis", vmin=off.min(), vmax=off.max(), aspect="auto")
        axes.yaxis.tick_right()
        _ticks(axes, names, names, 9 if written else 7.5)
        for tick in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            tick.set_fontweight("bold" if tick.get_text() in marked else "normal")
        _grid(axes, values.shape, "white", 0.6 if written else 0.3)
        middle = (off.min() + off.max()) / 2
        for i, j in np.ndindex(values.shape) if written else ():
            if i != j:
                axes.text(
                    j,
                    i,
                    _short(values[i, j]),
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if values[i, j] < middle else style.INK,
                )
        bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.02, shrink=0.7)
        bar.outline.set_visible(False)
        bar.set_label("similarity")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


def _short(value):
    """Return a cosine in three letters or so.

    >>> _short(0.504), _short(-0.001)
    ('.50', '.00')
    """
    return f"{round(value, 2) + 0.0:.2f}".replace("0.", ".", 1).replace("-", MINUS)


def _ticks(axes, rows, columns, size):
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
    axes.set_yticks(range(len(rows)), rows, fontsize=size)
    if len(columns) <= WRITTEN:
        for tick in axes.get_xticklabels():
            tick.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)


def _grid(axes, shape, colour, width):
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=colour, linewidth=width)
    axes.tick_params(which="minor", length=0)
