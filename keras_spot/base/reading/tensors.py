"""safetensors: a header of JSON with names, dtypes, shapes and places, then the numbers.

The format's own library writes our files. It is not read with, for it maps files, and a mapped file
that is cut short meanwhile ends the interpreter.
"""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keras_spot.base.errors import damaged
from keras_spot.base.reading.arrays import plain_dtype
from keras_spot.base.reading.files import MIB, open_file, parsing
from keras_spot.base.reading.parts import within
from keras_spot.base.reading.text import parse_json

__all__ = ["SafeTensors", "TensorHeader"]

_HEADER_LIMIT = 100 * MIB  # the format's own
_PART = 1 << 18  # numbers that are read at once
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


@dataclasses.dataclass(frozen=True)
class TensorHeader:
    """What a file says of one tensor.

    Attributes:
        dtype: the format's name of its dtype, such as `"F32"`.
        shape: its shape.
        begin, end: its bytes in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafeTensors:
    """The tensors of a safetensors file; the file is open only while something is read.

    Attributes:
        file: its path.
        tensors: name -> `TensorHeader`.
        metadata: the texts that the header holds beside.

    Args:
        file: its path.
        argument, rule: for the errors.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFile: a header that is none, or that does not fit the bytes there are.
    """

    def __init__(
        self,
        file: str | os.PathLike,
        *,
        argument: str = "path",
        rule: str = "must be a whole safetensors file",
    ):
        self.file = file
        self._argument, self._rule = argument, rule
        with open_file(file) as stream, parsing(file, rule, argument):
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, _HEADER_LIMIT):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            text = stream.read(length).decode("utf-8")
        header = parse_json(text, file, place="header", argument=argument, rule=rule)
        with parsing(file, rule, argument):
            self.metadata, self.tensors = _parsed(header, 8 + length, size)

    def read(
        self,
        name: str,
        dtype: str | None = None,
        transposed: bool = False,
        part: Sequence[slice] | None = None,
    ) -> np.ndarray:
        """Return a tensor; little is held beside it, whatever is done to it meanwhile.

        Args:
            name: which.
            dtype: of the numbers. Default: the tensor's own.
            transposed: return a matrix with rows and columns exchanged. Default False.
            part: of what is returned, a slice of each side. Other rows of the file are not read;
                of these no more is held than is asked for. Default: all.

        Raises:
            DamagedFile: there is none of that name, or the file has become shorter.
        """
        tensor = self._header(name)
        stored = plain_dtype(_DTYPES[tensor.dtype])
        wanted = stored if dtype is None else plain_dtype(dtype)
        # NumPy copies whole numbers of a width faster than those of a dtype that it does not know.
        plain = np.dtype(f"u{stored.itemsize}") if wanted == stored else wanted
        inside = within(part, tensor.shape[::-1] if transposed else tensor.shape)
        values = np.empty([side.stop - side.start for side in inside], plain)
        if transposed:
            rows, inside = values.T, inside[::-1]
        else:
            rows = values
        cut = inside[1:] != within(None, tensor.shape[1:])
        if not (cut or transposed):
            rows = values.reshape(-1)
        begin = 0
        for some in self.parts(name, cut or transposed, inside[0] if inside else None):
            some = some.view(plain) if wanted == stored else some
            if cut or transposed:
                some = some.reshape(-1, *tensor.shape[1:])[(slice(None), *inside[1:])]
            rows[begin : begin + len(some)] = some
            begin += len(some)
        return values.view(wanted)

    def parts(
        self, name: str, whole_rows: bool = False, rows: slice | None = None
    ) -> Iterator[np.ndarray]:
        """Yield the numbers of a tensor in their order and own dtype, about a megabyte at a time.

        Args:
            name: which.
            whole_rows: let no part end within a row of a matrix. Default False.
            rows: which alone, from and to. Default: all.

        Raises:
            DamagedFile: as of `read`.
        """
        tensor = self._header(name)
        dtype = plain_dtype(_DTYPES[tensor.dtype])
        row = math.prod(tensor.shape[1:])
        step = max(1, _PART // max(1, row)) * max(1, row) if whole_rows else _PART
        first, left = 0, math.prod(tensor.shape)
        if rows is not None:
            first, left = rows.start * row, (rows.stop - rows.start) * row
        with open_file(self.file) as stream, parsing(self.file, self._rule, self._argument):
            stream.seek(tensor.begin + first * dtype.itemsize)
            while left:
                count = min(step, left)
                part = np.fromfile(stream, dtype, count)
                if len(part) < count:
                    raise ValueError(f"{name} is cut short")
                yield part
                left -= count

    def _header(self, name: str) -> TensorHeader:
        if name not in self.tensors:
            rule = f"must hold the tensor {name}"
            raise damaged(self.file, rule, argument=self._argument)
        return self.tensors[name]


def _parsed(
    header: object, start: int, size: int
) -> tuple[Mapping[str, str], dict[str, TensorHeader]]:
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("metadata that are no texts")
    tensors = {name: _tensor(name, entry, start) for name, entry in header.items()}
    end = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != end:
            raise ValueError(f"{name} does not begin where the tensor before it ends")
        end = tensor.end
    if end != size:
        raise ValueError(f"{end} bytes declared in a file of {size}")
    return metadata, tensors


def _tensor(name: str, entry: object, start: int) -> TensorHeader:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} has no dtype, shape and data_offsets alone")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"{name} has the dtype {dtype!r}")
    if not _is_sizes(shape) or not _is_sizes(offsets) or len(offsets) != 2 or len(shape) > 32:
        raise ValueError(f"{name} has a shape or offsets that are none")
    begin, end = offsets
    width = plain_dtype(_DTYPES[dtype]).itemsize
    if end - begin != math.prod(shape) * width:
        raise ValueError(f"{name} has {end - begin} bytes for the shape {shape}")
    return TensorHeader(dtype, tuple(shape), start + begin, start + end)


def _is_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 1 << 48 for v in value)
