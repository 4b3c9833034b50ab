"""`keras-spot evaluate`, `submit` and `export`: what a trained prompt is for."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_spot.base.errors import invalid
from keras_spot.base.json_text import to_json
from keras_spot.cli.app import app
from keras_spot.cli.options import (
    BatchSize,
    Dtype,
    Layout,
    Limit,
    PromptPath,
    TaskName,
    find_task,
    like_run,
    load_model,
    prepare_tensorflow,
    recorded_cards,
    recorded_task,
)
from keras_spot.cli.outputs import Overwrite, announce, claim

if TYPE_CHECKING:
    from keras_spot.tasks.classes import ClassScores
    from keras_spot.training.evaluation import Evaluation

__all__ = ["evaluate_command", "export_command", "submit_command"]


@app.command("evaluate")
@like_run
def evaluate_command(
    prompt: PromptPath,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="Task name (see `tasks`) or a .yaml/.json task record. Default: the run's own.",
        ),
    ] = None,
    backbone: str | None = None,
    split: Annotated[str | None, typer.Option(help="Default: the validation splits.")] = None,
    data_dir: str | None = None,
    method: str = "generate",
    batch_size: BatchSize = 32,
    limit: Limit = None,
    dtype: Dtype = None,
    layout: Layout = "auto",
    predictions: Annotated[
        Path | None,
        typer.Option(help="Write every example's answer here, as JSON lines. Default: nowhere."),
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Show each class and what is taken for what, too, also in the JSON."
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Score a prompt on a task: tables in a terminal, elsewhere one line of JSON."""
    record = recorded_task(prompt) if task is None else find_task(task)
    if record is None:
        raise invalid("task", "must be given for a prompt that records none", prompt)
    prepare_tensorflow()
    from keras_spot.base import hosts
    from keras_spot.training.evaluate import evaluate
    from keras_spot.training.evaluation import PREDICTIONS

    notice = claim(predictions, PREDICTIONS, overwrite) if predictions else ""
    model = load_model(backbone, prompt, dtype, record, layout)
    evaluation = evaluate(
        model,
        record,
        split,
        method=method,
        data_dir=data_dir,
        batch_size=batch_size,
        limit=limit,
        progress="auto" if hosts.is_chief() else None,
    )
    if not hosts.is_chief():
        return
    if predictions:
        evaluation.write(predictions, overwrite)
        announce(predictions, notice)
    if sys.stdout.isatty():
        typer.echo(evaluation.report(classes=report))
    else:
        typer.echo(to_json(_as_json(evaluation, report)))


def _as_json(evaluation: "Evaluation", report: bool) -> dict[str, Any]:
    """Return the scores, and with a report each class and the counts of its answers."""
    scores = {name: round(value, 4) for name, value in evaluation.scores.items()}
    record = {"task": evaluation.task, "examples": evaluation.examples, **scores}
    if not report or evaluation.confusion is None:
        return record
    answers = [*evaluation.labels, ""]
    counts = [dict(zip(answers, map(int, row))) for row in evaluation.confusion]
    classes = [
        {**_rounded(of_class), "answered": {k: v for k, v in row.items() if v}}
        for of_class, row in zip(evaluation.classes, counts)
    ]
    return {**record, "classes": classes}


def _rounded(of_class: "ClassScores") -> dict[str, Any]:
    record = dataclasses.asdict(of_class)
    return {
        k: round(value, 4) if isinstance(value, float) else value for k, value in record.items()
    }


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
    dtype: Dtype = None,
    layout: Layout = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Write a GLUE or SuperGLUE submission file from a task's test split."""
    record = find_task(task)
    prepare_tensorflow()
    from keras_spot.base import hosts
    from keras_spot.training import submission
    from keras_spot.training.evaluate import submit

    place = submission.destination(record, output, split)
    notice = claim(place, submission.KIND, overwrite)
    file = submit(
        load_model(backbone, prompt, dtype, record, layout),
        record,
        output,
        split,
        method=method,
        data_dir=data_dir,
        batch_size=batch_size,
        overwrite=overwrite,
    )
    if hosts.is_chief():
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
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    format: Annotated[
        str,
        typer.Option(
            help="savedmodel (TensorFlow), transformers (a Hugging Face folder), ctranslate2 or "
            "onnx."
        ),
    ] = "savedmodel",
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help="What the prompt was trained on, of several prompts one each: then callers give "
            "fields. Default: what the prompt recorded.",
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            help="int8: smaller and faster, with other answers now and then. Of "
            "ctranslate2 and onnx. Default: float32."
        ),
    ] = None,
    backbone: str | None = None,
    max_length: Annotated[
        int | None, typer.Option(help="Target tokens at most. Default: 32.")
    ] = None,
    dtype: str | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model for those who serve it, each in a form that some engine runs alone."""
    tasks = recorded_cards(prompt) if task is None else [find_task(name) for name in task]
    prepare_tensorflow()
    from keras_spot.model.export import KINDS, check_format

    check_format(format)
    more = {} if quantize is None else {"quantize": quantize}
    if more and format not in ("ctranslate2", "onnx"):
        raise invalid("quantize", "must come with ctranslate2 or onnx", f"{format=}")
    notice = claim(output, KINDS[format], overwrite)
    model = load_model(backbone, prompt, dtype, dtype_of_run=False)
    model.export(output, format, max_length=max_length, overwrite=overwrite, tasks=tasks, **more)
    typer.echo(f"saved: {output}{notice}")
