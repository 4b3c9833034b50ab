"""Zarr arrays of format 2 as T5X writes them: `.zarray`, and chunks that gzip compressed.

No library reads them here, for TensorStore makes what a header declares (see setup.py).
"""

import bz2
import concurrent.futures
import itertools
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base.errors import damaged
from keras_spot.base.reading.arrays import plain_dtype
from keras_spot.base.reading.files import MIB, grown_limit, parsing, read_bytes
from keras_spot.base.reading.parts import shifted, within
from keras_spot.base.reading.text import read_record

__all__ = ["HEADER", "ZarrArray"]

HEADER = ".zarray"
_RULE = "must hold whole zarr arrays"
_THREADS = 4


class ZarrArray:
    """An array in a folder of its own.

    Attributes:
        folder: the folder.
        shape, dtype: of the array.
        chunks: the shape of each file's part.

    Args:
        folder: the folder.

    Raises:
        DamagedFile: no readable description, chunks that are missing, or far more numbers
            declared than the chunks' files can hold.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        with parsing(self.folder, _RULE):
            try:
                header = read_record(self.folder / HEADER, rule=_RULE, limit=MIB)
            except OSError as error:
                raise damaged(self.folder, _RULE, f"no {HEADER}") from error
            self.shape, self.chunks = _sizes(header, "shape"), _sizes(header, "chunks")
            self.dtype = plain_dtype(_text(header, "dtype"))
            self._read_format(header)
            self._check_files()

    def _read_format(self, header: dict[str, Any]) -> None:
        if header.get("zarr_format") != 2 or header.get("filters") not in (None, []):
            raise ValueError("not of zarr's format 2, or filtered")
        if len(self.chunks) != len(self.shape) or 0 in self.chunks:
            raise ValueError(f"chunks {self.chunks} of the shape {self.shape}")
        self._order = header.get("order", "C")
        self._separator = header.get("dimension_separator", ".")
        if self._order not in ("C", "F") or self._separator not in (".", "/"):
            raise ValueError("an unknown order or separator")
        compressor = header.get("compressor")
        self._compressor = compressor.get("id") if isinstance(compressor, dict) else compressor
        if self._compressor not in (None, "gzip", "zlib", "bz2"):
            rule = "not gzip as T5X writes it, zlib, bz2 or none: write it anew with one of them"
            raise ValueError(f"the compressor {self._compressor!r}, {rule}")

    def _check_files(self) -> None:
        """Compare what is declared with the chunks' files before anything is made."""
        counts = [-(-side // part) for side, part in zip(self.shape, self.chunks)]
        here = sum(1 for _ in os.scandir(self.folder))
        if self._separator == "." and math.prod(counts) > here:
            raise ValueError(f"{math.prod(counts)} chunks declared, {here} files")
        if math.prod(counts) > 1_000_000:
            raise ValueError(f"{math.prod(counts)} chunks")
        self._counts = counts
        self._part = math.prod(self.chunks) * self.dtype.itemsize
        total = 0
        for place in self._places(within(None, self.shape)):
            try:
                size = self._file(place).stat().st_size
            except FileNotFoundError:
                raise ValueError(f"no chunk {self._name(place)}") from None
            if self._part > grown_limit(size):
                raise ValueError(f"{self._part} bytes declared for {self._name(place)} of {size}")
            total += size
        declared = math.prod(self.shape) * self.dtype.itemsize
        if declared > grown_limit(total):
            raise ValueError(f"{declared} bytes declared for chunks of {total}")

    def read(self, dtype: str | None = None, part: Sequence[slice] | None = None) -> np.ndarray:
        """Return the array.

        Args:
            dtype: of the numbers, each chunk converted as it is read. Default: the array's own.
            part: a slice of each side; chunks without a number of it are not read. Default: all.

        Raises:
            DamagedFile: a chunk that is cut short or of another size.
        """
        wanted = self.dtype if dtype is None else plain_dtype(dtype)
        asked = within(part, self.shape)
        if self.chunks == self.shape and asked == within(None, self.shape):
            with parsing(self.folder, _RULE):
                return self._chunk((0,) * len(self.shape)).astype(wanted, copy=False)
        values = np.empty([side.stop - side.start for side in asked], wanted)
        if not values.size:
            return values

        def put(place: tuple[int, ...]) -> None:
            chunk = self._chunk(place)
            inside = [
                slice(max(i * side, of.start), min((i + 1) * side, of.stop))
                for i, side, of in zip(place, self.chunks, asked)
            ]
            values[shifted(inside, [of.start for of in asked])] = chunk[
                shifted(inside, [i * side for i, side in zip(place, self.chunks)])
            ]

        places = [*self._places(asked)]
        with parsing(self.folder, _RULE):
            if len(places) == 1:
                put(places[0])
            else:
                with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
                    list(pool.map(put, places))
        return values

    def _places(self, part: Sequence[slice]) -> Iterator[tuple[int, ...]]:
        """Return the places of the chunks that hold a number of a part."""
        return itertools.product(
            *(range(of.start // side, -(-of.stop // side)) for of, side in zip(part, self.chunks))
        )

    def _chunk(self, place: tuple[int, ...]) -> np.ndarray:
        content = read_bytes(self._file(place), 2 * self._part + MIB)
        inflated = _inflated(content, self._part, self._compressor, self._name(place))
        return np.frombuffer(inflated, self.dtype).reshape(self.chunks, order=self._order)

    def _name(self, place: tuple[int, ...]) -> str:
        return self._separator.join(map(str, place)) or "0"

    def _file(self, place: tuple[int, ...]) -> Path:
        return self.folder / self._name(place)


def _inflated(content: bytes, size: int, compressor: str | None, name: str) -> bytes | bytearray:
    """Return a chunk's bytes, which must be `size`; no more are ever made."""
    inflated: bytes | bytearray = content
    if compressor is not None:
        machine: Any = (
            bz2.BZ2Decompressor()
            if compressor == "bz2"
            else zlib.decompressobj(31 if compressor == "gzip" else 15)
        )
        inflated, length = bytearray(size), 0
        for begin in range(0, len(content), MIB):
            if machine.eof:
                raise ValueError(f"the chunk {name} is cut short or too long")
            try:
                part = machine.decompress(content[begin : begin + MIB], size + 1 - length)
            except (zlib.error, OSError) as error:
                raise ValueError(f"the chunk {name}: {error}") from None
            inflated[length : length + len(part)] = part
            length += len(part)
            if length > size:
                break
        if not machine.eof or machine.unused_data:
            raise ValueError(f"the chunk {name} is cut short or too long")
        if length < size:
            raise ValueError(f"{length} bytes in the chunk {name}, not {size}")
    if len(inflated) != size:
        raise ValueError(f"{len(inflated)} bytes in the chunk {name}, not {size}")
    return inflated


def _sizes(header: dict[str, Any], key: str) -> tuple[int, ...]:
    value = header.get(key)
    if not isinstance(value, list) or len(value) > 32:
        raise ValueError(f"no {key}")
    if not all(type(side) is int and 0 <= side < 1 << 48 for side in value):
        raise ValueError(f"no {key}")
    return tuple(value)


def _text(header: dict[str, Any], key: str) -> str:
    value = header.get(key)
    if not isinstance(value, str):
        raise ValueError(f"no {key}")
    return value
