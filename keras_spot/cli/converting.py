"""`keras-spot convert`: other people's backbones and prompts in the form one needs."""

from pathlib import Path
from typing import Annotated

import typer

from keras_spot.cli.app import app
from keras_spot.cli.options import Dtype, quiet_tensorflow


@app.command("convert")
def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            help="A backbone (name, Hugging Face folder, T5X checkpoint, hf://, gs://) or a prompt."
        ),
    ],
    output: Annotated[
        Path, typer.Argument(help="A backbone's preset folder, or a prompt's file by its ending.")
    ],
    tokenizer: Annotated[
        str | None,
        typer.Option(help="SentencePiece model of a backbone. Default: the one beside it."),
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="Of a T5X checkpoint: relu, gelu_new, ...")
    ] = None,
    max_distance: Annotated[
        int, typer.Option(help="Of a T5X checkpoint's relative positions.")
    ] = 128,
    dtype: Dtype = None,
) -> None:
    """Write a backbone as a KerasHub preset folder, or a prompt in another form."""
    quiet_tensorflow()
    from keras_spot import backbones, prompt_files

    if backbones.is_backbone(source):
        loaded, vocabulary = backbones.load(
            source, tokenizer, dtype, activation=activation, max_distance=max_distance
        )
        typer.echo(f"backbone: {backbones.save(loaded, vocabulary, output)}")
        return
    prompt = prompt_files.read(source)
    typer.echo(f"prompt: {prompt_files.write(output, prompt.values, prompt.provenance)}")
