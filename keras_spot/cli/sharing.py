"""`keras-spot push` and `pull`: prompts on the Hugging Face hub."""

from typing import Annotated

import typer

from keras_spot.cli.app import app
from keras_spot.cli.outputs import Overwrite, write_prompt

__all__ = ["Repository", "pull_command", "push_command"]

Repository = Annotated[str, typer.Argument(help="owner/name on the hub.")]


@app.command("push")
def push_command(
    prompt: Annotated[str, typer.Argument(help="Prompt file or folder.")],
    repository: Repository,
    base_model: Annotated[
        str | None,
        typer.Option(
            help="The backbone's name on the hub, for the card and PEFT. Default: as recorded."
        ),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make it for you alone.")] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace files there that were not pushed from here."),
    ] = False,
) -> None:
    """Upload a prompt with a PEFT adapter and a card."""
    from keras_spot.prompts import hub

    address = hub.push_prompt(
        prompt, repository, base_model=base_model, private=private, overwrite=overwrite
    )
    typer.echo(f"pushed: {address}")


@app.command("pull")
def pull_command(
    repository: Repository,
    output: Annotated[str, typer.Argument(help="*.npz (keeps the provenance) or *.npy.")],
    overwrite: Overwrite = False,
) -> None:
    """Download a prompt: one pushed from here, or any PEFT adapter of prompt tuning."""
    from keras_spot.prompts import hub

    prompt = hub.pull_prompt(repository)
    typer.echo(f"saved: {write_prompt(output, prompt, overwrite=overwrite)}")
