"""Options that several commands share; those of runs are made from the fields of `Run`."""

import contextlib
import dataclasses
import functools
import inspect
import io
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import typer

from keras_spot.base.backend import COMPLETE, check_backend
from keras_spot.base.errors import invalid, missing_file
from keras_spot.base.quiet import without_start_up_notes
from keras_spot.base.recipe import Recipe
from keras_spot.training.run import Run

__all__ = [
    "BatchSize",
    "Dtype",
    "Layout",
    "Limit",
    "PromptPath",
    "Similarity",
    "TaskName",
    "check_texts",
    "find_task",
    "like_run",
    "load_model",
    "prepare_tensorflow",
    "prompt_names",
    "read_lines",
    "recorded",
    "recorded_backbone",
    "recorded_cards",
    "recorded_task",
    "run_of",
    "scope_of",
]

PromptPath = Annotated[
    str, typer.Option("--prompt", help="Prompt file, run (its best step), adapter or address.")
]
TaskName = Annotated[
    str, typer.Option("--task", help="Task name (see `tasks`) or a .yaml/.json task record.")
]
Layout = Annotated[
    str,
    typer.Option(
        "--devices",
        metavar="LAYOUT",
        help=Run.__dataclass_fields__["devices"].metadata["help"],
    ),
]
BatchSize = Annotated[int, typer.Option(help="Examples at once.")]
Dtype = Annotated[
    str | None,
    typer.Option(metavar="POLICY", help="Dtype policy, e.g. mixed_bfloat16. Default: the run's."),
]
Limit = Annotated[
    int | None, typer.Option(help="Only the first examples of each split. Default: all.")
]
Similarity = Annotated[
    str, typer.Option(help="average_token_cosine, per_token_cosine or max_inner_product.")
]

_METAVARS = {int: "N", float: "X"}
_OF_RUN = {f.name: f for f in dataclasses.fields(Run) if f.metadata["option"] is not None}
_OF_RECIPE = {f.name: f for f in dataclasses.fields(Recipe) if f.metadata["option"] is not None}


def like_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command's parameters the type, default and help of the fields of `Run`.

    That is done to parameters which are called like a field and are no options yet; a default of
    the command's own stays. Of `**given` all other fields of `Run` and `Recipe` are made, those
    that a bank may have one of for each prompt as lists; `run_of` takes them.
    """
    parameters = list(inspect.signature(command).parameters.values())
    made = [
        _parameter(_OF_RUN[p.name], default=p.default)
        if p.name in _OF_RUN and get_origin(p.annotation) is not Annotated
        else p
        for p in parameters
        if p.kind is not p.VAR_KEYWORD
    ]
    if len(made) < len(parameters):
        made = [
            _parameter(field, several=field.metadata["several"], of_recipe=fields is _OF_RECIPE)
            for fields in (_OF_RUN, _OF_RECIPE)
            for field in fields.values()
            if field.name not in inspect.signature(command).parameters
        ] + made
    made.sort(key=lambda p: p.default is not p.empty)
    ordered = [p.replace(kind=p.KEYWORD_ONLY) for p in made]

    @functools.wraps(command)
    def wrapper(**values: Any) -> Any:
        return command(**values)

    wrapper.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in ordered}
    return wrapper


def _parameter(
    field: dataclasses.Field,
    default: Any = inspect.Parameter.empty,
    several: bool = False,
    of_recipe: bool = False,
) -> inspect.Parameter:
    """Return a field as a parameter that Typer makes an option of."""
    facts, empty = field.metadata, inspect.Parameter.empty
    kind = facts["option"]
    annotation: Any = Literal[kind] if isinstance(kind, tuple) else kind
    if default is empty:
        default = field.default
    if default is dataclasses.MISSING:
        default = empty
    help = facts["help"]
    if of_recipe:
        default, help = None, f"{help} Default: the recipe's."
    elif default is None and field.default is not None:
        help = f"{help} Default: the prompt's, else tiny."
    if several:
        annotation = list[annotation]
        default = empty if default is empty else None
    if default is None:
        annotation = annotation | None
    metavar = facts["metavar"] or _METAVARS.get(kind)
    option = typer.Option("--" + field.name.replace("_", "-"), help=help, metavar=metavar)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, option],
    )


def run_of(given: Mapping[str, Any], bank: bool = False) -> Run:
    """Return the run that options describe.

    Args:
        given: the values of the options that `like_run` made of `**given`.
        bank: whether an option may be given once for each prompt.

    Raises:
        InvalidArgument: an option given several times for one prompt, or what `Run` raises.
    """
    from keras_spot import backbones

    values = {name: value for name, value in given.items() if value is not None}
    for name, field in _OF_RUN.items():
        if not field.metadata["several"] or name not in values:
            continue
        if len(values[name]) == 1:
            values[name] = values[name][0]
        elif not bank:
            rule = "must be given once; `train-bank` trains several prompts"
            raise invalid(name, rule, f"{name}={values[name]!r}")
    task = values["task"]
    one_task = isinstance(task, str)
    values["task"] = find_task(task) if one_task else [find_task(name) for name in task]
    changed = {name: values.pop(name) for name in _OF_RECIPE if name in values}
    recipe = dataclasses.replace(backbones.recipe_for(values["backbone"]), **changed)
    run = Run(**values, recipe=recipe)
    if bank and not run.is_bank:
        run = dataclasses.replace(run, names=[run.members[0].name])
    return run


def prepare_tensorflow() -> None:
    """Import TensorFlow as the commands want it; call it before any other heavy import.

    Its start-up notes stay off the terminal. On x86 it uses oneDNN, which TensorFlow itself only
    does on processors with AVX-512 VNNI, though a step takes a fifth less on those without. Both
    only where the environment does not say otherwise.

    Raises:
        InvalidArgument, MissingExtra: Keras' backend is unknown or not installed.
    """
    check_backend(COMPLETE)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with without_start_up_notes():
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")


def read_lines(file: Path | None = None) -> list[str]:
    """Return the lines of a file, by default of stdin, which end at a newline alone.

    Raises:
        InvalidArgument: bytes that are not UTF-8.
    """
    data = sys.stdin.buffer.read() if file is None else file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        source = "stdin" if file is None else "input_file"
        raise invalid(source, "must be UTF-8", f"{error.reason} in line {number}") from None
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


def recorded(prompt: str | Path) -> dict[str, Any]:
    """Return what is known of a prompt: its run's record, or its file's provenance, else `{}`."""
    from keras_spot import prompts

    try:
        record = prompts.read_provenance(prompt)
    except (OSError, ValueError):  # `build` says what is wrong with the prompt
        return {}
    return {**record, **(prompts.read_run(prompt) if os.path.isdir(prompt) else {})}


def recorded_backbone(prompt: str | Path) -> str | None:
    """Return the name or address of the backbone that a prompt's run recorded, None if none."""
    name = recorded(prompt).get("backbone_name")
    return None if name is None else str(name)


