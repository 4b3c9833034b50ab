"""Prompts as NumPy files: `.npy`, the reference's, and our own `.npz`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base import reading
from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import damaged
from keras_spot.base.reading.arrays import (
    Archive,
    ArrayHeader,
    array_header,
    array_values,
    open_npz,
)
from keras_spot.prompts.forms import reference
from keras_spot.prompts.prompt import check_header


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


def write_npy(file: Path, values: np.ndarray) -> None:
    """Write a `.npy` file, whole or not at all."""
    with atomic_write(file) as stream:
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


def write_npz(file: Path, values: np.ndarray, provenance: Mapping[str, Any]) -> None:
    """Write our own form, whole or not at all."""
    record = np.array(json.dumps(dict(provenance), sort_keys=True))
    with atomic_write(file) as stream:
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
