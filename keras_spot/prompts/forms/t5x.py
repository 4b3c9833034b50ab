"""Prompts inside T5X checkpoints of the reference, which saves a whole model with each prompt."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base import t5x_store
from keras_spot.base.errors import invalid
from keras_spot.base.reading.arrays import plain_dtype
from keras_spot.prompts.forms.reference import REFERENCE_NAME
from keras_spot.prompts.prompt import check_header

__all__ = ["NAME", "read", "read_header"]

NAME = f"target.{REFERENCE_NAME}"


def read(file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the prompt `[P, H]` of a checkpoint, given its index, and the step."""
    index = _index(file)
    return t5x_store.read_array(file.parent, NAME, index), _step(file, index)


def read_header(file: Path) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the shape of a checkpoint's prompt, given its index, and the step."""
    index = _index(file)
    return index[NAME].shape, _step(file, index)


def _index(file: Path) -> dict[str, Any]:
    index = t5x_store.read_index(file.parent)
    if NAME not in index:
        raise invalid("path", f"must be a checkpoint with a prompt, {NAME}", str(file.parent))
    leaf = index[NAME]
    dtype = leaf.dtype if isinstance(leaf, np.ndarray) else plain_dtype(leaf.dtype)
    check_header(leaf.shape, dtype, where=f" in {file.parent}")
    return index


def _step(file: Path, index: dict[str, Any]) -> dict[str, Any]:
    step = index.get("state.step")
    if isinstance(step, np.ndarray) and step.size == 1 and step.dtype.kind in "iu":
        return {"step": int(step.item())}
    return {}
