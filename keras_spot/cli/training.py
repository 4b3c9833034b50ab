"""`keras-spot train`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_spot.cli.app import app
from keras_spot.cli.options import (
    Backbone,
    DataDir,
    Dtype,
    Limit,
    Method,
    MethodOption,
    TaskName,
    find_task,
    quiet_tensorflow,
)


@app.command("train")
def train_command(
    task: TaskName,
    run_dir: Annotated[Path, typer.Option(help="Folder of the run; again continues it.")],
    backbone: Backbone = "tiny",
    prompt_init: Annotated[
        list[str] | None,
        typer.Option(
            help="Initial prompt: a file or run folder (SPoT's transfer; several are averaged), "
            "sampled_vocab, class_labels, uniform, or a text."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    prompt_length: Annotated[int | None, typer.Option(help="Prompt tokens.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Constant rate.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout while training.")] = None,
    prompt_attention: Annotated[
        str | None, typer.Option(help="What the prompt sees: full, prompt or causal.")
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between them.")] = None,
    data_dir: DataDir = None,
    split: Annotated[str, typer.Option(help="Split or TFDS slice to train on.")] = "train",
    validation_split: Annotated[
        str | None, typer.Option(help="Split or slice to score; '' for none.")
    ] = None,
    validation_limit: Limit = None,
    method: MethodOption = Method.generate,
    strategy: Annotated[str, typer.Option(help="auto, tpu, mirrored or one_device.")] = "auto",
    dtype: Dtype = None,
    seed: Annotated[int, typer.Option(help="Of the initial prompt and the data order.")] = 0,
) -> None:
    """Train a soft prompt; the same command again continues an interrupted run."""
    record = find_task(task)
    quiet_tensorflow()
    from keras_spot import backbones, progress
    from keras_spot.training import train

    given: dict[str, Any] = {
        "prompt_length": prompt_length,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "dropout": dropout,
        "checkpoint_every": checkpoint_every,
        "steps": steps,
    }
    recipe = dataclasses.replace(
        backbones.recipe_for(backbone), **{k: v for k, v in given.items() if v is not None}
    )
    init = prompt_init[0] if prompt_init is not None and len(prompt_init) == 1 else prompt_init
    with progress.bars() as follow:
        run = train(
            record,
            run_dir,
            backbone=backbone,
            prompt_init=init,
            recipe=recipe,
            prompt_attention=prompt_attention,
            data_dir=data_dir,
            split=split,
            validation_split=validation_split,
            validation_limit=validation_limit,
            method=method.value,
            strategy=strategy,
            dtype=dtype,
            seed=seed,
            progress=follow(record.name, recipe.steps),
        )
    if run.best:
        typer.echo(f"best: {run.best['score']:.2f} at step {run.best['step']}")
    typer.echo(f"run: {run_dir}")
