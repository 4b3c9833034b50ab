"""`keras-spot convert`: other people's backbones and prompts in the form one needs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from keras_spot.base.errors import invalid
from keras_spot.cli.app import app
from keras_spot.cli.options import like_run, prepare_tensorflow
from keras_spot.cli.outputs import Overwrite, claim, write_prompt

__all__ = ["Form", "convert_command"]


class Form(StrEnum):
    """What a prompt is written as."""

    npy = "npy"
    npz = "npz"
    reference = "reference"
    peft = "peft"


@app.command("convert")
@like_run
def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            help="A backbone (name, Hugging Face folder, T5X checkpoint, hf://, gs://) or a prompt."
        ),
    ],
    output: Annotated[
        Path, typer.Argument(help="A backbone's preset folder, or a prompt's file or folder.")
    ],
    to: Annotated[
        Form | None, typer.Option(help="A prompt's form. Default: what the output's name says.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(help="Of a run: a number, best or newest. Default: best.")
    ] = None,
    task_id: Annotated[
        int | None, typer.Option(help="Task of a multitask adapter. Default: its only one.")
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(
            help="A prompt's backbone by its name on the hub, for PEFT. Default: as recorded."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="SentencePiece model of a backbone. Default: the one beside it."),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(help="Of a T5X checkpoint: relu, gelu_new, ... Default: as T5 has it."),
    ] = None,
    max_distance: Annotated[
        int, typer.Option(help="Of a T5X checkpoint's relative positions.")
    ] = 128,
    recycle_to: Annotated[
        str | None,
        typer.Option(
            help="Make the prompt one of this other backbone, by a map between both embedding "
            "tables. Default: its own."
        ),
    ] = None,
    recycle_from: Annotated[
        str | None, typer.Option(help="The prompt's own backbone. Default: as its run recorded.")
    ] = None,
    recycle_by: Annotated[
        Literal["v2v-lin", "v2v-nn", "lin-comb"],
        typer.Option(help="Least squares, a small network, or sums of token embeddings."),
    ] = "v2v-lin",
    dtype: str | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a backbone as a KerasHub preset folder, or a prompt in another form."""
    prepare_tensorflow()
    from keras_spot import backbones, prompts

    a_prompt = to is not None or recycle_to is not None or output.suffix in (".npy", ".npz")
    if not a_prompt and backbones.is_backbone(source):
        notice = claim(output, backbones.PRESET, overwrite)
        loaded, vocabulary = backbones.load(
            source, tokenizer, dtype, activation=activation, max_distance=max_distance
        )
        typer.echo(f"backbone: {backbones.save(loaded, vocabulary, output, overwrite)}{notice}")
        return
    which = int(step) if step is not None and step.isdigit() else step
    prompt = prompts.read(source, which, task_id=task_id)
    if recycle_to is not None:
        from keras_spot.prompts.recycling import recycle_prompt

        prompt = recycle_prompt(prompt, recycle_to, source=recycle_from, method=recycle_by)
        about = prompt.provenance["recycled"]
        typer.echo(f"recycled: R^2 = {about['r2']:.2f} by {recycle_by}, {about['tokens']} tokens")
    elif recycle_from is not None:
        raise invalid("recycle_from", "must be given with `recycle_to`", f"{recycle_from=}")
    more = {"base_model": base_model} if base_model else {}
    typer.echo(f"prompt: {write_prompt(output, prompt, to, overwrite, more)}")