def recorded_task(prompt: str) -> Any:
    """Return the task that a prompt was trained on, None where it is not recorded.

    Raises:
        InvalidArgument, MissingFile: no prompt is there.
    """
    from keras_spot import prompts
    from keras_spot.training import contents

    task = contents.recorded_task(recorded(prompt))
    if task is None:
        prompts.read_provenance(prompt)
    return task


def recorded_cards(prompts: Sequence[str | Path]) -> list[Any]:
    """Return the cards of the tasks that prompts' files or runs recorded, see `card_of`."""
    from keras_spot.tasks.card import card_of

    return [card_of(recorded(one), name) for one, name in zip(prompts, prompt_names(prompts))]


def prompt_names(prompts: Sequence[str | Path]) -> list[str]:
    """Return what prompts are called: the names of their files or folders."""
    names = [Path(one).name for one in prompts]
    return [name.removesuffix(".npz").removesuffix(".npy") for name in names]


def scope_of(layout: str) -> contextlib.AbstractContextManager[Any]:
    """Return the scope of the devices of `--devices`; if several, they are told on stderr."""
    if layout == "one_device":
        return contextlib.nullcontext()
    from keras_spot.base.devices import devices

    with contextlib.redirect_stdout(io.StringIO()) as told:
        picked = devices(layout)
    if picked.name != "one_device":
        sys.stderr.write(told.getvalue())
    return picked.scope()


def load_model(
    backbone: str | None,
    prompt: str | list[str],
    dtype: str | None,
    task: Any = None,
    layout: str = "one_device",
    *,
    dtype_of_run: bool = True,
) -> Any:
    """Return a model with a trained prompt, its lengths those of the run, else of the task.

    Of several prompts it is a bank, each called by the name of its file or folder. Without a
    backbone's name it is the one that the prompt's run recorded, else `"tiny"`; it is quantised as
    that run's was, and without `dtype` computes as there, too, unless `dtype_of_run` is False.
    """
    from keras_spot.base import remote
    from keras_spot.model.build import build

    paths = [Path(one) for one in ([prompt] if isinstance(prompt, str) else prompt)]
    for path in paths:
        if not (remote.is_remote(path) or path.exists()):
            raise missing_file("prompt", "must exist", path)
    if backbone is None:
        backbone = recorded_backbone(paths[0]) or "tiny"
    known = recorded(paths[0])
    options: dict[str, Any] = {} if task is None else {"input_length": task.max_input_length}
    if known.get("input_length") is not None:  # longer texts were cut there, too
        options["input_length"] = known["input_length"]
    if dtype is None and dtype_of_run:
        dtype = known.get("dtype")
    options |= {"dtype": dtype, "quantize": known.get("quantize")}
    # What is quantised is told, but not among the answers.
    with scope_of(layout), contextlib.redirect_stdout(sys.stderr):
        if len(paths) == 1:
            model = build(backbone, paths[0], **options)
        else:
            model = build(backbone, paths, prompt_names=prompt_names(paths), **options)
    if task is not None:
        from keras_spot.data import set_target_length

        set_target_length(model, [task])
    return model
