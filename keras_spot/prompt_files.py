"""A soft prompt with its provenance, and every form it has on disk (NumPy alone).

| form | path | provenance |
|---|---|---|
| NumPy | `*.npy` | none |
| reference step | `.../checkpoint_{step}/encoder.prompt.prompt.prompt` (`.npy` bytes) | the step |
| run directory | `numpy_checkpoints/checkpoint_{step}/...`, perhaps `run.json` | its and the step |
| own form | `*.npz` with the arrays `prompt` and `provenance` (JSON text) | everything |

The reference layout is that of google-research/prompt-tuning. Files are inert: nothing is
ever unpickled, and size, dtype and shape are checked before the data are read.
"""

import dataclasses
import io
import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from keras_spot.errors import invalid
from keras_spot.files import atomic_write

REFERENCE_NAME = "encoder.prompt.prompt.prompt"
CHECKPOINTS = "numpy_checkpoints"
RUN_FILE = "run.json"
_STEP = re.compile(r"checkpoint_(\d+)")


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A soft prompt.

    Attributes:
        values: float32 array `[P, H]`.
        provenance: what is known of its making: `task`, `step`, `score`, `backbone`
            (fingerprint), `versions`, and whatever else its writer recorded.
        path: the file it was read from, if any.
    """

    values: np.ndarray
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    path: Path | None = None

    def __post_init__(self):
        object.__setattr__(self, "values", as_prompt(self.values))


def as_prompt(values: Any, argument: str = "prompt") -> np.ndarray:
    """Return `values` as a float32 array `[P, H]`.

    Raises:
        ValueError: wrong rank, empty, not floating-point, or with NaN or infinity.

    >>> as_prompt([[0.5, 1.0]]).shape
    (1, 2)
    >>> as_prompt([0.5, 1.0])
    Traceback (most recent call last):
    ValueError: `prompt` must have the shape [prompt length, hidden width]. Received: shape=(2,)
    """
    array = np.asarray(values)
    _check_header(array.shape, array.dtype, argument, "")
    array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise invalid(argument, "must hold finite numbers only", f"NaN or infinity in row {bad}")
    return array


def read(path: str | os.PathLike, step: int | str | None = None) -> Prompt:
    """Read a prompt in any of the forms above.

    Args:
        path: a file, a step directory or a run directory.
        step: which step of a run directory: a number, `"best"`, `"newest"`, or `None`
            for the best one where the run recorded one, else the newest.

    Raises:
        FileNotFoundError: there is nothing at `path`, or the run has no such step.
        ValueError: the file is no prompt: truncated, pickled, of another rank, not finite.
    """
    file = locate(path, step)
    if file.suffix == ".npz":
        values, provenance = _read_npz(file)
    else:
        with open(file, "rb") as stream:
            values = _read_npy(stream, os.path.getsize(file), str(file))
        provenance = _run_provenance(file)
    return Prompt(_named(values, file), provenance, file)


def read_provenance(path: str | os.PathLike, step: int | str | None = None) -> dict[str, Any]:
    """Return the provenance and `shape` of a prompt without reading its data."""
    file = locate(path, step)
    if file.suffix == ".npz":
        with _open_npz(file) as archive:
            with archive.open("prompt.npy") as stream:
                shape, _, _ = _read_header(stream, str(file))
            return {**_read_json_member(archive, file), "shape": shape}
    with open(file, "rb") as stream:
        shape, _, _ = _read_header(stream, str(file))
    return {**_run_provenance(file), "shape": shape}


def write(
    path: str | os.PathLike, values: Any, provenance: Mapping[str, Any] | None = None
) -> Path:
    """Write a prompt in the form its name asks for, whole or not at all.

    Args:
        path: `*.npz` (own form), `*.npy`, or a path that ends in the reference's file name.
        values: `[P, H]` floating-point numbers; stored as float32.
        provenance: JSON-able record; only the own form keeps it.

    Raises:
        ValueError: another file name, or values that are no prompt.
        OSError: the file cannot be written.
    """
    path = Path(path)
    values = as_prompt(values)
    if path.suffix == ".npz":
        record = np.array(json.dumps(dict(provenance or {}), sort_keys=True))
        with atomic_write(path) as file:
            np.savez(file, prompt=values, provenance=record)
    elif path.suffix == ".npy" or path.name == REFERENCE_NAME:
        with atomic_write(path) as file:
            np.lib.format.write_array(file, values, allow_pickle=False)
    else:
        raise invalid("path", f"must end in .npz, .npy or {REFERENCE_NAME}", f"path={str(path)!r}")
    return path


def step_path(run_dir: str | os.PathLike, step: int) -> Path:
    """Return where the reference keeps the prompt of `step`.

    >>> step_path("run", 500).as_posix()
    'run/numpy_checkpoints/checkpoint_500/encoder.prompt.prompt.prompt'
    """
    return Path(run_dir) / CHECKPOINTS / f"checkpoint_{step}" / REFERENCE_NAME


def steps(run_dir: str | os.PathLike) -> list[int]:
    """Return the steps whose prompts lie in a run directory, ascending."""
    folder = Path(run_dir) / CHECKPOINTS
    if not folder.is_dir():
        return []
    found = ((_STEP.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return sorted(int(m[1]) for m, entry in found if m and (entry / REFERENCE_NAME).is_file())


def read_run(run_dir: str | os.PathLike) -> dict[str, Any]:
    """Return a run directory's `run.json`, `{}` where there is none."""
    file = Path(run_dir) / RUN_FILE
    if not file.is_file():
        return {}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise invalid("run_dir", f"must hold a readable {RUN_FILE}", str(file))
    return record


