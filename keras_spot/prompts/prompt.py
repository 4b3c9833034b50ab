"""What a prompt is: numbers with a shape, and what is known of their making."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.base.types import Array

__all__ = ["Prompt", "as_prompt", "check_header"]


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A soft prompt.

    Attributes:
        values: float32 array `[P, H]`.
        provenance: what is known of its making: `task`, `step`, `score`, `backbone`
            (fingerprint), `base_model` (name on the Hugging Face hub), `versions`, and whatever
            else its writer recorded.
        path: the file it was read from, if any; of a remote one, the local copy.
    """

    values: np.ndarray
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    path: Path | None = None

    def __post_init__(self):
        object.__setattr__(self, "values", as_prompt(self.values))


def as_prompt(values: Array | Sequence[Sequence[float]], argument: str = "prompt") -> np.ndarray:
    """Return `values` as a float32 array `[P, H]`.

    Raises:
        InvalidArgument: wrong rank, empty, not floating-point, or with NaN or infinity.

    >>> as_prompt([[0.5, 1.0]]).shape
    (1, 2)
    >>> as_prompt([0.5, 1.0])
    Traceback (most recent call last):
    InvalidArgument: `prompt` must have the shape [prompt length, hidden width]. Received: ...
    """
    array = np.asarray(values)
    check_header(array.shape, array.dtype, argument)
    with np.errstate(over="ignore"):  # what is too large is infinite, and refused
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise invalid(argument, "must hold finite numbers only", f"NaN or infinity in row {bad}")
    return array


def check_header(
    shape: tuple[int, ...], dtype: np.dtype, argument: str = "prompt", where: str = ""
) -> None:
    """Raise the error of an array that cannot be a prompt, whatever its numbers are."""
    if dtype.hasobject:
        raise invalid(argument, "must not be pickled", f"dtype={dtype}{where}")
    # NumPy counts bfloat16, which ml_dtypes adds, among the opaque kinds.
    if dtype.kind != "f" and dtype.name != "bfloat16":
        raise invalid(argument, "must be floating-point", f"dtype={dtype}{where}")
    if len(shape) != 2:
        raise invalid(
            argument, "must have the shape [prompt length, hidden width]", f"shape={shape}{where}"
        )
    if 0 in shape:
        raise invalid(argument, "must not be empty", f"shape={shape}{where}")
