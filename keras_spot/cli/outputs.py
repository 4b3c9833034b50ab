"""What commands write: checked before anything slow, announced where it replaces something."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from keras_spot.base.ownership import Kind
    from keras_spot.prompts import Prompt

__all__ = ["Overwrite", "announce", "claim", "write_prompt"]

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace a file that is there, or a folder of ours that was changed; never a folder "
        "with other files.",
    ),
]


def claim(path: str | os.PathLike, kind: "Kind", overwrite: bool) -> str:
    """Return what to say behind a path that is written: that something is replaced, or nothing.

    Raises:
        InvalidArgument: what is there is not marked as ours, and `overwrite` is not given.
    """
    from keras_spot.base import remote

    return " (replaced)" if remote.may_write(path, kind, overwrite, strict=True) else ""


def announce(path: str | os.PathLike, notice: str) -> None:
    """Say on stderr that a file was replaced, where stdout is for results alone."""
    if notice:
        typer.echo(f"replaced: {path}", err=True)


def write_prompt(
    path: str | os.PathLike,
    prompt: "Prompt",
    form: str | None = None,
    overwrite: bool = False,
    more: Mapping[str, object] | None = None,
) -> str:
    """Write a prompt with more provenance; return where it is and whether it replaced something."""
    from keras_spot import prompts

    provenance = {**prompt.provenance, **(more or {})}
    place, _, kind = prompts.destination(path, prompt.values, provenance, form)
    notice = claim(place, kind, overwrite)
    prompts.write(path, prompt.values, provenance, form, overwrite=overwrite)
    return f"{place}{notice}"
