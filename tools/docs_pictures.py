"""The pictures of docs/: schemes, a study's map and gains, and the curves of the demo.

    python tools/docs_pictures.py           draws all from what is kept
    python tools/docs_pictures.py --demo    runs the demo first (minutes) and keeps its curves

The curves are kept in `docs/pictures/transfer.json`.
"""

import argparse
import json
import pathlib
import shutil
import tempfile

from keras_spot import plots
from keras_spot.study.plots import style

ROOT = pathlib.Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
CURVES = PICTURES / "transfer.json"
STUDY = ROOT / "examples" / "studies" / "tiny" / "pictures"
BLUE, ORANGE, GREEN = style.COLOURS[:3]


def run_demo() -> None:
    """Run the demo in a scratch folder and keep its curves."""
    from keras_spot.cli import demo

    with tempfile.TemporaryDirectory() as folder:
        result = demo.run_demo(folder)
    CURVES.write_text(json.dumps(result.curves, indent=1) + "\n", encoding="utf-8")


def transfer() -> None:
    """Draw the demo's curves."""
    plots.learning_curves(
        json.loads(CURVES.read_text(encoding="utf-8")),
        PICTURES / "transfer.svg",
        title="Products from films, 16 examples, 3 seeds",
        ylabel="validation accuracy",
        mark_best=True,
    )


def soft_prompt() -> None:
    """Draw a prompt and a text in front of a frozen T5."""
    with style.drawing((4.6, 2.9), PICTURES / "soft-prompt.svg") as figure:
        axes = _empty(figure, (0, 10), (0, 6.4))
        for place in range(4):
            _box(axes, 0.1 + 0.75 * place, 1.6, 0.62, 0.9, ORANGE)
        for place, word in enumerate(("a", "fine", "film")):
            left = 3.9 + 1.35 * place
            _box(axes, left, 1.6, 1.2, 0.9, BLUE)
            _text(axes, left + 0.6, 1.1, word)
        _text(axes, 1.5, 1.1, "soft prompt, P vectors")
        _text(axes, 1.5, 0.45, "trained", colour=ORANGE, weight="bold")
        _text(axes, 5.85, 0.45, "text, T vectors from the table")
        _box(axes, 0.1, 3.4, 5.4, 1.4, None, "T5 encoder", "frozen")
        _box(axes, 6.7, 3.4, 3.2, 1.4, None, "T5 decoder", "frozen")
        _arrow(axes, (1.5, 2.6), (1.5, 3.35))
        _arrow(axes, (4.7, 2.6), (4.7, 3.35))
        _arrow(axes, (5.6, 4.1), (6.6, 4.1))
        _arrow(axes, (8.3, 4.85), (8.3, 5.6))
        _text(axes, 8.3, 6.0, "“positive”", size=11, weight="bold")


def spot() -> None:
    """Draw how a source's prompt starts a target's."""
    with style.drawing((4.6, 3.3), PICTURES / "spot.svg") as figure:
        axes = _empty(figure, (0, 10), (0, 7.4))
        rows = [
            (4.4, "source task, many examples", "sampled prompt", BLUE),
            (0.8, "target task, few examples", "the source's prompt", ORANGE),
        ]
        for bottom, name, start, colour in rows:
            _text(axes, 3.6, bottom + 1.75, name, weight="bold", left=True)
            for place in range(4):
                _box(axes, 0.1 + 0.6 * place, bottom + 0.3, 0.5, 0.8, colour, alpha=0.35)
                _box(axes, 7.6 + 0.6 * place, bottom + 0.3, 0.5, 0.8, colour)
            _text(axes, 0.1, bottom - 0.3, f"start: {start}", left=True)
            _text(axes, 8.75, bottom - 0.3, "trained")
            _box(axes, 3.6, bottom, 2.9, 1.4, None, "T5", "frozen, the same")
            _arrow(axes, (2.6, bottom + 0.7), (3.5, bottom + 0.7))
            _arrow(axes, (6.6, bottom + 0.7), (7.5, bottom + 0.7))
        axes.annotate(
            "",
            (1.3, 2.0),
            (8.75, 3.8),
            arrowprops={
                "arrowstyle": "-|>",
                "color": GREEN,
                "lw": 2,
                "connectionstyle": "angle,angleA=0,angleB=-90,rad=8",
            },
        )
        _text(axes, 3.6, 3.3, "transfer: copy P x H numbers", colour=GREEN, left=True)


def _empty(figure, width, height):
    axes = figure.subplots()
    axes.set(xlim=width, ylim=height)
    axes.axis("off")
    return axes


def _box(axes, left, bottom, width, height, colour, name="", note="", alpha=1.0):
    from matplotlib.patches import FancyBboxPatch

    shape = FancyBboxPatch(
        (left, bottom),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=style.BLANK if colour is None else colour,
        edgecolor="none",
        alpha=alpha,
    )
    axes.add_patch(shape)
    if name:
        middle = left + width / 2
        _text(axes, middle, bottom + 0.62 * height, name, size=11, weight="bold")
        _text(axes, middle, bottom + 0.26 * height, note)


def _text(axes, x, y, text, size=9, colour=style.INK, weight="normal", left=False):
    axes.text(
        x,
        y,
        text,
        fontsize=size,
        color=colour,
        fontweight=weight,
        ha="left" if left else "center",
        va="center",
    )


def _arrow(axes, start, end):
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": style.PALE, "lw": 1.6})


def of_the_study() -> None:
    """Copy two pictures of the kept study."""
    shutil.copyfile(STUDY / "map-all.svg", PICTURES / "task-map.svg")
    shutil.copyfile(STUDY / "gains-all.svg", PICTURES / "gains.svg")


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", action="store_true", help="run the demo first")
    if parser.parse_args().demo:
        run_demo()
    soft_prompt()
    spot()
    of_the_study()
    if CURVES.is_file():
        transfer()


if __name__ == "__main__":
    main()
