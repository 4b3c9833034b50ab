"""What the prompts of a bank are called."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_spot.base.errors import invalid, unknown

__all__ = ["check", "folder", "number", "numbers"]


def check(names: Sequence[str] | None, num_prompts: int | None) -> tuple[str, ...] | None:
    """Return the names of K prompts, by default their numbers; None without a bank.

    Raises:
        InvalidArgument: names without a bank, of another number than K, or that do not tell the
            prompts or their folders apart.

    >>> check(None, 3)
    ('0', '1', '2')
    """
    if num_prompts is None:
        if names is not None:
            raise invalid("prompt_names", "must come with `num_prompts`", f"{names!r}")
        return None
    names = tuple(map(str, range(num_prompts))) if names is None else tuple(names)
    folders = {folder(name) for name in names if not name.startswith(".")} - {""}
    if not len(names) == len(folders) == num_prompts:
        rule = f"must be {num_prompts} different names, good for folders"
        raise invalid("prompt_names", rule, f"{list(names)}")
    return names


def folder(name: str) -> str:
    """Return what the folder of a prompt's files is called.

    >>> folder("super_glue/cb")
    'super_glue.cb'
    """
    return name.replace("/", ".")


def number(names: Sequence[str] | None, prompt: str | int | None) -> int | None:
    """Return the number of a prompt given by number or name; None for the only one.

    Raises:
        InvalidArgument: no prompt of that name or number, none named of a bank, or one without a
            bank.
    """
    if names is None:
        if prompt is not None:
            raise invalid("prompt", "must be None for a model with one prompt", f"{prompt=}")
        return None
    if isinstance(prompt, str):
        if prompt not in names:
            raise unknown("prompt", prompt, names)
        return names.index(prompt)
    if not isinstance(prompt, (int, np.integer)) or not 0 <= prompt < len(names):
        rule = f"must be a name or a number below {len(names)}, the prompts of the bank"
        raise invalid("prompt", rule, f"{prompt=}")
    return int(prompt)


def numbers(names: Sequence[str] | None, prompt: Any, rows: int) -> np.ndarray | None:
    """Return the prompts' numbers of B rows, `[B]` int32: one prompt for all, or one a row.

    Raises:
        InvalidArgument: what `number` raises, or prompts of another number than rows.

    >>> numbers(("sst2", "cb"), ["cb", 0], 2).tolist()
    [1, 0]
    """
    if names is None or prompt is None or isinstance(prompt, (str, int, np.integer)):
        index = number(names, prompt)
        return None if index is None else np.full(rows, index, "int32")
    if len(prompt) != rows:
        rule = "must be one for all texts, or one for each"
        raise invalid("prompt", rule, f"{len(prompt)} prompts for {rows} texts")
    return np.array([number(names, one) for one in prompt], "int32").reshape(rows)
