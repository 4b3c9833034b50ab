"""How all pictures look, on light and dark pages, and how they are saved."""

import contextlib
import functools
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_spot.base import remote
from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import invalid, missing_extra
from keras_spot.base.ownership import Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "DARK",
    "DASHES",
    "FORMATS",
    "MARKERS",
    "PICTURE",
    "adapted",
    "drawing",
    "encoded",
]

# Okabe & Ito 2008, "Color Universal Design", without its yellow, too light on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = "osD^vP"
DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
"""Upper lines are thinner and broken, so that one that coincides with it shows below."""
INK, PALE, RULE, PAPER, BLANK = "#2b2b2b", "#767676", "#e3e3e3", "#ffffff", "#ededed"
ON_LIGHT, ON_DARK = "#050505", "#fefefe"
"""Letters on a coloured cell: the cell keeps its colour on a dark page, and so do they."""
DARK = {
    INK: "#e6edf3",
    PALE: "#9aa4af",
    RULE: "#2a313a",
    PAPER: "#0f141a",
    BLANK: "#262d36",
    "#0072b2": "#4ea6e6",
    "#d55e00": "#ff8b45",
    "#009e73": "#2fc79a",
    "#cc79a7": "#e59cc6",
    "#56b4e9": "#9ad4f8",
    "#e69f00": "#ffc24d",
}
"""What colours of an SVG become on a dark page."""
FORMATS = ("png", "svg")
_MARK = "keras_spot"  # in a picture's metadata
_HEAD = 4096  # bytes in which the metadata stand
_SETTINGS: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALE,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "font.size": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "savefig.facecolor": "auto",
    "svg.hashsalt": "keras_spot",  # equal pictures are equal files
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
}


def _is_picture(file: Path) -> bool:
    with open(file, "rb") as stream:
        head = stream.read(_HEAD)
    creator = f"<dc:title>{_MARK}</dc:title>".encode()
    return b"tEXtSoftware\0" + _MARK.encode() in head or creator in head


PICTURE = Kind("picture", marked=_is_picture)


@contextlib.contextmanager
def drawing(size: tuple[float, float], path: str | os.PathLike | None) -> Iterator[Any]:
    """Yield an empty matplotlib `Figure`, saved when the block ends well and there is a path.

    Args:
        size: width and height in inches.
        path: `*.png`, `*.svg`, or None to save nothing; may be an address. An earlier picture of
            ours is replaced.

    Raises:
        InvalidArgument: another suffix, or another file there.
        MissingExtra: without matplotlib (`pip install 'keras-spot[plots]'`).
    """
    if path is not None and Path(path).suffix.removeprefix(".") not in FORMATS:
        raise invalid("path", "must end in .png or .svg", f"path={str(path)!r}")
    with _settings():
        figure = _figure_class()(figsize=size, layout="constrained")
        yield figure
        if path is not None:
            content = encoded(figure, Path(path).suffix.removeprefix("."))
            with remote.writing(path, PICTURE) as local, atomic_write(local, kind=PICTURE) as file:
                file.write(content)


def encoded(figure: "Figure", kind: str) -> bytes:
    """Return a figure as the content of a file that depends on its data alone, not on the day."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": _MARK} if kind == "svg" else {"Software": _MARK}
    with _settings():
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return adapted(buffer.getvalue()) if kind == "svg" else buffer.getvalue()


def adapted(svg: bytes) -> bytes:
    """Return an SVG that takes the colours of `DARK` where the page around it is dark.

    Browsers look the page's colour scheme up inside of pictures, too; other programs ignore the
    rule and show the light picture.
    """
    rules = [
        f'[style*="{field}: {light}"]{{{field}:{dark}!important}}'
        for light, dark in DARK.items()
        for field in ("fill", "stroke")
    ]
    sheet = f"<style>@media (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"
    head, tag, rest = svg.partition(b"<defs>")
    return head + sheet.encode() + b"\n " + tag + rest


def _settings() -> contextlib.AbstractContextManager[None]:
    try:
        import matplotlib
        from cycler import cycler
    except ModuleNotFoundError:
        raise missing_extra("matplotlib", "plots") from None
    settings: Any = {**_SETTINGS, "axes.prop_cycle": cycler(color=COLOURS)}
    return matplotlib.rc_context(settings)


@functools.cache
def _figure_class() -> "type[Figure]":
    from matplotlib.figure import Figure

    class Picture(Figure):
        """A figure that a notebook shows without pyplot."""

        def _repr_png_(self) -> bytes:
            return encoded(self, "png")

    return Picture
