"""`keras-spot demo` and `tasks`: a first look."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_spot.base.json_text import to_json
from keras_spot.cli.app import app, saved_when_stopped
from keras_spot.cli.options import find_task, like_run, prepare_tensorflow

__all__ = ["demo_command", "tasks_command"]


@app.command("demo")
def demo_command(
    output: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("spot-demo"),
) -> None:
    """Transfer a prompt, compare, draw, export and answer: the whole story in minutes."""
    prepare_tensorflow()
    from keras_spot.cli import demo

    with saved_when_stopped():
        demo.show(demo.run_demo(output))


@app.command("tasks")
@like_run
def tasks_command(
    name: Annotated[
        str | None,
        typer.Argument(help="A task (or its record) to show, or a part of the names to list."),
    ] = None,
    prepare: Annotated[
        str | None,
        typer.Option(help="Download and prepare this task's data (network). Default: only list."),
    ] = None,
    data_dir: str | None = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the tasks, show one, or prepare the data of one."""
    from keras_spot import tasks
    from keras_spot.base.errors import unknown

    if prepare is not None:
        prepare_tensorflow()
        from keras_spot import data

        typer.echo(f"prepared: {data.prepare(find_task(prepare), data_dir)}")
        return
    names = [known for known in tasks.names() if (name or "").lower() in known.lower()]
    if name is not None and (name in names or not names):
        if not names and ":" not in name and not Path(name).suffix:
            raise unknown("task", name, tasks.names())
        _show_task(find_task(name), data_dir, as_json)
        return
    rows = [_listed(tasks.get(known), data_dir) for known in names]
    if as_json:
        typer.echo(to_json(rows))
    elif sys.stdout.isatty():
        _show_table(rows)
    else:
        for row in rows:
            typer.echo("\t".join(map(str, row.values())))


def _listed(task: Any, data_dir: str | None) -> dict[str, str]:
    from keras_spot.data.sources import availability

    return {
        "task": task.name,
        "data": task.tfds or "files",
        "prepared": availability(task, data_dir),
        "metrics": ", ".join(task.metrics),
        "input": task.input,
    }


def _show_table(rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for column in rows[0]:
        whole = column in ("task", "prepared")
        table.add_column(column, no_wrap=whole, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row.values()))
    Console().print(table)


def _show_task(task: Any, data_dir: str | None, as_json: bool) -> None:
    """Print all of a task: one line for each field, and an example where there are data."""
    from keras_spot.data.sources import availability, how_to_get

    state = availability(task, data_dir)
    shown: dict[str, Any] = {
        "task": task.name,
        "data": task.tfds or dict(task.files) or dict.fromkeys(task.rows, "rows"),
        "prepared": state,
        "input": task.input,
        "target": task.target,
        "labels": list(task.labels),
        "metrics": list(task.metrics),
        "splits": dict(task.splits),
        "validation": list(task.validation),
        "max_input_length": task.max_input_length,
        "max_target_length": task.max_target_length,
        "label_weights": dict(task.label_weights) or None,
        "missing": task.missing,
        "preprocess": task.preprocess,
    }
    if state == "no":
        shown["to get them"] = how_to_get(task, data_dir)
    else:
        shown["example"] = _example(task, data_dir)
    if as_json:
        typer.echo(to_json(shown))
        return
    for field, value in shown.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            typer.echo(f"{field + ':':19}{text}")


def _example(task: Any, data_dir: str | None) -> dict[str, str] | None:
    """Return the first example of the task's first validation split, or of training."""
    prepare_tensorflow()
    from keras_spot.base.errors import USER_ERRORS
    from keras_spot.data import load_examples

    for split in (*task.validation, "train", *task.splits):
        try:
            first = next(load_examples(task, split, data_dir=data_dir, limit=1), None)
        except USER_ERRORS:
            continue
        if first is not None:
            return {"split": split, "input": first.input, "target": first.target}
    return None
