"""Checkpoints of T5X: an index in msgpack, arrays in it or beside it as zarr folders.

The file `checkpoint` holds a tree as flax writes it: small arrays as they are (extension type 1:
shape, dtype name and bytes), larger ones as a description of a zarr folder next to it. Names
here are those of the folders: a branch `optimizer/target/encoder/...` of the tree is
`target.encoder...`. Reading takes the extra `[t5x]`: msgpack, and tensorstore for the arrays.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base.errors import MissingExtra, complaint, invalid, missing_file

INDEX = "checkpoint"


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array that lies in a zarr folder beside the index.

    Attributes:
        shape: its shape.
        dtype: its NumPy dtype's name, e.g. `"<f4"` or `"bfloat16"`.
        path: its folder's name, beside the index.
    """

    shape: tuple[int, ...]
    dtype: str
    path: str


def read_index(folder: str | os.PathLike) -> dict[str, np.ndarray | Stored]:
    """Return every array of a checkpoint by its dotted name, without reading the zarr folders.

    Raises:
        FileNotFoundError: the folder holds no index.
        ValueError: the index is damaged.
        ModuleNotFoundError: msgpack is not installed.
    """
    msgpack = _needed("msgpack")
    file = Path(folder) / INDEX
    if not file.is_file():
        raise missing_file("path", f"must hold the file {INDEX}", str(folder))
    try:
        tree = msgpack.unpackb(file.read_bytes(), ext_hook=_extension, strict_map_key=False)
        return dict(_leaves(tree.get("optimizer", tree), ()))
    except (ValueError, KeyError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise invalid("path", "must hold a whole T5X index", f"{file} ({error})") from None


def read_array(
    folder: str | os.PathLike,
    name: str,
    index: Mapping[str, np.ndarray | Stored] | None = None,
) -> np.ndarray:
    """Return one array of a checkpoint in its own dtype.

    Args:
        folder: the checkpoint's folder.
        name: dotted name, a key of `read_index`.
        index: what `read_index` returned; read again if it is not given.

    Raises:
        ValueError: there is no such array, or its folder is damaged or of another shape.
        ModuleNotFoundError: tensorstore is not installed.
    """
    leaf = (read_index(folder) if index is None else index).get(name)
    if leaf is None:
        raise invalid("path", f"must hold the array {name}", str(folder))
    if isinstance(leaf, np.ndarray):
        return leaf
    tensorstore = _needed("tensorstore")
    place = Path(folder, leaf.path)
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": str(place)},
        "fill_missing_data_reads": False,
    }
    try:
        stored = tensorstore.open(spec, read=True, open=True).result()
        if stored.shape != leaf.shape:
            raise ValueError(f"shape {stored.shape}, in the index {leaf.shape}")
        return np.asarray(stored.read().result())
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise invalid("path", "must hold whole zarr arrays", f"{place} ({reason})") from None


def _leaves(tree: Mapping[Any, Any], names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        inside = (*names, str(name))
        if isinstance(value, dict) and value.get("driver") == "zarr":
            metadata = value["metadata"]
            # Of the recorded path only the last name counts: the checkpoint may have moved.
            place = Path(value["kvstore"]["path"]).name
            yield ".".join(inside), Stored(tuple(metadata["shape"]), metadata["dtype"], place)
        elif isinstance(value, dict):
            yield from _leaves(value, inside)
        elif isinstance(value, np.ndarray):
            yield ".".join(inside), value


def _extension(code: int, data: bytes) -> Any:
    msgpack = _needed("msgpack")
    if code not in (1, 3):  # an array, a NumPy scalar
        raise ValueError(f"unknown extension type {code}")
    shape, name, content = msgpack.unpackb(data)
    if name == "bfloat16":
        import ml_dtypes  # noqa: F401  (teaches NumPy bfloat16)
    return np.frombuffer(content, np.dtype(name)).reshape(shape)


def _needed(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        rule = "must not be a T5X checkpoint where keras-spot[t5x] is not installed"
        raise MissingExtra(complaint("path", rule, f"no {name}")) from None
