"""The picture of the slopes."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases.slopes import NAMES
from benchmarks.report import line

COLORS = {"full": "#4269d0", "prompt": "#efb118"}
LABELS = {"full": "full attention", "prompt": "shared prefix"}


def slopes(measured: list[dict[str, Any]], path: Path) -> None:
    """Draw step times against each letter, with their lines."""
    from matplotlib.figure import Figure

    letters = list(dict.fromkeys(m["letter"] for m in measured))
    figure = Figure(figsize=(3.2 * len(letters), 3.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(letters)))
    for letter, axis in zip(letters, axes):
        for m in (m for m in measured if m["letter"] == letter):
            color, label = COLORS[m["attention"]], LABELS[m["attention"]]
            slope, intercept = line(m["values"], m["median"])
            ends = np.array([0, max(m["values"])])
            axis.plot(ends, 1e3 * (slope * ends + intercept), color=color, linewidth=1)
            axis.plot(m["values"], 1e3 * np.array(m["median"]), "o", color=color, label=label)
        axis.set_xlabel(f"{letter}, {NAMES[letter]}")
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("milliseconds a step")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)
