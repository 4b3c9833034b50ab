"""Checkpoints of T5X: an index in msgpack, arrays in it or beside it as zarr folders.

The file `checkpoint` holds a tree as flax writes it: small arrays as they are (extension type 1:
shape, dtype name and bytes), larger ones as a description of a zarr folder next to it. Names
here are those of the folders: a branch `optimizer/target/encoder/...` of the tree is
`target.encoder...`. Reading takes msgpack, the extra `[t5x]`.
"""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base.errors import MissingExtra, complaint, damaged, invalid, missing_file
from keras_spot.base.reading.arrays import plain_dtype
from keras_spot.base.reading.files import MIB, parsing, read_bytes
from keras_spot.base.reading.zarr import ZarrArray

__all__ = ["INDEX", "Stored", "open_stored", "read_array", "read_index"]

INDEX = "checkpoint"
_INDEX_LIMIT = 1024 * MIB
_DEPTH = 32
_RULE = "must hold a whole T5X index"


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
        MissingFile: the folder holds no index.
        DamagedFile: the index is damaged.
        MissingExtra: msgpack is not installed.
    """
    msgpack = _msgpack()
    file = Path(folder) / INDEX
    if not file.is_file():
        raise missing_file("path", f"must hold the file {INDEX}", str(folder))
    content = read_bytes(file, _INDEX_LIMIT)
    with parsing(file, _RULE):
        tree = msgpack.unpackb(content, ext_hook=_extension, strict_map_key=False)
        if not isinstance(tree, dict):
            raise ValueError("no tree")
        top = tree.get("optimizer", tree)
        if not isinstance(top, dict):
            raise ValueError("no tree under optimizer")
        index: dict[str, np.ndarray | Stored] = {}
        for name, leaf in _leaves(top, ()):
            if name in index:
                raise ValueError(f"the array {name} twice")
            index[name] = leaf
        return index


def open_stored(folder: str | os.PathLike, leaf: Stored) -> ZarrArray:
    """Return the array of a zarr folder, checked against the index, its numbers not read.

    Raises:
        DamagedFile: its folder is damaged, or of another shape than the index says.
    """
    place = Path(folder, leaf.path)
    array = ZarrArray(place)
    if array.shape != leaf.shape:
        rule = "must hold whole zarr arrays"
        raise damaged(place, rule, f"shape {array.shape}, in the index {leaf.shape}")
    return array


def read_array(
    folder: str | os.PathLike,
    name: str,
    index: Mapping[str, np.ndarray | Stored] | None = None,
    dtype: str | None = None,
    part: Sequence[slice] | None = None,
) -> np.ndarray:
    """Return one array of a checkpoint.

    Args:
        folder: the checkpoint's folder.
        name: dotted name, a key of `read_index`.
        index: what `read_index` returned; read again if it is not given.
        dtype: of the numbers. Default: the array's own.
        part: a slice of each side, see `ZarrArray.read`. Default: all.

    Raises:
        InvalidArgument: there is no such array, or its folder is damaged or of another shape.
    """
    leaf = (read_index(folder) if index is None else index).get(name)
    if leaf is None:
        raise invalid("path", f"must hold the array {name}", str(folder))
    if isinstance(leaf, np.ndarray):
        leaf = leaf if part is None else leaf[tuple(part)]
        return leaf if dtype is None else leaf.astype(plain_dtype(dtype), copy=False)
    return open_stored(folder, leaf).read(dtype, part)


def _leaves(tree: Mapping[Any, Any], names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if len(names) > _DEPTH:
        raise ValueError(f"nested deeper than {_DEPTH}")
    for name, value in tree.items():
        inside = (*names, str(name))
        if isinstance(value, dict) and value.get("driver") == "zarr":
            yield ".".join(inside), _stored(value, ".".join(inside))
        elif isinstance(value, dict):
            yield from _leaves(value, inside)
        elif isinstance(value, np.ndarray):
            yield ".".join(inside), value


def _stored(value: Mapping[str, Any], name: str) -> Stored:
    try:
        metadata = value["metadata"]
        shape, dtype = metadata["shape"], metadata["dtype"]
        # Of the recorded path only the last name counts: the checkpoint may have moved.
        place = Path(value["kvstore"]["path"]).name
    except (KeyError, TypeError):
        raise ValueError(f"no shape, dtype and path of {name}") from None
    if not isinstance(shape, list) or not _are_sizes(shape) or place in ("", ".."):
        raise ValueError(f"no shape, dtype and path of {name}")
    plain_dtype(dtype)
    return Stored(tuple(shape), dtype, place)


def _extension(code: int, data: bytes) -> np.ndarray:
    if code not in (1, 3):  # an array, a NumPy scalar
        raise ValueError(f"unknown extension type {code}")
    shape, name, content = _msgpack().unpackb(data)
    if not _are_sizes(shape) or not isinstance(content, bytes) or not isinstance(name, str):
        raise ValueError("an array without shape, dtype and bytes")
    dtype = plain_dtype(name)
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"{len(content)} bytes for the shape {shape} of {name}")
    return np.frombuffer(content, dtype).reshape(shape)


def _are_sizes(value: Any) -> bool:
    whole = isinstance(value, (list, tuple)) and len(value) <= 32
    return whole and all(type(side) is int and 0 <= side < 1 << 48 for side in value)


def _msgpack() -> Any:
    try:
        import msgpack
    except ModuleNotFoundError:
        rule = "must not be a T5X checkpoint where keras-spot[t5x] is not installed"
        raise MissingExtra(complaint("path", rule, "no msgpack")) from None
    return msgpack
