"""`keras-spot convert`: other people's backbones and prompts in the form one needs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from keras_spot.cli.app import app
from keras_spot.cli.options import like_run, prepare_tensorflow
from keras_spot.cli.outputs import Overwrite, claim, write_prompt


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
    dtype: str | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a backbone as a KerasHub preset folder, or a prompt in another form."""
    prepare_tensorflow()
    from keras_spot import backbones, prompts

    a_prompt = to is not None or output.suffix in (".npy", ".npz")
    if not a_prompt and backbones.is_backbone(source):
        notice = claim(output, backbones.PRESET, overwrite)
        loaded, vocabulary = backbones.load(
            source, tokenizer, dtype, activation=activation, max_distance=max_distance
        )
        typer.echo(f"backbone: {backbones.save(loaded, vocabulary, output, overwrite)}{notice}")
        return
    which = int(step) if step is not None and step.isdigit() else step
    prompt = prompts.read(source, which, task_id=task_id)
    more = {"base_model": base_model} if base_model else {}
    typer.echo(f"prompt: {write_prompt(output, prompt, to, overwrite, more)}")
