"""Pictures with a point for every task: gain against similarity, and a map of the tasks."""

import itertools
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from keras_spot import transfer
from keras_spot.base.errors import invalid
from keras_spot.study.plots import style


def gain_scatter(
    similarities: np.ndarray,
    gains: np.ndarray,
    sources: Sequence[str],
    targets: Sequence[str],
    path: str | os.PathLike,
    *,
    xlabel: str = "similarity",
    title: str = "Gain and similarity",
) -> None:
    """Draw gain against similarity, a panel for every target and in it a point for every source.

    A panel has the regression line, Pearson's r and its p-value, and names its best and worst
    source.

    Args:
        similarities, gains: `[S, T]` numbers, NaN where there are none.
        sources, targets: S and T names.
        path: `*.png` or `*.svg`.
        xlabel: what the similarity is.
        title: above the picture.

    Raises:
        ValueError: shapes that do not fit.
        ModuleNotFoundError: without matplotlib.
    """
    x, y = np.asarray(similarities, "float64"), np.asarray(gains, "float64")
    shape = len(sources), len(targets)
    if x.shape != shape or y.shape != shape or 0 in shape:
        rule = f"must be numbers [{shape[0]}, {shape[1]}], as many as `gains`"
        raise invalid("similarities", rule, f"shapes {x.shape} and {y.shape}")
    columns = min(len(targets), max(3, round(math.sqrt(len(targets) * 1.2))))
    rows = -(-len(targets) // columns)
    with style.drawing(path, (2.45 * columns + 0.5, 2.2 * rows + 0.7)) as figure:
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for t, (panel, target) in enumerate(itertools.zip_longest(panels, targets)):
            if target is None:
                panel.axis("off")
                continue
            both = np.isfinite(x[:, t]) & np.isfinite(y[:, t])
            names = [name for name, there in zip(sources, both) if there]
            _panel(panel, x[both, t], y[both, t], names)
            panel.set_title(target, fontsize=9.5, pad=15)
        figure.supxlabel(xlabel, fontsize=9.5)
        figure.supylabel("gain over scratch", fontsize=9.5)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


def _panel(axes, x, y, names):
    axes.axhline(0, color=style.INK, linewidth=0.6)
    axes.grid(True)
    axes.margins(0.12, 0.18)
    axes.tick_params(labelsize=7.5)
    axes.xaxis.get_major_locator().set_params(nbins=4)
    axes.scatter(x, y, s=22, color=style.COLOURS[0], alpha=0.85, linewidths=0)
    if len(x) >= 3 and np.ptp(x) > 0:
        slope, intercept = np.polyfit(x - x.mean(), y, 1)
        ends = np.array([x.min(), x.max()])
        axes.plot(ends, intercept + slope * (ends - x.mean()), color=style.COLOURS[1], lw=1.4)
        r, p = transfer.correlation(x.tolist(), y.tolist())
        said = f"r = {r:.2f}, p = {p:.2f}".replace("-", "\N{MINUS SIGN}")
        axes.text(0, 1.02, said, transform=axes.transAxes, fontsize=7.5, va="bottom")
    middle = (x.min() + x.max()) / 2 if len(x) else 0
    marked = {int(y.argmin()): False, int(y.argmax()): True} if len(y) else {}
    for place, above in marked.items():
        right = x[place] <= middle
        axes.annotate(
            names[place],
            (x[place], y[place]),
            xytext=(4 if right else -4, 3 if above else -3),
            textcoords="offset points",
            ha="left" if right else "right",
            va="bottom" if above else "top",
            fontsize=7,
            color=style.PALE,
        )


def task_map(
    embeddings: Mapping[str, np.ndarray],
    path: str | os.PathLike,
    *,
    marked: Sequence[str] = (),
    title: str = "Map of tasks",
) -> None:
    """Draw tasks in the plane, near each other where their embeddings point the same way.

    Classical scaling (Torgerson 1952) of the cosine distances of mean tokens: the two leading
    axes, with the share of the squared distances that each holds.

    Args:
        embeddings: task -> `[P, H]`, at least three of one width H.
        path: `*.png` or `*.svg`.
        marked: tasks with a marker of their own, such as the targets of a study.
        title: above the picture.

    Raises:
        ValueError: fewer than three tasks.
        ModuleNotFoundError: without matplotlib.
    """
    if len(embeddings) < 3:
        rule = "must hold at least three tasks"
        raise invalid("embeddings", rule, f"{len(embeddings)}")
    names = list(embeddings)
    means = np.concatenate([transfer.unit_mean(np.asarray(e)[None]) for e in embeddings.values()])
    places, shares = classical_scaling(1 - means @ means.T)
    side = 5.2 + 0.06 * len(names)
    with style.drawing(path, (side * 1.25, side)) as figure:
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
            xlabel=f"first axis ({100 * shares[0]:.0f}%)",
            ylabel=f"second axis ({100 * shares[1]:.0f}%)",
        )
        axes.set_title(title)
        if of_kind.any() and not of_kind.all():
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
        figure.draw_without_rendering()
        _label(axes, places, names, 8.5 if len(names) <= 25 else 7.5)


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


def _label(axes, places, names, size):
    """Write every name where it covers the fewest points and names written before."""
    pixels = axes.transData.transform(places)
    unit = axes.figure.dpi / 72  # pixels in a point
    reach = 5.5 * unit
    taken = [np.array([*(p - reach), *(p + reach)]) for p in pixels]
    frame = axes.get_window_extent()
    middle = pixels.mean(axis=0)
    order = np.argsort(-np.abs(pixels - middle).sum(axis=1))  # outermost first, they have room
    for i in order:
        width, height = len(names[i]) * size * 0.6 * unit, size * 1.25 * unit
        boxes = [
            (cost, side, _box(pixels[i], angle, distance * unit, width, height))
            for cost, distance in ((0, 6), (0.15, 13), (0.3, 22), (0.45, 32))
            for side, angle in enumerate(np.radians([0, 180, 90, 270, 35, 145, 215, 325]))
        ]
        best = min(
            boxes,
            key=lambda found: (
                sum(_overlap(found[2], other) for other in taken) / (width * height)
                + _outside(found[2], frame) / width
                + found[0]
                + 0.005 * found[1]
            ),
        )[2]
        taken.append(best)
        place = axes.transData.inverted().transform([(best[0] + best[2]) / 2, best[1:4:2].mean()])
        far = np.hypot(*((best[:2] + best[2:]) / 2 - pixels[i])) > width / 2 + 10 * unit
        axes.annotate(
            names[i],
            places[i],
            xytext=place,
            ha="center",
            va="center",
            fontsize=size,
            zorder=4,
            arrowprops={"arrowstyle": "-", "color": style.PALE, "lw": 0.5} if far else None,
        )


def _box(point, angle, distance, width, height):
    """Return a box beside a point, in a direction: left, bottom, right, top."""
    half = np.array([width, height]) / 2
    middle = point + np.array([np.cos(angle), np.sin(angle)]) * (distance + half)
    return np.concatenate([middle - half, middle + half])


def _overlap(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(np.prod(np.clip(sides, 0, None)))


def _outside(box, frame):
    low = np.clip([frame.x0 - box[0], frame.y0 - box[1]], 0, None)
    high = np.clip([box[2] - frame.x1, box[3] - frame.y1], 0, None)
    return float(low.sum() + high.sum())
