"""Prompts as NumPy files: `.npy`, the reference's, and our own `.npz`."""

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import invalid
from keras_spot.prompts.forms import reference
from keras_spot.prompts.prompt import check_header


def read_npy(file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the array and what the file's place tells of its making."""
    with open(file, "rb") as stream:
        return _read(stream, os.path.getsize(file), str(file)), reference.provenance(file)


def read_npy_header(file: Path) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the shape and what the file's place tells of its making."""
    with open(file, "rb") as stream:
        return _header(stream, str(file))[0], reference.provenance(file)


def write_npy(file: Path, values: np.ndarray) -> None:
    """Write a `.npy` file, whole or not at all."""
    with atomic_write(file) as stream:
        np.lib.format.write_array(stream, values, allow_pickle=False)


def read_npz(file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the array and the provenance of our own form."""
    with _open(file) as archive:
        size = archive.getinfo("prompt.npy").file_size
        try:
            with archive.open("prompt.npy") as stream:
                values = _read(stream, size, str(file))
        except zipfile.BadZipFile:
            raise invalid("path", "must be a whole .npz file", str(file)) from None
        return values, _provenance(archive, file)


def read_npz_header(file: Path) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the shape and the provenance of our own form."""
    with _open(file) as archive:
        with archive.open("prompt.npy") as stream:
            shape = _header(stream, str(file))[0]
        return shape, _provenance(archive, file)


def write_npz(file: Path, values: np.ndarray, provenance: Mapping[str, Any]) -> None:
    """Write our own form, whole or not at all."""
    record = np.array(json.dumps(dict(provenance), sort_keys=True))
    with atomic_write(file) as stream:
        np.savez(stream, prompt=values, provenance=record)


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, int], bool, np.dtype]:
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
    shape, fortran, dtype = header
    check_header(shape, dtype, where=f" in {name}")
    return (shape[0], shape[1]), fortran, dtype


def _read(stream: IO[bytes], size: int, name: str) -> np.ndarray:
    shape, fortran, dtype = _header(stream, name)
    expected = shape[0] * shape[1] * dtype.itemsize
    if size - stream.tell() != expected:
        raise invalid(
            "path",
            f"must hold {expected} bytes of data for shape {shape}",
            f"{max(0, size - stream.tell())} bytes in {name}",
        )
    values = np.frombuffer(stream.read(expected), dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _open(file: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise invalid("path", "must be a whole .npz file", str(file)) from None
    if "prompt.npy" not in archive.namelist():
        archive.close()
        raise invalid("path", "must hold an array called `prompt`", str(file))
    return archive


def _provenance(archive: zipfile.ZipFile, file: Path) -> dict[str, Any]:
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
