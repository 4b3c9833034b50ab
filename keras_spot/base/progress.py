"""Progress bars for long work (rich)."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Report = Callable[[int, int, Mapping[str, Any]], None]


@contextlib.contextmanager
def bars() -> Iterator[Callable[[str, int], Report]]:
    """Show bars while the block runs.

    Yields a function that adds a bar (description, steps) and returns what reports on it: a
    function of step, total steps and logs, such as `keras_spot.train` takes as `progress`.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[scores]}"),
    )
    with Progress(*columns) as progress:

        def follow(description: str, total: int) -> Report:
            bar = progress.add_task(description, total=total, scores="")

            def report(step: int, steps: int, logs: Mapping[str, Any]) -> None:
                shown = [f"{k} {float(logs[k]):.3g}" for k in ("loss", "score") if k in logs]
                progress.update(bar, completed=step, total=steps, scores="  ".join(shown))

            return report

        yield follow
