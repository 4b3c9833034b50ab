"""`keras-spot serve`: prompts behind an address of this machine."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from keras_spot.cli.app import app

__all__ = ["serve_command"]


@app.command("serve")
def serve_command(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Folders that `export` wrote; or runs, prompt files, adapters or addresses, which "
            "are exported first."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 for other machines, too.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for one that is free.", min=0, max=65535)] = 8501,
    engine: Annotated[
        str,
        typer.Option(
            help="tensorflow, ctranslate2 or onnxruntime; auto measures which is the fastest "
            "here, and says so."
        ),
    ] = "auto",
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Folder of prompts (files, or a library) that are taken up, replaced and removed "
            "while serving. Default: `prompts` in the first folder, if it is there."
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Of prompts that do not say theirs. Default: tiny.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts computed at once.", min=1)] = 32,
    queue: Annotated[int, typer.Option(help="Texts that may wait; then 429.", min=1)] = 512,
    timeout: Annotated[float, typer.Option(help="Seconds for an answer; then 504.")] = 30.0,
    max_body: Annotated[int, typer.Option(help="Bytes of a request; then 413.", min=1)] = 4 << 20,
    log_texts: Annotated[
        bool, typer.Option("--log-texts", help="Write texts and answers into the log, too.")
    ] = False,
) -> None:
    """Serve prompts: a page at /, and TensorFlow Serving's REST addresses below /v1/models."""
    from keras_spot.serving import Limits, serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    serve(
        models,
        host=host,
        port=port,
        engine=engine,
        prompts=prompts,
        backbone=backbone,
        limits=Limits(body=max_body, queue=queue, seconds=timeout, batch=batch_size),
        log_texts=log_texts,
        report=typer.echo,
    )
