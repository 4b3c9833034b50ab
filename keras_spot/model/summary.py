"""The prompts of a model as a table, in the form of Keras' summaries."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras_hub.src.utils.keras_utils import print_msg

__all__ = ["show_prompts"]


def show_prompts(
    model: Any, line_length: int, print_fn: Callable[[str], Any] | None = None
) -> None:
    """Print a row for each prompt: its name, its shape, and how many numbers of it are trained.

    Args:
        model: a `PromptedT5`.
        line_length: characters of a line.
        print_fn: takes the text. Default: standard output.
    """
    from rich.console import Console
    from rich.table import Column, Table

    if print_fn is None and not keras.utils.is_interactive_logging_enabled():
        print_fn = print_msg
    widths = [int(line_length * share) for share in (0.5, 0.25, 0.25)]
    first, *others = ("Prompt", "Shape", "Trainable")
    columns = [Column(first, width=widths[0])]
    columns += [Column(name, justify="right", width=w) for name, w in zip(others, widths[1:])]
    table = Table(*columns, width=line_length)
    names = model.prompt_names or [model.soft_prompt.name]
    numbers = [0] * len(names)
    for variable, number, _ in model.soft_prompt.multipliers():
        numbers[number] += math.prod(variable.shape) if variable.trainable else 0
    shape = str((model.prompt_length, model.backbone.hidden_dim))
    layer = model.soft_prompt.reparameterization
    kind = "SoftPrompt" if layer is None else f"SoftPrompt, {layer.name_in_records}"
    for name, of_prompt in zip(names, numbers):
        table.add_row(f"{name} ({kind})", shape, f"{of_prompt:,}")
    plain: dict[str, Any] = {} if print_fn is None else {"color_system": None}
    console = Console(highlight=False, width=line_length, **plain)
    if print_fn is None:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    print_fn(capture.get().rstrip("\n"))
