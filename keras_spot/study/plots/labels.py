"""Names beside points, where they cover neither points nor lines nor each other."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_spot.study.plots import style

__all__ = ["write_names"]

_DIRECTIONS = np.radians([0, 180, 90, 270, 35, 145, 215, 325])
_DISTANCES = ((0, 6), (0.15, 13), (0.3, 22), (0.45, 32))
"""What it costs to stand so many points away."""


def write_names(
    axes: Any,
    places: np.ndarray,
    names: Sequence[str],
    size: float,
    *,
    others: np.ndarray | None = None,
    lines: Sequence[np.ndarray] = (),
) -> None:
    """Write every name where it covers the fewest points, lines and names written before.

    The figure must have been laid out (`figure.draw_without_rendering()`).

    Args:
        axes: where to.
        places: `[N, 2]`, the points that are named.
        names: N names.
        size: of the letters, in points.
        others: `[M, 2]`, points without a name that must stay free. Default none.
        lines: each `[K, 2]`, the ends of straight pieces that must stay free.
    """
    unit = axes.figure.dpi / 72  # pixels in a point
    pixels = axes.transData.transform(places)
    points = pixels if others is None else np.vstack([pixels, axes.transData.transform(others)])
    taken = [_around(point, 5.5 * unit) for point in points]
    for line in lines:
        taken += [_around(point, 2 * unit) for point in _along(axes, line, 4 * unit)]
    frame = axes.get_window_extent()
    order = np.argsort(-np.abs(pixels - pixels.mean(axis=0)).sum(axis=1))  # outermost have room
    for i in order:
        width, height = len(names[i]) * size * 0.6 * unit, size * 1.25 * unit
        boxes = [
            (cost + 0.005 * side, _beside(pixels[i], angle, distance * unit, width, height))
            for cost, distance in _DISTANCES
            for side, angle in enumerate(_DIRECTIONS)
        ]
        area = width * height
        costs = [
            cost + sum(_overlap(box, t) for t in taken) / area + 3 * _outside(box, frame) / width
            for cost, box in boxes
        ]
        best = boxes[int(np.argmin(costs))][1]
        taken.append(best)
        _write(axes, names[i], places[i], best, pixels[i], size, unit)


def _write(
    axes: Any, name: str, place: Any, box: np.ndarray, pixel: np.ndarray, size: float, unit: float
) -> None:
    middle = (box[:2] + box[2:]) / 2
    far = np.hypot(*(middle - pixel)) > (box[2] - box[0]) / 2 + 10 * unit
    axes.annotate(
        name,
        place,
        xytext=axes.transData.inverted().transform(middle),
        ha="center",
        va="center",
        fontsize=size,
        zorder=4,
        arrowprops={"arrowstyle": "-", "color": style.PALE, "lw": 0.5} if far else None,
    )


def _along(axes: Any, line: np.ndarray, step: float) -> np.ndarray:
    """Return pixels along a line of straight pieces, one every `step`."""
    ends = axes.transData.transform(line)
    pieces = []
    for start, end in itertools.pairwise(ends):
        count = max(int(np.hypot(*(end - start)) / step), 1)
        pieces.append(start + (end - start) * np.linspace(0, 1, count + 1)[:, None])
    return np.vstack(pieces)


def _around(point: np.ndarray, reach: float) -> np.ndarray:
    return np.concatenate([point - reach, point + reach])


def _beside(
    point: np.ndarray, angle: float, distance: float, width: float, height: float
) -> np.ndarray:
    """Return a box beside a point, in a direction: left, bottom, right, top."""
    half = np.array([width, height]) / 2
    middle = point + np.array([np.cos(angle), np.sin(angle)]) * (distance + half)
    return np.concatenate([middle - half, middle + half])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(np.prod(np.clip(sides, 0, None)))


def _outside(box: np.ndarray, frame: Any) -> float:
    low = np.clip([frame.x0 - box[0], frame.y0 - box[1]], 0, None)
    high = np.clip([box[2] - frame.x1, box[3] - frame.y1], 0, None)
    return float(low.sum() + high.sum())