def locate(path: str | os.PathLike, step: int | str | None = None) -> Path:
    """Return the file that holds the prompt of a file, step directory or run directory."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise FileNotFoundError(str(invalid("path", "must exist", f"path={str(path)!r}")))
    if (path / REFERENCE_NAME).is_file():
        return path / REFERENCE_NAME
    run_dir = path.parent if path.name == CHECKPOINTS else path
    known = steps(run_dir)
    if not known:
        raise FileNotFoundError(
            str(invalid("path", f"must be a prompt file or hold {CHECKPOINTS}/", str(path)))
        )
    best = read_run(run_dir).get("best", {}).get("step")
    if step is None:
        step = "newest" if best is None else "best"
    if step == "best":
        if best is None:
            raise invalid("step", "must not be 'best' where the run recorded none", str(run_dir))
        step = best
    elif step == "newest":
        step = known[-1]
    if step not in known:
        shown = ", ".join(map(str, known[-10:]))
        raise FileNotFoundError(
            str(invalid("step", f"must be one of the run's steps ({shown})", f"step={step!r}"))
        )
    return step_path(run_dir, int(step))


def _named(values: np.ndarray, file: Path) -> np.ndarray:
    try:
        return as_prompt(values)
    except ValueError as error:
        raise ValueError(f"{error} in {file}") from None


def _run_provenance(file: Path) -> dict[str, Any]:
    match = _STEP.fullmatch(file.parent.name)
    if file.name != REFERENCE_NAME or not match:
        return {}
    record = read_run(file.parents[2]) if file.parent.parent.name == CHECKPOINTS else {}
    kept = ("task", "backbone", "prompt_attention", "versions")
    provenance: dict[str, Any] = {key: record[key] for key in kept if key in record}
    provenance["step"] = int(match[1])
    if record.get("best", {}).get("step") == provenance["step"]:
        provenance["score"] = record["best"]["score"]
    return provenance


def _check_header(shape: tuple[int, ...], dtype: np.dtype, argument: str, where: str) -> None:
    if dtype.hasobject:
        raise invalid(argument, "must not be pickled", f"dtype={dtype}{where}")
    if dtype.kind != "f":
        raise invalid(argument, "must be floating-point", f"dtype={dtype}{where}")
    if len(shape) != 2:
        raise invalid(
            argument, "must have the shape [prompt length, hidden width]", f"shape={shape}{where}"
        )
    if 0 in shape:
        raise invalid(argument, "must not be empty", f"shape={shape}{where}")


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(stream)
        else:
            header = np.lib.format.read_array_header_2_0(stream)
    except (ValueError, EOFError):
        raise invalid(
            "path", "must be a NumPy array file", f"{name} (bad or empty header)"
        ) from None
    _check_header(header[0], header[2], "prompt", f" in {name}")
    return header


def _read_npy(stream: IO[bytes], size: int, name: str) -> np.ndarray:
    shape, fortran, dtype = _read_header(stream, name)
    expected = shape[0] * shape[1] * dtype.itemsize
    if size - stream.tell() != expected:
        raise invalid(
            "path",
            f"must hold {expected} bytes of data for shape {shape}",
            f"{max(0, size - stream.tell())} bytes in {name}",
        )
    values = np.frombuffer(stream.read(expected), dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _open_npz(file: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise invalid("path", "must be a whole .npz file", str(file)) from None
    if "prompt.npy" not in archive.namelist():
        archive.close()
        raise invalid("path", "must hold an array called `prompt`", str(file))
    return archive


def _read_npz(file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    with _open_npz(file) as archive:
        size = archive.getinfo("prompt.npy").file_size
        try:
            with archive.open("prompt.npy") as stream:
                values = _read_npy(stream, size, str(file))
        except zipfile.BadZipFile:
            raise invalid("path", "must be a whole .npz file", str(file)) from None
        return values, _read_json_member(archive, file)


def _read_json_member(archive: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    if "provenance.npy" not in archive.namelist():
        return {}
    try:
        text = np.load(io.BytesIO(archive.read("provenance.npy")), allow_pickle=False)
        record = json.loads(str(text))
    except (ValueError, zipfile.BadZipFile):
        record = None
    if not isinstance(record, dict):
        raise invalid("path", "must hold its provenance as a JSON object", str(file))
    return record
