"""Pictures of training runs."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from keras_spot.errors import invalid

Curve = Sequence[tuple[int, float]]


def learning_curves(
    curves: Mapping[str, Sequence[Curve]],
    path: str | os.PathLike,
    *,
    title: str = "",
    ylabel: str = "validation score",
) -> None:
    """Draw the mean of several runs over the steps, with a band of one standard deviation.

    Args:
        curves: name -> runs (seeds), each a list of (step, score); the runs of one name share
            their steps.
        path: `*.png` or `*.svg`.
        title: above the picture.
        ylabel: what the scores are.

    Raises:
        ValueError: nothing to draw, or runs of one name with different steps.
        ModuleNotFoundError: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    from matplotlib.figure import Figure

    if not curves or not all(curves.values()):
        raise invalid("curves", "must hold at least one run for every name", f"{dict(curves)}")
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, runs in curves.items():
        steps = [step for step, _ in runs[0]]
        if any([step for step, _ in run] != steps for run in runs):
            raise invalid("curves", "must have the same steps in all runs of a name", name)
        scores = np.array([[score for _, score in run] for run in runs])
        mean, spread = scores.mean(axis=0), scores.std(axis=0)
        (line,) = axes.plot(steps, mean, marker="o", markersize=3, label=name)
        axes.fill_between(steps, mean - spread, mean + spread, color=line.get_color(), alpha=0.2)
    axes.set(xlabel="step", ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
