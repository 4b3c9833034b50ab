"""Initial prompts that are trained prompts: one, or the mean of several."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import keras
import numpy as np

from keras_spot.base import remote
from keras_spot.base.errors import invalid
from keras_spot.base.types import Array, PathLike, Record
from keras_spot.prompts import arithmetic, store
from keras_spot.prompts.forms import peft
from keras_spot.prompts.initializers import base
from keras_spot.prompts.prompt import Prompt, as_prompt

__all__ = ["FromNumpy", "OfMultitask", "from_numpy", "mean_of", "multitask"]


@keras.saving.register_keras_serializable("keras_spot")
class FromNumpy(base.PromptInitializer):
    """Start from a trained prompt: a file, a run directory or an array `[P, H]`.

    This is the transfer of SPoT (Vu et al. 2022, section 2.2). The values are read at once, and
    the initialiser's config carries them, so that a saved layer never needs the file again.

    Args:
        prompt: path or address of any form that `prompts.read` knows, an array, or a `Prompt`.
        step: which step of a run directory, see `prompts.read`.

    Raises:
        MissingFile: nothing at that path.
        InvalidArgument: the file or array is no prompt.

    >>> FromNumpy(np.ones((2, 3)))((2, 3)).shape
    TensorShape([2, 3])
    >>> FromNumpy(np.ones((2, 3)))((2, 4))
    Traceback (most recent call last):
    InvalidArgument: `initializer` must give a prompt of shape (2, 4). Received: (2, 3)
    """

    def __init__(self, prompt: PathLike | Array | Prompt, step: int | str | None = None) -> None:
        self._description: str | list[object] | None = None
        if isinstance(prompt, (str, os.PathLike)):
            path, prompt = prompt, store.read(prompt, step)
            self._description = os.fspath(path) if step is None else [os.fspath(path), step]
        if isinstance(prompt, Prompt):
            self.values, self.sources = prompt.values, (prompt,)
        else:
            self.values = as_prompt(prompt)
        self.length = len(self.values)

    @property
    def origin(self) -> str:
        """Where the values came from, for messages."""
        return ", ".join(str(source.path) for source in self.sources) or "an array"

    def rows(self, length: int, width: int) -> np.ndarray:
        return self.values

    def describe(self) -> str | list[object] | dict[str, object]:
        """Return the path (with the step, if one was given), or a hash of the numbers."""
        if self._description is not None:
            return self._description
        return "array " + hashlib.sha256(self.values.tobytes()).hexdigest()[:16]

    def get_config(self) -> Record:
        return {"prompt": base.encode(self.values)}

    @classmethod
    def from_config(cls, config: Record) -> Self:
        return cls(base.decode(config["prompt"]))


from_numpy = FromNumpy


class OfMultitask(FromNumpy):
    """A task's prompt of a multitask adapter, with the parts that it is made of."""

    parts: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def rank(self) -> int:
        """The rank of the adapter's factors."""
        return int(self.parts[1].shape[1])


def multitask(adapter: PathLike) -> "list[OfMultitask]":
    """Return an initialiser for each task of a multitask adapter of PEFT.

    With `reparameterization={"shared": {"rank": r}}` and the adapter's rank r the bank goes on from
    the adapter's own shared prompt and factors; otherwise each starts from its task's prompt.

    Args:
        adapter: the folder of an adapter of the type MULTITASK_PROMPT_TUNING, or its address.

    Raises:
        MissingFile: no adapter there.
        InvalidArgument: another adapter, or a damaged one.
    """
    shared, cols, rows = peft.read_parts(peft.locate(Path(remote.fetch(adapter))))
    starts = []
    for number, parts in enumerate(zip(cols, rows)):
        start = OfMultitask(store.read(adapter, task_id=number))
        start.parts = (shared, *parts)
        starts.append(start)
    return starts


def mean_of(prompts: Mapping[str, float] | Sequence[PathLike | Array | Prompt]) -> FromNumpy:
    """Return the initialiser of the (weighted) mean of trained prompts.

    Args:
        prompts: `{path: weight}`, the weights normalised to sum 1, or a list of paths, arrays
            `[P, H]` or `Prompt`s of equal weight.

    Raises:
        MissingFile: nothing at a path.
        InvalidArgument: no prompts, different shapes, or weights that cannot be normalised.

    >>> mean_of([np.zeros((1, 2)), np.ones((1, 2))]).values
    array([[0.5, 0.5]], dtype=float32)
    """
    if isinstance(prompts, (str, os.PathLike, np.ndarray)):
        rule = "must be a list of prompts, or {path: weight}"
        raise invalid("prompts", rule, type(prompts).__name__)
    parts = [FromNumpy(prompt) for prompt in prompts]
    weights = list(prompts.values()) if isinstance(prompts, Mapping) else None
    mean = FromNumpy(arithmetic.average([part.values for part in parts], weights))
    mean.sources = tuple(source for part in parts for source in part.sources)
    mean._description = [
        [part.describe(), weight] for part, weight in zip(parts, weights or [1] * len(parts))
    ]
    return mean
