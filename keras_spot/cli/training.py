"""`keras-spot train` and `train-bank`."""

from enum import StrEnum
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
    Similarity,
    TaskName,
    find_task,
    prepare_tensorflow,
    recipe_for,
)


class Transfer(StrEnum):
    """How prompts of a library are put to use."""

    top_k = "top-k"
    average = "average"
    mixture = "mixture"
    arithmetic = "arithmetic"


Steps = Annotated[int | None, typer.Option(help="Training steps.")]
PromptAttention = Annotated[
    str | None, typer.Option(help="What prompts see: full, prompt or causal.")
]
CheckpointEvery = Annotated[int | None, typer.Option(help="Steps between them.")]
Split = Annotated[str, typer.Option(help="Split or TFDS slice to train on.")]
ValidationSplit = Annotated[str | None, typer.Option(help="Split or slice to score; '' for none.")]
StrategyName = Annotated[str, typer.Option(help="auto, tpu, mirrored or one_device.")]


@app.command("train")
def train_command(
    task: TaskName,
    run_dir: Annotated[Path, typer.Option(help="Folder of the run; again continues it.")],
    backbone: Backbone = "tiny",
    prompt_init: Annotated[
        list[str] | None,
        typer.Option(
            help="Initial prompt: a file, run folder or address (SPoT's transfer), or "
            "sampled_vocab, class_labels or uniform."
        ),
    ] = None,
    prompt_init_mean: Annotated[
        list[str] | None,
        typer.Option(help="Start from the mean of these prompts: once for each file or folder."),
    ] = None,
    prompt_init_text: Annotated[
        str | None, typer.Option(help="Start from the embeddings of this text.")
    ] = None,
    steps: Steps = None,
    prompt_length: Annotated[int | None, typer.Option(help="Prompt tokens.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Constant rate.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout while training.")] = None,
    prompt_attention: PromptAttention = None,
    checkpoint_every: CheckpointEvery = None,
    data_dir: DataDir = None,
    split: Split = "train",
    validation_split: ValidationSplit = None,
    validation_limit: Limit = None,
    method: MethodOption = Method.generate,
    strategy: StrategyName = "auto",
    dtype: Dtype = None,
    seed: Annotated[int, typer.Option(help="Of the initial prompt and the data order.")] = 0,
    transfer: Annotated[
        Transfer | None,
        typer.Option(
            help="Start from the most similar prompts of --library: the best of them by "
            "validation, their weighted average, a prompt of their tasks' mixture, or "
            "(experimental) the sum of their task vectors."
        ),
    ] = None,
    library: Annotated[str | None, typer.Option(help="Library of source prompts.")] = None,
    k: Annotated[int, typer.Option("--k", help="How many prompts to transfer from.")] = 3,
    similarity: Similarity = "per_token_cosine",
    embedding_steps: Annotated[
        int | None,
        typer.Option(help="Steps of the task embedding. Default: as the library's."),
    ] = None,
) -> None:
    """Train a soft prompt; the same command again continues an interrupted run."""
    from keras_spot.base.errors import invalid

    if (transfer is None) != (library is None):
        received = f"transfer={transfer and transfer.value!r}, library={library!r}"
        raise invalid("transfer", "must be given together with `library`", received)
    starts = [f"prompt_init={path!r}" for path in prompt_init or ()]
    starts += [f"{prompt_init_mean=}"] if prompt_init_mean else []
    starts += [f"{prompt_init_text=}"] if prompt_init_text is not None else []
    if transfer is not None and starts:
        rule = "must not be given with `transfer`, which finds one"
        raise invalid("prompt_init", rule, starts[0])
    if len(starts) > 1:
        rule = "must be given once; a mean is --prompt-init-mean, once for each prompt"
        raise invalid("prompt_init", rule, ", ".join(starts))
    record = find_task(task)
    prepare_tensorflow()
    from keras_spot.base import progress
    from keras_spot.prompts import initializers
    from keras_spot.training.train import train
    from keras_spot.transfer import retrieval

    recipe = recipe_for(
        backbone,
        prompt_length=prompt_length,
        batch_size=batch_size,
        learning_rate=learning_rate,
        dropout=dropout,
        checkpoint_every=checkpoint_every,
        steps=steps,
    )
    start: Any = prompt_init[0] if prompt_init else None
    if prompt_init_mean:
        start = initializers.mean_of(prompt_init_mean)
    elif prompt_init_text is not None:
        start = initializers.from_text(prompt_init_text)
    options: dict[str, Any] = {
        "backbone": backbone,
        "recipe": recipe,
        "prompt_attention": prompt_attention,
        "data_dir": data_dir,
        "split": split,
        "validation_split": validation_split,
        "validation_limit": validation_limit,
        "method": method.value,
        "strategy": strategy,
        "dtype": dtype,
        "seed": seed,
    }
    with progress.bars() as follow:
        if transfer is None:
            report = follow(record.name, recipe.steps)
            run = train(record, run_dir, prompt_init=start, progress=report, **options)
        else:
            function = getattr(retrieval, transfer.name)
            options |= {"k": k, "by": similarity, "embedding_steps": embedding_steps}
            found = function(record, run_dir, library, progress=follow, **options)
            run = found.run
    if transfer is not None:
        _show_sources(found)
    if run.best:
        typer.echo(f"best: {run.best['score']:.2f} at step {run.best['step']}")
    typer.echo(f"run: {run_dir}")


