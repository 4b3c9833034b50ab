"""`keras-spot inspect`: what a prompt is, and how it suits a backbone."""

import json
from typing import Annotated, Any

import typer

from keras_spot.cli.app import app
from keras_spot.cli.options import Dtype, quiet_tensorflow


@app.command("inspect")
def inspect_command(
    path: Annotated[
        str, typer.Argument(help="Prompt file, run, adapter or checkpoint folder, or address.")
    ],
    backbone: Annotated[
        str | None, typer.Option(help="Compare with this backbone's tokens (loads it).")
    ] = None,
    top: Annotated[int, typer.Option(help="Nearest tokens of each position.")] = 3,
    task_id: Annotated[int | None, typer.Option(help="Task of a multitask adapter.")] = None,
    dtype: Dtype = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show a prompt's shape, norms and provenance, and its nearest tokens in a backbone."""
    from keras_spot import inspection, prompt_files

    prompt = prompt_files.read(path, task_id=task_id)
    known = {} if backbone is None else _backbone(backbone, dtype)
    report = inspection.inspect_prompt(prompt, **known, top=top)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _show(report)


def _backbone(name: str, dtype: str | None) -> dict[str, Any]:
    """Return a backbone's embeddings of the tokens that its vocabulary has, and what else shows."""
    quiet_tensorflow()
    from keras_spot import backbones

    loaded, tokenizer = backbones.load(name, dtype=dtype)
    table = loaded.token_embedding.embeddings
    pieces = None
    if tokenizer is not None:  # rows beyond the vocabulary pad the table
        pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.vocabulary_size())]
        table = table[: len(pieces)]
    return {
        "embeddings": table,
        "pieces": pieces,
        "fingerprint": backbones.fingerprint(loaded),
    }


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    summary = Table("what", "value", title="prompt")
    length, width = report["shape"]
    summary.add_row("shape", f"{length} tokens of width {width}")
    summary.add_row("row norms", _spread(report["norms"]))
    if "token_norms" in report:
        summary.add_row("the tokens' norms", _spread(report["token_norms"]))
        fits = {True: "yes", False: "no", None: "not recorded"}
        summary.add_row("has the backbone's width", fits[report["fits_width"]])
        summary.add_row("made for this backbone", fits[report["fits_backbone"]])
    for key, value in report["provenance"].items():
        summary.add_row(escape(key), escape(value if isinstance(value, str) else json.dumps(value)))
    console.print(summary)
    if "nearest" in report:
        nearest = Table("position", "nearest tokens (cosine)")
        for position, row in enumerate(report["nearest"]):
            shown = (f"{escape(near['token'])} ({near['cosine']:.2f})" for near in row)
            nearest.add_row(str(position), "  ".join(shown))
        console.print(nearest)


def _spread(norms: dict[str, float]) -> str:
    return "min {min:.4g}, median {median:.4g}, max {max:.4g}".format(**norms)
