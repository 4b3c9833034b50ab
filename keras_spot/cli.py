"""The `keras-spot` command: parse, call one public function, print."""

import dataclasses
import json
import os
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Soft prompt tuning and transfer (SPoT) for a frozen T5.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Method(StrEnum):
    """How a split is answered."""

    generate = "generate"
    beam = "beam"
    rank = "rank"


TaskName = Annotated[
    str, typer.Option("--task", help="Task name (see `tasks`) or a .yaml/.json task record.")
]
Backbone = Annotated[
    str, typer.Option(help="'tiny' (embedded), a KerasHub preset name or a preset folder.")
]
PromptPath = Annotated[
    str, typer.Option("--prompt", help="Prompt file or run folder (its best step).")
]
DataDir = Annotated[
    str | None, typer.Option(help="Folder with prepared TFDS data. Default: TFDS' own.")
]
Dtype = Annotated[str | None, typer.Option(help="Dtype policy, e.g. mixed_bfloat16.")]
BatchSize = Annotated[int, typer.Option(help="Examples at once.")]
Limit = Annotated[int | None, typer.Option(help="Only the first examples of each split.")]
MethodOption = Annotated[
    Method, typer.Option(help="Decode greedily or with beams, or rank the labels.")
]


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
    record = _task(task)
    _quiet_tensorflow()
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


@app.command("evaluate")
def evaluate_command(
    task: TaskName,
    prompt: PromptPath,
    backbone: Backbone = "tiny",
    split: Annotated[str | None, typer.Option(help="Default: the validation splits.")] = None,
    data_dir: DataDir = None,
    method: MethodOption = Method.generate,
    batch_size: BatchSize = 32,
    limit: Limit = None,
    dtype: Dtype = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write every example's answer here, as JSON lines.")
    ] = None,
) -> None:
    """Score a prompt on a task and print the scores as JSON."""
    record = _task(task)
    _quiet_tensorflow()
    from keras_spot.evaluation import evaluate

    model = _model(backbone, prompt, dtype, record)
    found = evaluate(
        model,
        record,
        split,
        method=method.value,
        data_dir=data_dir,
        batch_size=batch_size,
        limit=limit,
    )
    if predictions:
        found.write(predictions)
    typer.echo(json.dumps({"task": found.task, "examples": found.examples, **found.scores}))


@app.command("predict")
def predict_command(
    prompt: PromptPath,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to answer; '-' reads lines of stdin.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Answer this task's split instead.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the task.")] = "test",
    backbone: Backbone = "tiny",
    data_dir: DataDir = None,
    method: MethodOption = Method.generate,
    batch_size: BatchSize = 32,
    limit: Limit = None,
    dtype: Dtype = None,
    output: Annotated[
        Path | None, typer.Option(help="Write JSON lines here instead of to stdout.")
    ] = None,
) -> None:
    """Answer texts, or every example of a task's split, as JSON lines."""
    from keras_spot.errors import invalid

    if (task is None) == (not texts):
        received = f"texts={texts or []}, task={task!r}"
        raise invalid("texts", "must be given, or `task` instead", received)
    record = None if task is None else _task(task)
    _quiet_tensorflow()
    from keras_spot.evaluation import predict
    from keras_spot.files import atomic_write

    if record is None:
        lines = sys.stdin.read().splitlines() if texts == ["-"] else list(texts or [])
        model = _model(backbone, prompt, dtype)
        answers = model.generate(lines, batch_size=batch_size)
        records = iter([{"input": a, "prediction": b} for a, b in zip(lines, answers)])
    else:
        records = predict(
            _model(backbone, prompt, dtype, record),
            record,
            split,
            method=method.value,
            data_dir=data_dir,
            batch_size=batch_size,
            limit=limit,
        )
    rows = (json.dumps(row, ensure_ascii=False, default=str) for row in records)
    if output is None:
        for row in rows:
            typer.echo(row)
    else:
        with atomic_write(output, "w") as file:
            file.writelines(row + "\n" for row in rows)


@app.command("submit")
def submit_command(
    task: TaskName,
    prompt: PromptPath,
    output: Annotated[Path, typer.Argument(help="Folder of the submission file.")],
    split: Annotated[str, typer.Option(help="Test split.")] = "test",
    backbone: Backbone = "tiny",
    data_dir: DataDir = None,
    method: MethodOption = Method.generate,
    batch_size: BatchSize = 32,
    dtype: Dtype = None,
) -> None:
    """Write a GLUE or SuperGLUE submission file from a task's test split."""
    record = _task(task)
    _quiet_tensorflow()
    from keras_spot.evaluation import submit

    file = submit(
        _model(backbone, prompt, dtype, record),
        record,
        output,
        split,
        method=method.value,
        data_dir=data_dir,
        batch_size=batch_size,
    )
    typer.echo(f"saved: {file}")


@app.command("export")
def export_command(
    prompt: PromptPath,
    output: Annotated[Path, typer.Argument(help="Folder of the SavedModel.")],
    backbone: Backbone = "tiny",
    max_length: Annotated[int | None, typer.Option(help="Target tokens at most.")] = None,
    dtype: Dtype = None,
) -> None:
    """Write a SavedModel: text in, text out, tensorflow and tensorflow_text to run it."""
    _quiet_tensorflow()
    _model(backbone, prompt, dtype).export(output, max_length=max_length)
    typer.echo(f"saved: {output}")


@app.command("demo")
def demo_command(
    output: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("spot-demo"),
) -> None:
    """Transfer a prompt, compare, draw, export and answer: the whole story in minutes."""
    _quiet_tensorflow()
    from keras_spot import demo

    demo.show(demo.run_demo(output))


@app.command("tasks")
def tasks_command(
    prepare: Annotated[
        str | None, typer.Option(help="Download and prepare this task's data (network).")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """List the tasks, or prepare the data of one."""
    from keras_spot import tasks

    if prepare is not None:
        _quiet_tensorflow()
        from keras_spot import pipeline

        typer.echo(f"prepared: {pipeline.prepare(_task(prepare), data_dir)}")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "data", "metrics", "input")
    for name in tasks.names():
        task = tasks.get(name)
        table.add_row(name, task.tfds or "files", ", ".join(task.metrics), task.input)
    Console().print(table)


def main() -> None:
    """Run the command; a mistake of the user's is one line on stderr and exit code 2."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except KeyboardInterrupt:
        print("interrupted; the same command continues a training run", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = _user_message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def _user_message(error: Exception) -> str | None:
    """Return the one line of an error that the user can mend, None for a fault of ours."""
    if hasattr(error, "format_message"):  # of the command line's own parser
        return " ".join(error.format_message().split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}"
    # Ours name an argument first; inside a data pipeline TensorFlow wraps them.
    ours = re.search(r"(?:^|Error: )(`\w+` [^\n]+)", str(error))
    if ours:
        return ours[1]
    return str(error) if isinstance(error, (FileNotFoundError, ModuleNotFoundError)) else None


def _quiet_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _task(name: str) -> Any:
    from keras_spot import tasks

    if Path(name).suffix in (".yaml", ".yml", ".json"):
        return tasks.load(name)
    return tasks.get(name)


def _model(backbone: str, prompt: str, dtype: str | None, task: Any = None) -> Any:
    from keras_spot.building import build

    lengths = {}
    if task is not None:
        lengths = {"input_length": task.max_input_length, "target_length": task.max_target_length}
    return build(backbone, Path(prompt), dtype=dtype, **lengths)


if __name__ == "__main__":
    main()
