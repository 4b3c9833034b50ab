"""Progress of long work: bars in a terminal (rich) or notebook (Keras'), lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

__all__ = ["Report", "Watcher", "bars", "clock", "clock_column", "counting", "watcher"]

Report = Callable[[int, int, Mapping[str, object]], None]
"""Called with step, total steps and logs after every step."""

_COUNT, _CLOCK, _SCORES, _GAPS = 11, 10, 24, 4
_BAR, _WIDEST_BAR, _WIDEST_NAME = 10, 40, 40
_SILENT = 60.0  # seconds after which a run says a line though there was no checkpoint
_BETWEEN_COUNTS = 10.0  # seconds between two lines about what is counted


class Watcher:
    """What follows a run: a function that is called after every step, or more.

    Args:
        report: that function; None for nothing.
    """

    def __init__(self, report: Report | None = None):
        self._report = report

    def __call__(self, step: int, steps: int, logs: Mapping[str, Any]) -> None:
        """A step is made."""
        if self._report is not None:
            self._report(step, steps, logs)

    def started(self, step: int, steps: int) -> None:
        """The run begins after `step`, 0 for a new one."""

    def validating(self, step: int) -> None:
        """A validation begins."""

    def validated(self) -> None:
        """It ends."""


@contextlib.contextmanager
def watcher(
    progress: Report | Literal["auto"] | None, description: str, steps: int
) -> Iterator[Watcher]:
    """Yield what follows a run: `"auto"` shows it, a function is called, None is silent."""
    if isinstance(progress, Watcher):
        yield progress
    elif progress == "auto":
        with bars() as follow:
            yield follow(description, steps)
    else:
        yield Watcher(progress)


@contextlib.contextmanager
def bars(console: "Console | None" = None) -> Iterator[Callable[[str, int], Watcher]]:
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
    if console.is_jupyter:  # where rich shows nothing without a package of its own
        yield lambda description, total: _KerasBar(description, total)
    elif not console.is_terminal:
        yield lambda description, total: _Lines(console, description)
    else:
        with Progress(*_columns(console.width), console=console) as progress:
            yield lambda description, total: _Bar(progress, description, total)


@contextlib.contextmanager
def counting(
    progress: Report | Literal["auto"] | None,
    description: str,
    total: int,
    console: "Console | None" = None,
) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more of `total` are done.

    Args:
        progress: `"auto"` shows a bar that goes away, or a line every ten seconds where there is no
            terminal; a function is called with the number done, the total and an empty mapping;
            None is silent.
        description: what is counted.
        total: how many there are.
        console: where to. Default: standard error, as the result goes to standard output.
    """
    from rich.console import Console
    from rich.progress import Progress

    done = 0

    def counted(report: Report) -> Callable[[int], None]:
        def add(number: int) -> None:
            nonlocal done
            done += number
            report(done, total, {})

        return add

    console = console or Console(stderr=True)
    if progress != "auto":
        yield (lambda number: None) if progress is None else counted(progress)
    elif console.is_jupyter:
        yield counted(_KerasBar(description, total))
    elif not console.is_terminal:
        yield counted(_CountLines(console, description))
    else:
        columns = _columns(console.width, with_scores=False)
        with Progress(*columns, console=console, transient=True) as shown:
            yield counted(_Bar(shown, description, total))


def _continuing(step: int, steps: int) -> str:
    """Return what is said of a run that has made steps before."""
    if step >= steps:
        return f"has made {step} steps before, {steps} are asked for: nothing to train"
    return f"continuing at step {step} of {steps}"


