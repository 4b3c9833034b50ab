"""A picture with a bar for each of a few things."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.study.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["source_weights"]


def source_weights(
    names: Sequence[str],
    weights: Sequence[float],
    path: str | os.PathLike | None = None,
    *,
    title: str = "Weights of the sources",
) -> "Figure":
    """Draw the weight of every source, the largest above; a line marks equal ones.

    Args:
        names: of the sources.
        weights: one number each, of any sign.
        path: `*.png` or `*.svg` to write. Default None.
        title: above the picture.

    Returns:
        The matplotlib `Figure`.

    Raises:
        InvalidArgument: no source, another number of weights, or one that is not finite.
        MissingExtra: without matplotlib.
    """
    values = np.asarray(weights, "float64")
    if values.shape != (len(names),) or not len(names) or not np.isfinite(values).all():
        rule = f"must be {len(names)} finite numbers, at least one"
        raise invalid("weights", rule, f"{list(weights)}")
    order = np.argsort(values, kind="stable")
    size = (4.0 + 0.07 * max(map(len, names)), 1.1 + 0.26 * len(names))
    with style.drawing(size, path) as figure:
        axes = figure.subplots()
        axes.barh(range(len(names)), values[order], color=style.COLOURS[0], height=0.66)
        axes.set_yticks(range(len(names)), [names[number] for number in order])
        axes.axvline(1 / len(names), color=style.PALE, linewidth=1, linestyle=(0, (1.5, 1.5)))
        axes.axvline(0, color=style.INK, linewidth=0.8)
        axes.set_xlabel("weight (dotted: equal weights)")
        axes.set_title(title, loc="left")
    return figure
