"""Options that several commands share, and what they stand for."""

import dataclasses
import os
import platform
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_spot.base.backend import check_backend
from keras_spot.base.errors import invalid
from keras_spot.base.quiet import without_start_up_notes


class Method(StrEnum):
    """How a split is answered."""

    generate = "generate"
    beam = "beam"
    rank = "rank"


TaskName = Annotated[
    str, typer.Option("--task", help="Task name (see `tasks`) or a .yaml/.json task record.")
]
Backbone = Annotated[
    str,
    typer.Option(
        help="'tiny' (embedded), a preset or LM-adapted size by name, or the folder or address "
        "of a preset, a Hugging Face T5 or a T5X checkpoint."
    ),
]
PromptPath = Annotated[
    str, typer.Option("--prompt", help="Prompt file, run (its best step), adapter or address.")
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
Similarity = Annotated[
    str, typer.Option(help="average_token_cosine, per_token_cosine or max_inner_product.")
]


def prepare_tensorflow() -> None:
    """Import TensorFlow as the commands want it; call it before any other heavy import.

    Its start-up notes stay off the terminal. On x86 it uses oneDNN, which TensorFlow itself only
    does on processors with AVX-512 VNNI, though a step takes a fifth less on those without. Both
    only where the environment does not say otherwise.

    Raises:
        InvalidArgument, MissingExtra: Keras' backend is unknown or not installed.
    """
    check_backend()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with without_start_up_notes():
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")


def read_lines() -> list[str]:
    """Return the lines of stdin, which end at a newline alone.

    Raises:
        InvalidArgument: bytes that are not UTF-8.
    """
    data = sys.stdin.buffer.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise invalid("stdin", "must be UTF-8", f"{error.reason} in line {number}") from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def check_texts(texts: Iterable[str]) -> list[str]:
    """Return the texts of a command line.

    Raises:
        InvalidArgument: bytes that are not UTF-8.
    """
    checked = []
    for text in texts:
        if any("\udc80" <= character <= "\udcff" for character in text):
            try:  # a locale that knows ASCII alone passes the bytes on
                text = os.fsencode(text).decode("utf-8")
            except UnicodeDecodeError:
                raise invalid("texts", "must be UTF-8", ascii(text)) from None
        checked.append(text)
    return checked


def find_task(name: str) -> Any:
    """Return a task by its name or from its .yaml or .json record.

    For a data file the lines of a record go to stderr, and the name is refused.
    """
    from keras_spot import tasks
    from keras_spot.tasks.file_types import is_data_file

    if Path(name).suffix in (".yaml", ".yml", ".json"):
        return tasks.load(name)
    if is_data_file(name):
        from keras_spot.data.suggest import suggest_task

        typer.echo(suggest_task(name), err=True)
        rule = "must be a task's name or record, not a data file"
        record = str(Path(name).with_name(Path(name).name.partition(".")[0] + ".yaml"))
        received = f"{name}: write the lines above into {record} and use that"
        raise invalid("task", rule, received)
    return tasks.get(name)


def recipe_for(backbone: str, **given: Any) -> Any:
    """Return the backbone's recipe with the numbers that were given."""
    from keras_spot import backbones

    changed = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(backbones.recipe_for(backbone), **changed)


def load_model(backbone: str, prompt: str | list[str], dtype: str | None, task: Any = None) -> Any:
    """Return a model with a trained prompt, its lengths those of the task if there is one.

    Of several prompts it is a bank, each called by the name of its file or folder.
    """
    from keras_spot.model.build import build

    lengths = {} if task is None else {"input_length": task.max_input_length}
    paths = [Path(one) for one in ([prompt] if isinstance(prompt, str) else prompt)]
    if len(paths) == 1:
        model = build(backbone, paths[0], dtype=dtype, **lengths)
    else:
        names = [path.name.removesuffix(".npz").removesuffix(".npy") for path in paths]
        model = build(backbone, paths, dtype=dtype, prompt_names=names, **lengths)
    if task is not None:
        from keras_spot.data import set_target_length

        set_target_length(model, [task])
    return model
