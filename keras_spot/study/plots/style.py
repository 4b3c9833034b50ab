"""How all pictures look, and how they are saved."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import invalid, missing_extra

# Okabe & Ito 2008, "Color Universal Design", without its yellow, too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "osD^vP"
INK, PALE = "#2b2b2b", "#8a8a8a"
FORMATS = ("png", "svg")
_SETTINGS: dict[str, Any] = {
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.size": 9,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "keras_spot",  # equal pictures are equal files
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
}


@contextlib.contextmanager
def drawing(path: str | os.PathLike, size: tuple[float, float], **options: Any) -> Iterator[Any]:
    """Yield an empty matplotlib `Figure` that is saved when the block ends well.

    Args:
        path: `*.png` or `*.svg`.
        size: width and height in inches.
        **options: of `Figure`.

    Raises:
        ValueError: another suffix.
        MissingExtra: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    kind = Path(path).suffix.removeprefix(".")
    if kind not in FORMATS:
        raise invalid("path", "must end in .png or .svg", f"path={str(path)!r}")
    try:
        import matplotlib
        from cycler import cycler
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise missing_extra("matplotlib", "plots") from None
    settings: Any = {**_SETTINGS, "axes.prop_cycle": cycler(color=COLOURS)}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, **{"layout": "constrained", **options})
        yield figure
        # A picture depends on its data alone, not on the day.
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        with atomic_write(path) as file:
            figure.savefig(file, format=kind, dpi=150, metadata=metadata)
