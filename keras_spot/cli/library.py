"""`keras-spot library`: a folder of source prompts."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_spot.base.json_text import to_json
from keras_spot.cli.app import app
from keras_spot.cli.options import PromptPath, Similarity
from keras_spot.cli.outputs import Overwrite, write_prompt
from keras_spot.cli.parsing import App

__all__ = [
    "AsJson",
    "Library",
    "add_command",
    "commands",
    "export_command",
    "list_command",
    "merge_command",
    "rank_command",
    "remove_command",
    "verify_command",
]

commands = App("Keep, list and rank source prompts.")
app.add_typer(commands, name="library")

Library = Annotated[
    str, typer.Option("--library", help="The library's folder, or a gs:// or hf:// address.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


@commands.command("list")
def list_command(library: Library, as_json: AsJson = False) -> None:
    """List the prompts; only headers are read."""
    rows = [
        {
            "name": entry.name,
            "task": entry.task,
            "score": entry.provenance.get("score"),
            "step": entry.provenance.get("step"),
            "prompt": "{} x {}".format(*entry.shape),
            "embedding": entry.embedding_provenance.get("step"),
            "backbone": entry.backbone,
        }
        for entry in _existing(library).entries()
    ]
    _show(rows, as_json)


@commands.command("add")
def add_command(
    runs: Annotated[
        list[str], typer.Argument(help="Run folders, or prompt files that know their task.")
    ],
    library: Library,
    embedding_step: Annotated[
        int, typer.Option(help="Of a run: the checkpoint nearest to it is the task embedding.")
    ] = 10_000,
    name: Annotated[
        str | None, typer.Option(help="What to call it. Default: its task's name.")
    ] = None,
) -> None:
    """Add the best prompts of runs, with an early checkpoint as the task embedding."""
    from keras_spot import prompts
    from keras_spot.base.errors import invalid
    from keras_spot.transfer.library import PromptLibrary

    if name is not None and len(runs) > 1:
        raise invalid("name", "must be given for one prompt at a time", f"{len(runs)} prompts")
    prompt_library = PromptLibrary(library)
    for run in runs:
        before = set(prompt_library)
        if prompts.steps(run):
            entry = prompt_library.add_run(run, embedding_step, name)
        else:
            prompt = prompts.read(run)
            entry_name = name or prompt.provenance.get("task")
            if entry_name is None:
                raise invalid("name", "must be given where a prompt has no task", run)
            entry = prompt_library.add(entry_name, prompt)
        typer.echo(f"{'already there' if entry.name in before else 'added'}: {entry.name}")


@commands.command("rank")
def rank_command(
    prompt: PromptPath,
    library: Library,
    similarity: Similarity = "per_token_cosine",
    top: Annotated[int | None, typer.Option(help="Only the most similar. Default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the prompts by the similarity of their task embeddings to another prompt's."""
    from keras_spot import prompts
    from keras_spot.base.errors import invalid

    if top is not None and top < 1:
        raise invalid("top", "must be a positive integer", f"{top=}")
    prompt_library = _existing(library)
    query = prompts.read(prompt)
    ranking = prompt_library.rank(query, by=similarity)
    itself = prompt_library.holding(query)
    if itself:
        typer.echo(f"left out, the prompt itself: {', '.join(itself)}", err=True)
    ranking = [pair for pair in ranking if pair[0] not in itself][:top]
    _show([{"name": name, "similarity": round(value, 6)} for name, value in ranking], as_json)


@commands.command("verify")
def verify_command(library: Library) -> None:
    """Check every file against its hash; exit code 1 if something is wrong."""
    prompt_library = _existing(library)
    problems = prompt_library.verify()
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"all is well: {len(prompt_library)} prompts")


@commands.command("merge")
def merge_command(
    other: Annotated[str, typer.Argument(help="The library to copy from.")], library: Library
) -> None:
    """Copy what another library has and this one has not."""
    from keras_spot.transfer.library import PromptLibrary

    for name in PromptLibrary(library).merge(_existing(other)):
        typer.echo(f"added: {name}")


@commands.command("export")
def export_command(
    name: Annotated[str, typer.Argument(help="Which prompt.")],
    output: Annotated[Path, typer.Argument(help="A .npz or .npy file, or with --form a folder.")],
    library: Library,
    form: Annotated[
        str | None, typer.Option(help="npz, npy, reference or peft. Default: as the name says.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one prompt to a file or folder of its own."""
    prompt = _existing(library).prompt(name)
    typer.echo(f"saved: {write_prompt(output, prompt, form, overwrite)}")


@commands.command("remove")
def remove_command(
    name: Annotated[str, typer.Argument(help="Which prompt.")], library: Library
) -> None:
    """Take one prompt out."""
    _existing(library).remove(name)
    typer.echo(f"removed: {name}")


def _existing(folder: str) -> Any:
    from keras_spot.base.errors import missing_file
    from keras_spot.transfer.library import PromptLibrary

    library = PromptLibrary(folder)
    if isinstance(library.folder, Path) and not library.folder.is_dir():
        raise missing_file("library", "must exist", folder)
    return library


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            typer.echo(to_json(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in rows[0] if rows else ["name"]:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
