"""A picture of scores with their spreads."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.study.plots import style
from keras_spot.study.plots.curves import TITLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["method_scores"]


def method_scores(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    path: str | os.PathLike | None = None,
    *,
    title: str = "Methods",
    metric: str = "score",
) -> "Figure":
    """Draw the scores of methods: a dot a seed, the mean and one standard deviation.

    Args:
        scores: start -> method -> one score a seed. Methods stand in the order in which they
            first come, the first above.
        path: `*.png` or `*.svg` to write. Default None.
        title: above the picture.
        metric: what the scores are. Default `"score"`.

    Returns:
        The matplotlib `Figure`.

    Raises:
        InvalidArgument: nothing to draw.
        MissingExtra: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    names = list(dict.fromkeys(name for of_start in scores.values() for name in of_start))
    if not names or not all(len(runs) for each in scores.values() for runs in each.values()):
        raise invalid("scores", "must hold at least one score for every method", f"{dict(scores)}")
    height = 0.15 + 0.2 * len(scores)
    with style.drawing((4.6, 1.3 + height * len(names)), path) as figure:
        axes = figure.subplots()
        for place, (start, of_start) in enumerate(scores.items()):
            colour = style.COLOURS[place % len(style.COLOURS)]
            marker = style.MARKERS[place % len(style.MARKERS)]
            shift = (place - (len(scores) - 1) / 2) * 0.2 / height
            for number, name in enumerate(names):
                runs = np.asarray(of_start.get(name, ()), "float64")
                if not len(runs):
                    continue
                row = number + shift
                axes.plot(runs, np.full(len(runs), row), ".", color=colour, alpha=0.3, markersize=4)
                axes.errorbar(
                    runs.mean(),
                    row,
                    xerr=runs.std(ddof=1) if len(runs) > 1 else None,
                    color=colour,
                    marker=marker,
                    markersize=6,
                    markeredgecolor=style.PAPER,
                    markeredgewidth=0.7,
                    elinewidth=1.6,
                )
            axes.plot([], [], linestyle="none", marker=marker, color=colour, label=start)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.grid(True, axis="x")
        axes.set_xlabel(metric)
        figure.suptitle(
            textwrap.fill(title, TITLE), x=0.01, ha="left", fontsize=11, fontweight="bold"
        )
        if len(scores) > 1:
            figure.legend(loc="outside lower left", ncols=2)
    return figure
