"""Progress of long work: bars in a terminal, a line at every checkpoint elsewhere (rich)."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

Report = Callable[[int, int, Mapping[str, Any]], None]

_COUNT, _CLOCK, _SCORES, _GAPS = 11, 10, 24, 4
_BAR, _WIDEST_BAR, _WIDEST_NAME = 10, 40, 40


@contextlib.contextmanager
def bars(console: "Console | None" = None) -> Iterator[Callable[[str, int], Report]]:
    """Show bars while the block runs, or lines where the output is no terminal.

    Yields a function that adds a bar (description, steps) and returns what reports on it: a
    function of step, total steps and logs, such as `keras_spot.train` takes as `progress`. A line
    is written when the logs tell of another checkpoint (its `step`), and at the last step.

    Args:
        console: where to. Default: standard output.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = console or Console()
    if not (console.is_terminal or console.is_jupyter):
        yield lambda description, total: _lines(console, description)
        return
    with Progress(*_columns(console.width), console=console) as progress:
        yield lambda description, total: _bar(progress, description, total)


def _bar(progress: "Progress", description: str, total: int) -> Report:
    bar = progress.add_task(description, total=total, scores="")

    def report(step: int, steps: int, logs: Mapping[str, Any]) -> None:
        progress.update(bar, completed=step, total=steps, scores="  ".join(_scores(logs)))

    return report


def _lines(console: "Console", description: str) -> Report:
    began = time.monotonic()
    checkpoint = None

    def report(step: int, steps: int, logs: Mapping[str, Any]) -> None:
        nonlocal checkpoint
        before, checkpoint = checkpoint, logs.get("step")
        if checkpoint != before or step == steps:
            cells = [f"{description}: step {step}/{steps}", *_scores(logs)]
            text = ", ".join([*cells, clock(time.monotonic() - began)])
            console.print(text, soft_wrap=True, markup=False, highlight=False)

    return report


def _scores(logs: Mapping[str, Any]) -> list[str]:
    return [f"{name} {float(logs[name]):.3g}" for name in ("loss", "score") if name in logs]


def _columns(width: int) -> list["ProgressColumn"]:
    """Return the columns of a bar that fit into a terminal: nothing of a number is cut.

    A narrow terminal has no room for the scores.
    """
    from rich.progress import BarColumn, TextColumn
    from rich.table import Column

    fixed = _COUNT + _CLOCK + _GAPS
    has_scores = width >= fixed + _SCORES + 2 * _BAR
    free = width - fixed - (_SCORES if has_scores else 0)
    name = max(min(_WIDEST_NAME, free - _BAR), 1)
    columns = [
        TextColumn("{task.description}", table_column=_named(name)),
        BarColumn(bar_width=max(min(_WIDEST_BAR, free - name), 1)),
        TextColumn("{task.completed}/{task.total}", table_column=Column(no_wrap=True)),
        clock_column(),
    ]
    if has_scores:
        columns.append(TextColumn("{task.fields[scores]}", table_column=_named(_SCORES)))
    return columns


def _named(width: int) -> Any:
    """Return a column of one line that is cut with an ellipsis where it is longer."""
    from rich.table import Column

    return Column(max_width=width, no_wrap=True, overflow="ellipsis")


def clock_column() -> "ProgressColumn":
    """Return a column with the time that is left or, at the end, the time that it took."""
    from rich.progress import ProgressColumn, Task
    from rich.table import Column
    from rich.text import Text

    class Clock(ProgressColumn):
        def render(self, task: Task) -> Text:
            if task.finished:
                return Text(f"in {clock(task.finished_time or 0)}", style="progress.elapsed")
            left = task.time_remaining
            text = "" if left is None else f"{clock(left)} left"
            return Text(text, style="progress.remaining")

    return Clock(table_column=Column(no_wrap=True))


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds, with hours where there are any.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
