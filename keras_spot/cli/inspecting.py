"""`keras-spot inspect`: what a prompt is, and how it suits a backbone."""

import dataclasses
import json
from typing import Annotated, Any

import typer

from keras_spot.base.json_text import to_json
from keras_spot.cli.app import app
from keras_spot.cli.options import (
    find_task,
    like_run,
    prepare_tensorflow,
    recorded_backbone,
)

__all__ = ["inspect_command"]


@app.command("inspect")
@like_run
def inspect_command(
    path: Annotated[
        str | None,
        typer.Argument(help="Prompt file, run, adapter or checkpoint folder, or address."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Compare with this backbone; alone: show it. Default: the run's own."),
    ] = None,
    top: Annotated[int, typer.Option(help="Nearest tokens of each position.")] = 3,
    task_id: Annotated[
        int | None, typer.Option(help="Task of a multitask adapter. Default: its only one.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Show how this task's texts fit the lengths, in tokens. Default: none."),
    ] = None,
    input_length: int | None = None,
    data_dir: str | None = None,
    dtype: str | None = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show a prompt's shape, norms and provenance, and its nearest tokens in a backbone.

    Or how many of a task's texts are cut.
    """
    from keras_spot import prompts
    from keras_spot.base.errors import invalid
    from keras_spot.prompts import inspection

    if task is not None:
        if path is not None:
            raise invalid("path", "must not be given with `--task`", path)
        _survey(task, backbone or "tiny", input_length, data_dir, as_json)
        return
    if path is None and backbone is None:
        raise invalid("path", "must be given, or `--backbone`, or `--task`", "none of them")
    prompt = None if path is None else prompts.read(path, task_id=task_id)
    if backbone is None and path is not None:
        backbone = recorded_backbone(path)
    loaded, tokenizer = (None, None) if backbone is None else _load(backbone, dtype)
    if prompt is None:
        report = inspection.inspect_backbone(loaded)
    else:
        known = {} if loaded is None else _known(loaded, tokenizer)
        report = inspection.inspect_prompt(prompt, **known, top=top)
    if as_json:
        typer.echo(to_json(report))
    else:
        _show(report)


def _survey(
    name: str, backbone: str, input_length: int | None, data_dir: str | None, as_json: bool
) -> None:
    """Print how the texts of a task's splits fit the lengths, every row counted."""
    task = find_task(name)
    _, tokenizer = _load(backbone, None)
    from keras_spot.data import survey

    for split in dict.fromkeys(("train", *task.validation)):
        if split == "train" and split not in task.splits:
            continue
        report = survey(task, split, tokenizer, input_length, data_dir=data_dir)
        if as_json:
            typer.echo(to_json(dataclasses.asdict(report)))
            continue
        targets = f"up to {report.longest_target} tokens of {report.target_length}"
        typer.echo(
            f"{report.task} {split}: {report.rows:,} rows; inputs up to {report.longest_input:,} "
            f"tokens of {report.input_length:,}" + (f"; targets {targets}" * bool(report.targets))
        )
        typer.echo(f"  {report.warning or 'nothing is cut'}")


def _load(name: str, dtype: str | None) -> Any:
    prepare_tensorflow()
    from keras_spot import backbones

    return backbones.load(name, dtype=dtype)


def _known(backbone: Any, tokenizer: Any) -> dict[str, Any]:
    """Return a backbone's fingerprint, and the embeddings of the tokens that it has texts for."""
    from keras_spot import backbones

    table, pieces = backbone.token_embedding.embeddings, None
    if tokenizer is not None:  # rows beyond the vocabulary pad the table
        pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.vocabulary_size())]
        table = table[: len(pieces)]
    return {
        "embeddings": table,
        "pieces": pieces,
        "fingerprint": backbones.fingerprint(backbone),
    }


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    summary = Table("what", "value")
    for key, value in {**report, **report.get("provenance", {})}.items():
        if key not in ("provenance", "nearest"):
            summary.add_row(escape(key.replace("_", " ")), escape(_text(value)))
    console.print(summary)
    if "nearest" in report:
        nearest = Table("position", "nearest tokens (cosine)")
        for position, row in enumerate(report["nearest"]):
            shown = (f"{escape(near['token'])} ({near['cosine']:.2f})" for near in row)
            nearest.add_row(str(position), "  ".join(shown))
        console.print(nearest)


def _text(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"min", "median", "max"}:
        return "min {min:.4g}, median {median:.4g}, max {max:.4g}".format(**value)
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "not recorded"}[value]
    return value if isinstance(value, str) else json.dumps(value)
