"""`keras-spot demo` and `tasks`: a first look."""

from pathlib import Path
from typing import Annotated

import typer

from keras_spot.cli.app import app
from keras_spot.cli.options import DataDir, find_task, prepare_tensorflow


@app.command("demo")
def demo_command(
    output: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("spot-demo"),
) -> None:
    """Transfer a prompt, compare, draw, export and answer: the whole story in minutes."""
    prepare_tensorflow()
    from keras_spot.cli import demo

    demo.show(demo.run_demo(output))


@app.command("tasks")
def tasks_command(
    prepare: Annotated[
        str | None, typer.Option(help="Download and prepare this task's data (network).")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """List the tasks, or prepare the data of one."""
    from keras_spot import tasks

    if prepare is not None:
        prepare_tensorflow()
        from keras_spot import data

        typer.echo(f"prepared: {data.prepare(find_task(prepare), data_dir)}")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "data", "metrics", "input")
    for name in tasks.names():
        task = tasks.get(name)
        table.add_row(name, task.tfds or "files", ", ".join(task.metrics), task.input)
    Console().print(table)