class _Bar(Watcher):
    """A bar for the steps, and one that moves while the run compiles or validates."""

    def __init__(self, progress: "Progress", description: str, total: int):
        super().__init__()
        self.progress, self.description = progress, description
        self.bar = progress.add_task(description, total=total, scores="")
        self.moving: TaskID | None = None

    def started(self, step: int, steps: int) -> None:
        self.progress.update(self.bar, completed=step, total=steps)
        if step:
            text = f"{self.description}: {_continuing(step, steps)}"
            self.progress.console.print(text, markup=False, highlight=False)
        if step < steps:
            self._move("compiling")

    def __call__(self, step: int, steps: int, logs: Mapping[str, Any]) -> None:
        self._stop()
        scores = "  ".join(_scores(logs))
        self.progress.update(self.bar, completed=step, total=steps, scores=scores)

    def validating(self, step: int) -> None:
        self.progress.update(self.bar, completed=step)
        self._move("validating")

    def validated(self) -> None:
        self._stop()

    def _move(self, text: str) -> None:
        self._stop()
        self.moving = self.progress.add_task(f"  {text}", total=None, scores="")

    def _stop(self) -> None:
        if self.moving is not None:
            self.progress.remove_task(self.moving)
            self.moving = None


class _KerasBar(Watcher):
    """Keras' own bar, as `fit` shows it, which every notebook can show."""

    def __init__(self, description: str, total: int):
        import keras

        super().__init__()
        self.description, self.total = description, total
        self.bar: Any = None
        self.make = keras.utils.Progbar

    def __call__(self, step: int, steps: int, logs: Mapping[str, Any]) -> None:
        if self.bar is None:
            print(self.description)
            self.bar = self.make(steps, stateful_metrics=["loss", "score"])
        values = [(name, float(logs[name])) for name in ("loss", "score") if name in logs]
        self.bar.update(step, values, finalize=step >= steps)


class _Lines(Watcher):
    """A printed line at every checkpoint."""

    def __init__(self, console: "Console", description: str):
        super().__init__()
        self.console, self.description = console, description
        self.began = self.told = time.monotonic()
        self.first, self.checkpoint = 0, None

    def started(self, step: int, steps: int) -> None:
        self.began, self.first = time.monotonic(), step
        if step:
            self._print([_continuing(step, steps)])

    def __call__(self, step: int, steps: int, logs: Mapping[str, Any]) -> None:
        before, self.checkpoint = self.checkpoint, logs.get("step")
        now = time.monotonic()
        if self.checkpoint == before and step < steps and now - self.told < _SILENT:
            return
        self.told, spent = now, now - self.began
        cells = [f"step {step}/{steps}", *_scores(logs), clock(spent)]
        if step < steps:
            cells.append(f"{clock(spent / max(1, step - self.first) * (steps - step))} left")
        self._print(cells)

    def _print(self, cells: list[str]) -> None:
        text = f"{self.description}: {', '.join(cells)}"
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)


class _CountLines(_Lines):
    """A line every ten seconds, none for what takes less."""

    def __call__(self, step: int, steps: int, logs: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - self.told < _BETWEEN_COUNTS:
            return
        self.told, spent = now, now - self.began
        cells = [f"{step:,}/{steps:,}", clock(spent)]
        if step < steps:
            cells.append(f"{clock(spent / max(1, step) * (steps - step))} left")
        self._print(cells)


def _scores(logs: Mapping[str, Any]) -> list[str]:
    return [f"{name} {float(logs[name]):.3g}" for name in ("loss", "score") if name in logs]


def _columns(width: int, with_scores: bool = True) -> list["ProgressColumn"]:
    """Return the columns of a bar that fit into a terminal: nothing of a number is cut.

    A narrow terminal has no room for the scores.
    """
    from rich.progress import BarColumn, TextColumn

    fixed = _COUNT + _CLOCK + _GAPS
    has_scores = with_scores and width >= fixed + _SCORES + 2 * _BAR
    free = width - fixed - (_SCORES if has_scores else 0)
    name = max(min(_WIDEST_NAME, free - _BAR), 1)
    columns = [
        TextColumn("{task.description}", table_column=_named(name)),
        BarColumn(bar_width=max(min(_WIDEST_BAR, free - name), 1)),
        _count_column(),
        clock_column(),
    ]
    if has_scores:
        columns.append(TextColumn("{task.fields[scores]}", table_column=_named(_SCORES)))
    return columns


def _count_column() -> "ProgressColumn":
    """Return a column with how many of how many, nothing where that is not known."""
    from rich.progress import ProgressColumn, Task
    from rich.table import Column
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            known = task.total is not None
            return Text(f"{task.completed:.0f}/{task.total:.0f}" if known else "")

    return Count(table_column=Column(no_wrap=True))


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
