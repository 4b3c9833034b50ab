"""`keras-spot predict`: answers to texts, to rows that the run's task reads, or to a split."""

import collections
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_spot.base.errors import invalid, missing_file
from keras_spot.base.json_text import to_json
from keras_spot.cli.app import app
from keras_spot.cli.options import (
    BatchSize,
    Dtype,
    Layout,
    Limit,
    PromptPath,
    check_texts,
    find_task,
    like_run,
    load_model,
    prepare_tensorflow,
    read_lines,
    recorded_task,
)
from keras_spot.cli.outputs import Overwrite, announce, claim

__all__ = ["predict_command"]

_SHOWN = 60  # characters of a text in a warning


@app.command("predict")
@like_run
def predict_command(
    prompt: PromptPath,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Whole texts, as the task's template makes them; '-' reads stdin's."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A feature of the task's template, once for each. Default: none.",
        ),
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option(
            help="Rows of the task's features (.csv, .tsv, .json, .jsonl, .parquet), or whole "
            "texts, a line each (.txt). Default: none."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="Whose template, labels and lengths hold; alone: answer its split. Default: the "
            "task that the prompt was trained on.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the task.")] = "test",
    backbone: str | None = None,
    data_dir: str | None = None,
    method: str = "generate",
    batch_size: BatchSize = 32,
    limit: Limit = None,
    dtype: Dtype = None,
    layout: Layout = "auto",
    output: Annotated[
        Path | None, typer.Option(help="Write JSON lines here. Default: to stdout.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Answer texts, rows, or every example of a task's split, as JSON lines.

    With --method rank each answer has the probability of every label.
    """
    given = {"texts": texts, "field": field, "input_file": input_file}
    named = [name for name, value in given.items() if value]
    if len(named) > 1 or not (named or task):
        rule = "must be given, or one of `field`, `input_file` and `task` instead"
        raise invalid("texts", rule, ", ".join(named) or "none of them")
    of_task = recorded_task(prompt) if task is None else find_task(task)
    rows = None if not field else [_row(field)]
    if input_file is not None and not input_file.is_file():
        raise missing_file("input_file", "must be a file", input_file)
    if input_file and output and output.exists() and output.samefile(input_file):
        raise invalid("output", "must be another file than `input_file`", output)
    whole = _whole_texts(texts, input_file)
    if whole is None and of_task is None:
        rule = "must be given for a prompt that does not record what it was trained on"
        raise invalid("task", rule, prompt)
    prepare_tensorflow()
    from keras_spot.base import hosts
    from keras_spot.training import predict
    from keras_spot.training.evaluation import PREDICTIONS, write_predictions

    notice = "" if output is None else claim(output, PREDICTIONS, overwrite)
    options: dict[str, Any] = {"method": method, "batch_size": batch_size}
    if whole is not None:
        if of_task is not None:
            _warn_of_unlike(of_task, whole)
        model = load_model(backbone, prompt, dtype, of_task, layout)
        records = predict.predict_texts(model, whole[:limit], of_task, **options)
    else:
        options |= {"limit": limit, "data_dir": data_dir}
        asked = of_task
        if rows is not None or input_file is not None:
            asked, split = predict.of_rows(of_task, rows, input_file), predict.GIVEN
        model = load_model(backbone, prompt, dtype, of_task, layout)
        records = predict.predict(model, asked, split, **options)
        if split == predict.GIVEN:
            records = _without_place(records)
    if not hosts.is_chief():
        collections.deque(records, maxlen=0)  # answers with the chief, and leaves the telling to it
    elif output is None:
        for record in records:
            typer.echo(to_json(record, ensure_ascii=False, default=str))
            sys.stdout.flush()
    else:
        write_predictions(records, output, overwrite)
        announce(output, notice)


def _row(fields: Sequence[str]) -> dict[str, str]:
    """Return the features of options such as `sentence=a fine film`."""
    row: dict[str, str] = {}
    for text in check_texts(fields):
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise invalid("field", "must be NAME=VALUE", text)
        if name in row:
            raise invalid("field", "must be given once for each feature", f"{name} twice")
        row[name] = value
    return row


def _whole_texts(texts: Sequence[str] | None, input_file: Path | None) -> list[str] | None:
    """Return whole texts, None where rows or a split are asked for.

    Raises:
        InvalidArgument: a file's name among the texts, or a file that is not UTF-8.
    """
    from keras_spot.tasks.file_types import is_data_file

    if input_file is not None:
        if is_data_file(input_file.name) or input_file.suffix.lower() == ".json":
            return None
        return read_lines(input_file)
    if not texts:
        return None
    if list(texts) == ["-"]:
        return read_lines()
    lines = check_texts(texts)
    for text in lines:
        if _is_file(text):
            rule = "must be texts, not a file's name; --input-file reads a file"
            raise invalid("texts", rule, text)
    return lines


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name
        return False


def _warn_of_unlike(task: Any, lines: Sequence[str]) -> None:
    from keras_spot.training.predict import features, unlike

    strange = unlike(task, lines)
    if strange:
        first = strange[0] if len(strange[0]) <= _SHOWN else strange[0][: _SHOWN - 1] + "…"
        fields = " ".join(f"--field {name}=…" for name in features(task))
        typer.echo(
            f"warning: {len(strange)} of {len(lines)} texts do not read as the prompt was trained, "
            f"{task.input!r} (first: {first!r}); {fields} fills that in",
            err=True,
        )


def _without_place(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield records of rows that belong to no split, without what says so."""
    from keras_spot.tasks import UNLABELLED

    for record in records:
        dropped = {"split"} | ({"target"} if record["target"] == UNLABELLED else set())
        yield {key: value for key, value in record.items() if key not in dropped}
