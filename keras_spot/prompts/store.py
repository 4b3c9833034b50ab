"""Find, read and write a prompt, whichever its form and wherever it lies."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base import reading, remote, t5x_store
from keras_spot.base.errors import InvalidArgument, MissingFile, invalid, missing_file
from keras_spot.base.ownership import Kind, check_name
from keras_spot.base.types import Array, PathLike, Record
from keras_spot.prompts import names
from keras_spot.prompts.forms import arrays, peft, reference, t5x
from keras_spot.prompts.prompt import Prompt, as_prompt

__all__ = [
    "FORMS",
    "OWN_NAME",
    "destination",
    "locate",
    "read",
    "read_header",
    "read_provenance",
    "write",
]

OWN_NAME = "prompt.npz"  # in a folder or a repository
FORMS = ("npy", "npz", "reference", "peft")
# What is fetched of a remote folder; a T5X checkpoint is gigabytes, its prompt a few hundred KB.
_WANTED = (
    OWN_NAME,
    peft.CONFIG,
    peft.WEIGHTS,
    reference.RUN_FILE,
    f"*{reference.REFERENCE_NAME}",
    f"{t5x.NAME}/*",
    t5x_store.INDEX,
)


def read(path: PathLike, step: int | str | None = None, *, task_id: int | None = None) -> Prompt:
    """Read a prompt in any of the package's forms.

    Args:
        path: a file, a step directory, a run directory, an adapter's or a checkpoint's folder,
            or the address of one.
        step: which step of a run directory: a number, `"best"`, `"newest"`, or `None`
            for the best one where the run recorded one, else the newest.
        task_id: which task of a PEFT multitask adapter. Default: its only one.

    Raises:
        MissingFile: there is nothing at `path`, or the run has no such step.
        InvalidArgument: the file is no prompt: truncated, pickled, of another rank, not finite.
        Unreachable: an address whose host does not answer.
        MissingExtra: the form or the address needs an extra that is not installed.
    """
    with _local(path) as local:
        file = _find(local, step)
        if file.name == peft.WEIGHTS:
            values, provenance = peft.read(file, task_id)
        elif task_id is not None:
            rule = "must be None where the prompt is no multitask adapter"
            raise invalid("task_id", rule, f"{task_id=} for {file}")
        elif file.name == t5x_store.INDEX:
            values, provenance = t5x.read(file)
        else:
            values, provenance = (
                arrays.read_npz(file) if file.suffix == ".npz" else arrays.read_npy(file)
            )
        return Prompt(_named(values, file), provenance, file)


def read_header(path: PathLike, step: int | str | None = None) -> tuple[tuple[int, int], Record]:
    """Return the shape `(P, H)` and the provenance of a prompt without reading its numbers.

    Takes and raises what `read` does, except that what only the numbers show goes unnoticed.
    """
    with _local(path) as local:
        file = _find(local, step)
        if file.name == peft.WEIGHTS:
            return peft.read_header(file)
        if file.name == t5x_store.INDEX:
            return t5x.read_header(file)
        if file.suffix == ".npz":
            return arrays.read_npz_header(file)
        return arrays.read_npy_header(file)


def read_provenance(path: PathLike, step: int | str | None = None) -> Record:
    """Return the provenance and `shape` of a prompt without reading its numbers."""
    shape, provenance = read_header(path, step)
    return {**provenance, "shape": shape}


def locate(path: PathLike, step: int | str | None = None) -> Path:
    """Return the local file that holds the prompt of a file, a folder or an address.

    It is the weights of a PEFT adapter, and the index of a T5X checkpoint.

    Raises:
        MissingFile: there is nothing at `path`, or the run has no such step.
        InvalidArgument: the folder holds a prompt only in a pickled file.
    """
    with _local(path) as local:
        return _find(local, step)


def write(
    path: PathLike,
    values: Array | Sequence[Sequence[float]],
    provenance: Mapping[str, object] | None = None,
    form: str | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a prompt, whole or not at all.

    An earlier prompt of ours is replaced, and another float32 array of the same shape; anything
    else that is there is not.

    Args:
        path: where; may be an address that can be written to. `*.npz`, `*.npy` and the
            reference's file name stand for their own form.
        values: `[P, H]` floating-point numbers; stored as float32.
        provenance: JSON-able record; `npz` and `peft` keep it.
        form: `"npy"`, `"npz"`, `"reference"` or `"peft"`; the reference's takes a file, a folder
            `checkpoint_{step}` or a run's folder (then the step is the provenance's, else 0).
            Default: what the file's name says.
        overwrite: replace any file, and an adapter of ours that has changed since. A folder with
            files of another stays.

    Returns:
        The file or folder written.

    Raises:
        InvalidArgument: a name of no form, values that are no prompt, or something else is there.
        OSError: the file cannot be written.
    """
    prompt, provenance = as_prompt(values), dict(provenance or {})
    path, form, kind = destination(path, prompt, provenance, form)
    with remote.writing(path, kind, overwrite) as local:
        if form == "npz":
            arrays.write_npz(local, prompt, provenance, overwrite)
        elif form == "peft":
            peft.write(local, prompt, provenance, overwrite)
        else:
            arrays.write_npy(local, prompt, overwrite)
    return path


