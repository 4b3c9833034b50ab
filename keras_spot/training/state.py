"""What an exact continuation needs: arrays in one checked file, from variables and back."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base.errors import damaged, invalid
from keras_spot.base.reading.arrays import open_npz

__all__ = ["State", "arrays_of", "assign", "checksum", "read_state"]

State = dict[str, np.ndarray]


def read_state(file: Path) -> State:
    """Return the arrays of a state; raise DamagedFile for whatever is wrong with the file."""
    rule = "must hold the state of a run"
    with open_npz(file) as archive:
        state = {name: archive[name] for name in archive.files}
    recorded = state.pop("checksum", None)
    if recorded is not None and str(recorded) != checksum(state):
        raise damaged(file, rule, "its checksum is another")
    step = state.get("step", np.zeros(0))
    if "prompt" not in state or step.shape != () or step.dtype.kind not in "iu":
        raise damaged(file, rule, "prompt or step is missing")
    for name in ("seconds", "skipped"):
        if name in state and (state[name].shape != () or state[name].dtype.kind not in "iuf"):
            raise damaged(file, rule, f"{name} is no number")
    return state


def checksum(state: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        array = np.ascontiguousarray(state[name])
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def arrays_of(variables: Sequence[Any], prefix: str) -> State:
    """Return variables' values as `prefix_0`, `prefix_1`, ..."""
    from keras import ops

    return {f"{prefix}_{i}": ops.convert_to_numpy(v) for i, v in enumerate(variables)}


def assign(variables: Sequence[Any], state: State, prefix: str, optional: bool = False) -> None:
    """Put values of a state back into variables.

    Raises:
        InvalidArgument: values of another number or shape; none at all if they are `optional`.
    """
    names = [name for name in state if name.rpartition("_")[0] == prefix]
    if optional and not names:
        return
    values = [state.get(f"{prefix}_{i}") for i in range(max(len(names), len(variables)))]
    shapes = [None if value is None else value.shape for value in values]
    if [tuple(v.shape) for v in variables] != shapes:
        rule = "must hold a state of this model and optimiser"
        raise invalid("run_dir", rule, f"{prefix} of shapes {shapes}")
    for variable, value in zip(variables, values):
        variable.assign(value)
