"""`keras-spot evaluate`, `predict`, `submit` and `export`: what a trained prompt is for."""

import json
from pathlib import Path
from typing import Annotated

import typer

from keras_spot.cli.app import app
from keras_spot.cli.options import (
    BatchSize,
    Limit,
    PromptPath,
    TaskName,
    check_texts,
    find_task,
    like_run,
    load_model,
    prepare_tensorflow,
    read_lines,
)
from keras_spot.cli.outputs import Overwrite, announce, claim


@app.command("evaluate")
@like_run
def evaluate_command(
    task: TaskName,
    prompt: PromptPath,
    backbone: str | None = None,
    split: Annotated[str | None, typer.Option(help="Default: the validation splits.")] = None,
    data_dir: str | None = None,
    method: str = "generate",
    batch_size: BatchSize = 32,
    limit: Limit = None,
    dtype: str | None = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Write every example's answer here, as JSON lines. Default: nowhere."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score a prompt on a task and print the scores as JSON."""
    record = find_task(task)
    prepare_tensorflow()
    from keras_spot.training.evaluate import PREDICTIONS, evaluate

    notice = claim(predictions, PREDICTIONS, overwrite) if predictions else ""
    model = load_model(backbone, prompt, dtype, record)
    evaluation = evaluate(
        model,
        record,
        split,
        method=method,
        data_dir=data_dir,
        batch_size=batch_size,
        limit=limit,
    )
    if predictions:
        evaluation.write(predictions, overwrite)
        announce(predictions, notice)
    typer.echo(
        json.dumps({"task": evaluation.task, "examples": evaluation.examples, **evaluation.scores})
    )


@app.command("predict")
@like_run
def predict_command(
    prompt: PromptPath,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to answer; '-' reads lines of stdin.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Answer this task's split. Default: the texts.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the task.")] = "test",
    backbone: str | None = None,
    data_dir: str | None = None,
    method: str = "generate",
    batch_size: BatchSize = 32,
    limit: Limit = None,
    dtype: str | None = None,
    output: Annotated[
        Path | None, typer.Option(help="Write JSON lines here. Default: to stdout.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Answer texts, or every example of a task's split, as JSON lines."""
    from keras_spot.base.errors import invalid

    if (task is None) == (not texts):
        received = f"texts={texts or []}, task={task!r}"
        raise invalid("texts", "must be given, or `task` instead", received)
    record = None if task is None else find_task(task)
    prepare_tensorflow()
    from keras_spot.training.evaluate import PREDICTIONS, predict, write_predictions

    notice = "" if output is None else claim(output, PREDICTIONS, overwrite)
    if record is None:
        lines = read_lines() if texts == ["-"] else check_texts(texts or [])
        model = load_model(backbone, prompt, dtype)
        answers = model.generate(lines, batch_size=batch_size)
        records = iter([{"input": a, "prediction": b} for a, b in zip(lines, answers)])
    else:
        records = predict(
            load_model(backbone, prompt, dtype, record),
            record,
            split,
            method=method,
            data_dir=data_dir,
            batch_size=batch_size,
            limit=limit,
        )
    if output is None:
        for row in records:
            typer.echo(json.dumps(row, ensure_ascii=False, default=str))
    else:
        write_predictions(records, output, overwrite)
        announce(output, notice)


@app.command("submit")
@like_run
def submit_command(
    task: TaskName,
    prompt: PromptPath,
    output: Annotated[Path, typer.Argument(help="Folder of the submission file.")],
    split: Annotated[str, typer.Option(help="Test split.")] = "test",
    backbone: str | None = None,
    data_dir: str | None = None,
    method: str = "generate",
    batch_size: BatchSize = 32,
    dtype: str | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a GLUE or SuperGLUE submission file from a task's test split."""
    record = find_task(task)
    prepare_tensorflow()
    from keras_spot.training import submission
    from keras_spot.training.evaluate import submit

    place = submission.destination(record, output, split)
    notice = claim(place, submission.KIND, overwrite)
    file = submit(
        load_model(backbone, prompt, dtype, record),
        record,
        output,
        split,
        method=method,
        data_dir=data_dir,
        batch_size=batch_size,
        overwrite=overwrite,
    )
    typer.echo(f"saved: {file}{notice}")


@app.command("export")
@like_run
def export_command(
    prompt: Annotated[
        list[str],
        typer.Option(
            help="Prompt file, run, adapter or address. With several, each text comes with the "
            "name of its prompt, that of the file or folder."
        ),
    ],
    output: Annotated[Path, typer.Argument(help="Folder of the SavedModel.")],
    backbone: str | None = None,
    max_length: Annotated[
        int | None, typer.Option(help="Target tokens at most. Default: 32.")
    ] = None,
    dtype: str | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a SavedModel: text in, text out, tensorflow and tensorflow_text to run it."""
    prepare_tensorflow()
    from keras_spot.model.export import SAVED_MODEL

    notice = claim(output, SAVED_MODEL, overwrite)
    model = load_model(backbone, prompt, dtype)
    model.export(output, max_length=max_length, overwrite=overwrite)
    typer.echo(f"saved: {output}{notice}")