@app.command("train-bank")
def train_bank_command(
    task: Annotated[
        list[str], typer.Option(help="A task for all prompts, or once for each prompt.")
    ],
    run_dir: Annotated[Path, typer.Option(help="Folder of the bank; again continues it.")],
    backbone: Backbone = "tiny",
    name: Annotated[list[str] | None, typer.Option(help="A name for each prompt.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="One for all, or one each.")] = None,
    learning_rate: Annotated[
        list[float] | None, typer.Option(help="One for all, or one each.")
    ] = None,
    prompt_init: Annotated[list[str] | None, typer.Option(help="One for all, or one each.")] = None,
    steps: Steps = None,
    prompt_length: Annotated[int | None, typer.Option(help="Tokens of each prompt.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples of each prompt a step.")] = None,
    prompt_attention: PromptAttention = None,
    checkpoint_every: CheckpointEvery = None,
    data_dir: DataDir = None,
    split: Split = "train",
    validation_split: ValidationSplit = None,
    validation_limit: Limit = None,
    method: MethodOption = Method.generate,
    strategy: StrategyName = "auto",
    dtype: Dtype = None,
) -> None:
    """Train several prompts at once on one backbone: tasks, seeds or learning rates."""
    records = [find_task(one) for one in task]
    prepare_tensorflow()
    from keras_spot.base import progress
    from keras_spot.training.bank import train_bank

    recipe = recipe_for(
        backbone,
        prompt_length=prompt_length,
        batch_size=batch_size,
        checkpoint_every=checkpoint_every,
        steps=steps,
    )
    with progress.bars() as follow:
        bank = train_bank(
            _one_or_all(records),
            run_dir,
            names=name,
            seeds=_one_or_all(seed or [0]),
            learning_rates=_one_or_all(learning_rate),
            prompt_init=_one_or_all(prompt_init),
            backbone=backbone,
            recipe=recipe,
            prompt_attention=prompt_attention,
            data_dir=data_dir,
            split=split,
            validation_split=validation_split,
            validation_limit=validation_limit,
            method=method.value,
            strategy=strategy,
            dtype=dtype,
            progress=follow("bank", recipe.steps),
        )
    for called, run in bank.runs.items():
        best = f" best: {run.best['score']:.2f} at step {run.best['step']}" if run.best else ""
        typer.echo(f"{called}:{best} run: {run.run_dir}")


def _one_or_all(values: Any) -> Any:
    """Return the value that was given once, for all prompts, else the list."""
    return values[0] if values and len(values) == 1 else values


def _show_sources(found: Any) -> None:
    """Print the ranking and what was used of it."""
    from rich.console import Console
    from rich.table import Table

    numbers = found.weights or found.scores or [1.0] * len(found.sources)
    used = {name: f"{number:.3f}" for name, number in zip(found.sources, numbers)}
    table = Table("source", "similarity", "score" if found.scores else "weight")
    for name, similarity in found.ranking[: max(10, len(used))]:
        table.add_row(name, f"{similarity:.3f}", used.get(name, ""))
    Console().print(table)
