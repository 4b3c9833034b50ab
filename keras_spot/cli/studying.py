"""`keras-spot study`: run a transfer study, look how far it is, report it."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_spot.base.errors import invalid
from keras_spot.cli.app import app, saved_when_stopped
from keras_spot.cli.options import Layout, prepare_tensorflow, scope_of
from keras_spot.cli.outputs import Overwrite
from keras_spot.cli.parsing import App

__all__ = ["Folder", "report_command", "run_command", "status_command", "study_app"]

study_app = App("A source x target x seed grid of transfers.")
app.add_typer(study_app, name="study")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the study.")]


@study_app.command("run")
def run_command(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="Description of the study.")],
    output: Annotated[Path, typer.Option(help="Folder of the study; again continues it.")],
    workers: Annotated[str, typer.Option(help="Processes on this machine, or 'ray'.")] = "1",
    data_dir: Annotated[
        str | None, typer.Option(help="Folder with prepared TFDS data. Default: the file's.")
    ] = None,
    layout: Layout = "auto",
) -> None:
    """Run what a study still lacks, then write its report."""
    prepare_tensorflow()
    import dataclasses

    from keras_spot import study
    from keras_spot.study import report

    plan = study.load(file)
    replaced = report.check_report(output)
    if data_dir is not None:
        plan = dataclasses.replace(plan, data_dir=str(Path(data_dir).expanduser().resolve()))
    count = int(workers) if workers.isdigit() else workers
    if count != 1:
        if layout not in ("auto", "one_device"):
            raise invalid("devices", "must be one_device with several workers", repr(layout))
        layout = "one_device"
    try:
        with saved_when_stopped(), scope_of(layout), _bars() as progress:
            study.run(plan, output, workers=count, progress=progress)
    except RuntimeError:  # some runs went wrong: the report is of the others
        with contextlib.suppress(ValueError):
            _report(output, replaced)
        raise
    _report(output, replaced)


@study_app.command("report")
def report_command(folder: Folder, overwrite: Overwrite = False) -> None:
    """Write report.html, summary.md, the pictures and the tables of a study, finished or not."""
    from keras_spot.study import report

    _report(folder, report.check_report(folder, overwrite), overwrite)


def _report(folder: Path, replaced: bool, overwrite: bool = False) -> None:
    from keras_spot.study import report

    notice = " (replaced)" if replaced else ""
    typer.echo(f"report: {report.write_report(folder, overwrite=overwrite)}{notice}")


@study_app.command("status")
def status_command(folder: Folder) -> None:
    """Show how far a study is, who works on what, and what went wrong."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from keras_spot import study

    status = study.status(folder)
    table = Table("runs", box=box.SIMPLE_HEAD)
    for head in ("finished", "of", "running", "failed"):
        table.add_column(head, justify="right")
    for kind, total in status.total.items():
        unfinished = (status.running, status.failures)
        counts = [sum(run["id"].startswith(kind) for run in runs) for runs in unfinished]
        table.add_row(kind, *map(str, (status.done[kind], total, *counts)))
    console = Console()
    console.print(status.name, style="bold", highlight=False)
    console.print(table)
    for run in status.running:
        where = f"{run.get('host', '?').partition('/')[0]}, process {run.get('pid', '?')}"
        console.print(f"running: {run['id']} ({where}, {run['seconds']:.0f} s)", soft_wrap=True)
    for failure in status.failures:
        console.print(f"failed: {failure['id']}: {failure['error']}", soft_wrap=True)


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[Any], None]]:
    """Show a bar for every kind of run and a line for each that is being made; yield what takes
    the status.

    Where the output is no terminal, a line is written whenever runs have finished.
    """
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.text import Text

    from keras_spot.base.progress import clock_column

    class Bars(Progress):
        running: Sequence[str] = ()

        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            for name in self.running:
                yield Text(f"running: {name}", no_wrap=True, overflow="ellipsis")

    console = Console()
    if not console.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(bar_width=18),
        MofNCompleteColumn(),
        clock_column(),
    )
    with Bars(*columns, console=console) as progress:
        bars: dict[str, Any] = {}

        def show(status: Any) -> None:
            for kind, total in status.total.items():
                if kind not in bars:
                    bars[kind] = progress.add_task(kind, total=total)
                progress.update(bars[kind], completed=status.done[kind])
            progress.running = [run["id"] for run in status.running]

        yield show


def _lines() -> Callable[[Any], None]:
    """Return what prints a status as a line where it is another than the one before."""
    before = ""

    def show(status: Any) -> None:
        nonlocal before
        counts = [f"{kind} {status.done[kind]}/{total}" for kind, total in status.total.items()]
        text = ", ".join(counts)
        if text != before:
            typer.echo(f"finished: {text}")
        before = text

    return show
