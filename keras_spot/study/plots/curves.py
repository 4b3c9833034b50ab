"""Pictures with a line: learning curves, and the best of the first k sources."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.study.plots import style

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
    if not curves or not all(curves.values()):
        raise invalid("curves", "must hold at least one run for every name", f"{dict(curves)}")
    for name, runs in curves.items():
        if any([s for s, _ in run] != [s for s, _ in runs[0]] for run in runs):
            raise invalid("curves", "must have the same steps in all runs of a name", name)
    with style.drawing(path, (7, 4.2)) as figure:
        axes = figure.subplots()
        for i, (name, runs) in enumerate(curves.items()):
            steps = [step for step, _ in runs[0]]
            scores = np.array([[score for _, score in run] for run in runs])
            mean, spread = scores.mean(axis=0), scores.std(axis=0)
            marker = style.MARKERS[i % len(style.MARKERS)]
            (line,) = axes.plot(steps, mean, marker=marker, markersize=4, label=name)
            axes.fill_between(
                steps, mean - spread, mean + spread, color=line.get_color(), alpha=0.18, lw=0
            )
        axes.set(xlabel="step", ylabel=ylabel, title=title)
        axes.grid(True)
        axes.legend()


def top_k_curve(
    retrieval: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike,
    *,
    title: str = "Best of the first k sources",
) -> None:
    """Draw the gain of the best of the k most similar sources, beside that of k random ones.

    Args:
        retrieval: similarity -> records with `k`, `gain` and `random_gain`, as
            `keras_spot.study.analysis.retrieval` gives them.
        path: `*.png` or `*.svg`.
        title: above the picture.

    Raises:
        ValueError: nothing to draw.
        ModuleNotFoundError: without matplotlib.
    """
    if not retrieval or not all(retrieval.values()):
        raise invalid("retrieval", "must hold at least one record for every name", dict(retrieval))
    with style.drawing(path, (7, 4.6)) as figure:
        axes = figure.subplots()
        random = next(iter(retrieval.values()))
        axes.plot(
            [record["k"] for record in random],
            [record["random_gain"] for record in random],
            color=style.PALE,
            linestyle="--",
            label="k at random (expected)",
        )
        for i, (name, records) in enumerate(retrieval.items()):
            axes.plot(
                [record["k"] for record in records],
                [record["gain"] for record in records],
                marker=style.MARKERS[i % len(style.MARKERS)],
                markersize=5,
                label=name.replace("_", " "),
            )
        axes.axhline(0, color=style.INK, linewidth=0.8)
        axes.annotate(
            "from scratch",
            (1, 0),
            xytext=(-2, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            color=style.PALE,
        )
        axes.set(xlabel="k, sources tried", ylabel="gain over scratch, mean of targets")
        axes.set_title(title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(True)
        figure.legend(loc="outside lower center", ncols=2)