def destination(
    path: PathLike,
    values: np.ndarray,
    provenance: Mapping[str, object],
    form: str | None = None,
) -> tuple[Path, str, Kind]:
    """Return the file or folder that `write` writes, its form and its kind.

    Raises:
        InvalidArgument: a name of no form, or the reference's form in the folder of a run of ours.
    """
    check_name(path)
    path = Path(path)
    form = _form_of(path) if form is None else form
    if form not in FORMS:
        received = "a T5X checkpoint, which is read only" if form == "t5x" else f"{form=}"
        raise invalid("form", f"must be one of {', '.join(FORMS)}", received)
    if form in ("npy", "npz") and path.suffix != f".{form}":
        raise invalid("path", f"must end in .{form}", f"path={str(path)!r}")
    if form == "peft":
        return path, form, peft.KIND
    if form == "npz":
        return path, form, arrays.NPZ
    if form == "reference":
        if (path / reference.RUN_FILE).is_file():
            rule = f"must not be the folder of a run, to which {reference.RUN_FILE} belongs"
            raise invalid("path", rule, str(path))
        path = _reference_path(path, provenance.get("step"))
    return path, form, arrays.npy(values)


def _form_of(path: Path) -> str:
    if path.name == reference.REFERENCE_NAME:
        return "reference"
    if path.suffix not in (".npy", ".npz"):
        rule = f"must end in .npz, .npy or {reference.REFERENCE_NAME} where `form` is not given"
        raise invalid("path", rule, f"path={str(path)!r}")
    return path.suffix[1:]


def _reference_path(path: Path, step: Any) -> Path:
    if path.name == reference.REFERENCE_NAME:
        return path
    if reference.STEP.fullmatch(path.name):
        return path / reference.REFERENCE_NAME
    return reference.step_path(path, step if isinstance(step, int) and step >= 0 else 0)


@contextlib.contextmanager
def _local(path: PathLike) -> Iterator[Path]:
    """Yield a local path, and let errors name the address instead where there is one."""
    check_name(path)
    local = remote.fetch(path, patterns=_WANTED)
    try:
        yield local
    except (InvalidArgument, MissingFile) as error:
        if not remote.is_remote(path):
            raise
        text = str(error).replace(str(local), remote.address(path))
        raise type(error)(text) from None


def _find(path: Path, step: int | str | None) -> Path:
    if path.is_file():
        if path.suffix in (".bin", ".pt", ".pth", ".pkl"):
            peft.refuse_pickle(path)
        return path
    if not path.exists():
        raise missing_file("path", "must exist", f"path={str(path)!r}")
    for name in (reference.REFERENCE_NAME, OWN_NAME):
        if (path / name).is_file():
            return path / name
    if (path / peft.CONFIG).is_file():
        return peft.locate(path)
    if (path / t5x_store.INDEX).is_file():
        return path / t5x_store.INDEX
    run_dir = path.parent if path.name == reference.CHECKPOINTS else path
    known = reference.steps(run_dir)
    if known:
        return reference.step_path(run_dir, reference.choose_step(run_dir, known, step))
    whole = reference.steps_with(path, t5x_store.INDEX)
    if whole:
        chosen = reference.choose_step(path, whole, step)
        return path / f"checkpoint_{chosen}" / t5x_store.INDEX
    bank = reference.read_run(path).get("bank")
    if isinstance(bank, list) and bank:
        rule = f"must be one prompt of the bank, such as {path / names.folder(str(bank[0]))}"
        raise missing_file("path", rule, str(path))
    forms = f"{reference.CHECKPOINTS}/, {OWN_NAME}, {peft.CONFIG} or {t5x_store.INDEX}"
    raise missing_file("path", f"must be a prompt file or hold {forms}", str(path))


def _named(values: np.ndarray, file: Path) -> np.ndarray:
    with reading.naming(file):
        return as_prompt(values)
