"""HDF5 weights of KerasHub presets: what they declare, before anything reads the numbers."""

import math
import os

from keras_spot.base.reading.files import grown_limit, open_file, parsing

__all__ = ["declared_shapes"]

_RULE = "must be whole HDF5 weights"
_DEPTH, _DATASETS = 32, 200_000


def declared_shapes(file: str | os.PathLike, argument: str = "path") -> dict[str, tuple[int, ...]]:
    """Return path -> shape of every array in an HDF5 file.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFile: no HDF5, links to other files, arrays kept elsewhere or of anything but
            numbers, groups that hold themselves, or far more declared than the file holds.
    """
    open_file(file).close()
    with parsing(file, _RULE, argument):
        import h5py

        with h5py.File(os.fspath(file), "r") as opened:
            shapes: dict[str, tuple[int, ...]] = {}
            declared = _walk(h5py, opened, "", shapes, set())
        size = os.path.getsize(file)
        if declared > grown_limit(size):
            raise ValueError(f"{declared} bytes declared in a file of {size}")
    return shapes


def _walk(h5py, group, path: str, shapes: dict[str, tuple[int, ...]], seen: set[int]) -> int:
    """Add the arrays below a group; return the bytes they declare."""
    address = h5py.h5o.get_info(group.id).addr
    if address in seen or path.count("/") > _DEPTH:
        raise ValueError(f"the group {path or '/'} holds itself or is nested too deeply")
    seen.add(address)
    declared = 0
    for name in group:
        inside = f"{path}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{inside} is a link to another place")
        item = group[name]
        if isinstance(item, h5py.Group):
            declared += _walk(h5py, item, inside, shapes, seen)
            continue
        if not isinstance(item, h5py.Dataset):
            raise ValueError(f"{inside} is no array")
        if item.external or item.is_virtual:
            raise ValueError(f"{inside} lies in another file")
        if item.shape is None or item.dtype.hasobject or item.dtype.itemsize > 16:
            raise ValueError(f"{inside} holds no numbers")
        shapes[inside] = tuple(item.shape)
        declared += math.prod(item.shape) * item.dtype.itemsize
        if len(shapes) > _DATASETS:
            raise ValueError(f"more than {_DATASETS} arrays")
    return declared
