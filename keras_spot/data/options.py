"""The arguments that all loaders share, written down once."""

import os
from collections.abc import Sequence
from typing import TypedDict

from keras_spot.base.errors import invalid, unknown

__all__ = [
    "LoadOptions",
    "PathLike",
    "check_positive",
    "check_split",
    "check_start",
    "with_defaults",
]

PathLike = str | os.PathLike[str]


class LoadOptions(TypedDict, total=False):
    """What `load_task`, `load_mixture` and `load_bank` take besides their own arguments.

    Attributes:
        data_dir: the TFDS directory; default TFDS' own.
        input_length: longest T; default the largest of the tasks' `max_input_length`, of a bank
            each task's own.
        target_length: longest target; default the largest of the tasks' `target_limit`. D is
            that, or the tokens of the longest label where all targets are labels.
        buckets: lengths T to choose from, below `input_length`, which is always one; `()` pads
            all to `input_length`, so that every shape is static, as a TPU needs it. Default: two
            dozen lengths, a few where every one is compiled (JAX, accelerators), none on a TPU.
        limit: read only the first `limit` rows of each task; default all.
    """

    data_dir: PathLike | None
    input_length: int | None
    target_length: int | None
    buckets: Sequence[int] | None
    limit: int | None


def with_defaults(given: LoadOptions) -> LoadOptions:
    """Return the options with those that are not given at their defaults.

    Raises:
        InvalidArgument: an argument that no loader has, or a `limit` that is not positive.
    """
    defaults: LoadOptions = {
        "data_dir": None,
        "input_length": None,
        "target_length": None,
        "buckets": None,
        "limit": None,
    }
    for name in given:
        if name not in defaults:
            raise unknown("argument", name, defaults)
    options: LoadOptions = {**defaults, **given}
    check_positive(limit=options["limit"])
    return options


def check_positive(**arguments: int | None) -> None:
    """Raise for an argument that is given and not a positive integer."""
    for name, value in arguments.items():
        if value is not None and (type(value) is not int or value < 1):
            raise invalid(name, "must be a positive integer", f"{name}={value!r}")


def check_start(step: int) -> None:
    """Raise for a step that no run can start at."""
    if type(step) is not int or step < 0:
        raise invalid("start_step", "must be a step number from 0 on", f"start_step={step!r}")


def check_split(split: object) -> None:
    """Raise for a split that is no text, such as a tokenizer in its place."""
    if not isinstance(split, str):
        rule = "must be a split's name (the tokenizer comes after it)"
        raise invalid("split", rule, f"split={split!r}")
