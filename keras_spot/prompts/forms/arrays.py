"""Prompts as NumPy files: `.npy`, the reference's, and our own `.npz`."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base import reading
from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import damaged
from keras_spot.base.ownership import Kind
from keras_spot.base.reading.arrays import (
    Archive,
    ArrayHeader,
    array_header,
    array_values,
    open_npz,
)
from keras_spot.prompts.forms import reference
from keras_spot.prompts.prompt import check_header

__all__ = [
    "NPZ",
    "npy",
    "read_npy",
    "read_npy_header",
    "read_npz",
    "read_npz_header",
    "write_npy",
    "write_npz",
]


def npy(values: np.ndarray) -> Kind:
    """Return the kind of a `.npy` file of such numbers, which has no room for a mark.

    Another float32 array of the same shape is similar enough to be an earlier prompt.
    """

    def is_similar(file: Path) -> bool:
        with reading.open_file(file) as stream:
            header = array_header(stream, file)
        return (header.shape, header.dtype) == (values.shape, np.dtype(np.float32))

    return Kind("prompt", similar=is_similar)


def _is_own_npz(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        names = sorted(archive.namelist())
    return names == ["prompt.npy", "provenance.npy"] and bool(read_npz_header(file))


NPZ = Kind("prompt", marked=_is_own_npz)
"""The kind of our own form, known by its two arrays."""


def read_npy(file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the array and what the file's place tells of its making."""
    with reading.open_file(file) as stream:
        header = array_header(stream, file)
        _check(header, file)
        values = array_values(stream, header, os.path.getsize(file), file)
    return values, reference.provenance(file)


def read_npy_header(file: Path) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the shape and what the file's place tells of its making."""
    with reading.open_file(file) as stream:
        shape = _check(array_header(stream, file), file)
    return shape, reference.provenance(file)


def write_npy(file: Path, values: np.ndarray, overwrite: bool = False) -> None:
    """Write a `.npy` file, whole or not at all."""
    with atomic_write(file, kind=npy(values), overwrite=overwrite) as stream:
        np.lib.format.write_array(stream, values, allow_pickle=False)


def read_npz(file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the array and the provenance of our own form."""
    with open_npz(file) as archive:
        _check(archive.header("prompt"), file)
        return archive["prompt"], _provenance(archive)


def read_npz_header(file: Path) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the shape and the provenance of our own form."""
    with open_npz(file) as archive:
        return _check(archive.header("prompt"), file), _provenance(archive)


def write_npz(
    file: Path, values: np.ndarray, provenance: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write our own form, whole or not at all."""
    record = np.array(json.dumps(dict(provenance), sort_keys=True))
    with atomic_write(file, kind=NPZ, overwrite=overwrite) as stream:
        np.savez(stream, prompt=values, provenance=record)


def _provenance(archive: Archive) -> dict[str, Any]:
    if "provenance" not in archive:
        return {}
    rule = "must hold its provenance as a JSON object"
    record = reading.parse_json(
        archive.text("provenance"), archive.file, place="provenance", rule=rule, finite=False
    )
    if not isinstance(record, dict):
        raise damaged(archive.file, rule, f"a {type(record).__name__}")
    return record


def _check(header: ArrayHeader, file: Path) -> tuple[int, int]:
    """Return the shape of a prompt's header."""
    check_header(header.shape, header.dtype, where=f" in {file}")
    return header.shape[0], header.shape[1]
