"""Bars and lines about long work, at the widths that terminals have."""

import io
import re

import pytest
from rich.console import Console

from keras_spot.base import progress


def console(width, terminal):
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_bars_fit_into_the_terminal(width):
    """At 80 columns the bar has ten characters, and no time, count or score is cut."""
    screen = console(width, terminal=True)
    with progress.bars(screen) as follow:
        report = follow("transferred (SPoT), seed 0, of a long name", 12345)
        report(12000, 12345, {"step": 12000, "loss": 0.123456, "score": 78.54})
        done = follow("source: films", 250)
        done(250, 250, {"loss": 1.5})
    text = re.sub(r"\x1b\[[?0-9]*[a-zA-Z]", "", screen.file.getvalue())
    lines = [line for line in text.splitlines() if line.strip()][-2:]
    assert all(len(line.rstrip()) <= width for line in lines)
    text = "\n".join(lines)
    assert "source: " in text
    assert "250/250" in text
    if width >= 80:
        assert "12000/12345" in text
        assert "loss 0.123  score 78.5" in text
        assert min(line.count("━") + line.count("╸") for line in lines) >= 10
    assert " in 0:0" in text


@pytest.mark.parametrize("width", [80, 120])
def test_what_has_no_number_shows_none(width):
    screen = console(width, terminal=True)
    with progress.bars(screen) as follow:
        report = follow("super_glue/boolq", 500)
        report.started(0, 500)
        report(120, 500, {"loss": 0.5})
        report.validating(120)
        report.validating(500)
    with progress.counting("auto", "evaluating super_glue/boolq", 90, screen) as answered:
        answered(90)
    text = re.sub(r"\x1b\[[?0-9]*[a-zA-Z]", "", screen.file.getvalue())
    assert "  compiling " in text
    assert "  validating " in text
    assert "None" not in text
    assert "0/500" in text
    assert "500/500" in text  # the step that is validated has been made
    assert "evaluating super_glue/boolq " in text


def test_without_a_terminal_a_line_for_every_checkpoint():
    output = console(40, terminal=False)  # lines are not broken, whatever the width
    with progress.bars(output) as follow:
        report = follow("glue/rte [seed 0]", 6)
        last = {}
        for step in range(1, 7):
            if step in (2, 4):
                last = {"step": step, "score": 50.0}
            report(step, 6, {**last, "loss": 1 / step})
    lines = output.file.getvalue().splitlines()
    assert lines == [
        "glue/rte [seed 0]: step 2/6, loss 0.5, score 50, 0:00, 0:00 left",
        "glue/rte [seed 0]: step 4/6, loss 0.25, score 50, 0:00, 0:00 left",
        "glue/rte [seed 0]: step 6/6, loss 0.167, score 50, 0:00",
    ]
