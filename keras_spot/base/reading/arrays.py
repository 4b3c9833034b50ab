"""NumPy's files: `.npy`, and `.npz`, archives of them. Headers are parsed, never evaluated."""

import contextlib
import dataclasses
import math
import os
import re
import zipfile
from collections.abc import Iterator
from typing import IO

import numpy as np

from keras_spot.base.errors import damaged
from keras_spot.base.reading.files import (
    MIB,
    grown_limit,
    open_file,
    parsing,
)

__all__ = [
    "Archive",
    "ArrayHeader",
    "array_header",
    "array_values",
    "open_npz",
    "plain_dtype",
    "read_npy",
]

_MAGIC = b"\x93NUMPY"
_HEADER_LIMIT = 64 * 1024
_MEMBERS = 20_000
_RANK, _SIDE = 32, 1 << 48
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|[US][0-9]{1,7})")
_ENTRY = (
    r"(?:'descr': *(?:'(?P<dtype>[^'\\]{1,16})'|(?P<fields>\[.*\]))"
    r"|'fortran_order': *(?P<fortran>True|False)"
    r"|'shape': *\((?P<shape>[0-9, L]*)\))"
)
_HEADER = re.compile(r"\{ *(.*?),? *\}\s*", re.DOTALL)
_ENTRIES = re.compile(_ENTRY + r"(?:, *|$)")
_NAMED = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
_NAMED |= {"float16", "float32", "float64"}
_ADDED = ("bfloat16", "float8_e4m3fn", "float8_e5m2")  # by ml_dtypes
_FILE = "must be a NumPy array file"
_ARCHIVE = "must be a whole .npz file"


@dataclasses.dataclass(frozen=True)
class ArrayHeader:
    """What stands in front of an array's numbers.

    Attributes:
        shape: its shape.
        dtype: its dtype; one that holds objects is never read.
        fortran: whether columns lie together.
        offset: bytes before the numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def plain_dtype(name: str) -> np.dtype:
    """Return the dtype of plain numbers, truth values or texts that is called that.

    Raises:
        InvalidArgument: another one.

    >>> plain_dtype("<f4"), plain_dtype("float32")
    (dtype('float32'), dtype('float32'))
    """
    if name in _ADDED:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
    if name not in _NAMED and not _DTYPE.fullmatch(name):
        raise ValueError(f"the dtype {name!r}")
    return np.dtype(name)


def array_header(stream: IO[bytes], file: str | os.PathLike, member: str = "") -> ArrayHeader:
    """Return the header of an array, read from where a stream stands.

    Args:
        stream: an open file, or a member of an archive.
        file: its name, for the error.
        member: which array of an archive, for the error.

    Raises:
        DamagedFile: no header of an array.
    """
    with parsing(file, _FILE):
        try:
            return _header(stream)
        except (ValueError, IndexError) as error:
            where = f"{member}: " if member else ""
            raise damaged(file, _FILE, f"{where}bad or empty header, {error}") from error


def array_values(
    stream: IO[bytes],
    header: ArrayHeader,
    size: int,
    file: str | os.PathLike,
    member: str = "",
) -> np.ndarray:
    """Return the numbers behind a header.

    Args:
        stream: where `array_header` left it.
        header: what it returned.
        size: bytes that the file or the member has, header included.
        file, member: for the error.

    Raises:
        DamagedFile: other bytes than shape and dtype say, or an array of objects.
    """
    where = f"{member}: " if member else ""
    if header.dtype.hasobject:
        raise damaged(file, "must not be pickled", f"{where}dtype={header.dtype}")
    there = max(0, size - header.offset)
    if header.nbytes != there:
        rule = f"must hold {header.nbytes} bytes of data for shape {header.shape}"
        raise damaged(file, rule, f"{where}{there} bytes")
    with parsing(file, _FILE if not member else _ARCHIVE):
        content = stream.read(header.nbytes)
        if len(content) < header.nbytes:
            raise ValueError(f"{where}{len(content)} of {header.nbytes} bytes")
        if member:
            stream.read(1)  # lets the archive compare its checksum
        values = np.frombuffer(content, header.dtype)
        return values.reshape(header.shape, order="F" if header.fortran else "C")


def read_npy(file: str | os.PathLike) -> np.ndarray:
    """Return the array of a `.npy` file.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFile: no array, another length than its header says, or one of objects.
    """
    with open_file(file) as stream:
        header = array_header(stream, file)
        return array_values(stream, header, os.fstat(stream.fileno()).st_size, file)


class Archive:
    """The arrays of an `.npz` file, each read when it is asked for: `archive["prompt"]`.

    Attributes:
        file: its path.
        files: the arrays' names.
    """

    def __init__(self, archive: zipfile.ZipFile, file: str | os.PathLike):
        self.file = file
        self._archive = archive
        members = archive.infolist()
        self._members = {info.filename.removesuffix(".npy"): info for info in members}
        self.files = list(self._members)
        if len(self._members) < len(members):
            raise ValueError("two members of one name")
        if len(members) > _MEMBERS:
            raise ValueError(f"more than {_MEMBERS} members")
        for info in members:
            if info.flag_bits & 0x1:
                raise ValueError(f"{info.filename} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename} is compressed in another way than deflated")
        declared, size = sum(info.file_size for info in members), os.path.getsize(file)
        if declared > grown_limit(size):
            raise ValueError(f"{declared} bytes declared in a file of {size}")

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> np.ndarray:
        """Return an array.

        Raises:
            DamagedFile: there is none of that name, or it is damaged.
        """
        with self._open(name) as (stream, size):
            header = array_header(stream, self.file, name)
            return array_values(stream, header, size, self.file, name)

    def header(self, name: str) -> ArrayHeader:
        """Return the header of an array; raises as `archive[name]`."""
        with self._open(name) as (stream, _):
            return array_header(stream, self.file, name)

    def text(self, name: str, limit: int = 4 * MIB) -> str:
        """Return the text that an array of one text holds; raises as `archive[name]`."""
        header = self.header(name)
        if header.shape != () or header.dtype.kind != "U" or header.nbytes > limit:
            rule = f"must hold one text of at most {limit} bytes called `{name}`"
            raise damaged(self.file, rule, f"shape={header.shape}, dtype={header.dtype}")
        with parsing(self.file, f"must hold a text called `{name}`"):
            text = str(self[name])
            text.encode("utf-8")
        return text

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        if name not in self._members:
            raise damaged(self.file, f"must hold an array called `{name}`")
        info = self._members[name]
        with parsing(self.file, _ARCHIVE), self._archive.open(info) as stream:
            yield stream, info.file_size


@contextlib.contextmanager
def open_npz(file: str | os.PathLike) -> Iterator[Archive]:
    """Open an `.npz` file.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFile: no whole archive, an encrypted one, two members of one name, or one that
            declares far more bytes than it has.
    """
    with open_file(file) as stream, contextlib.ExitStack() as stack:
        with parsing(file, _ARCHIVE):
            archive = Archive(stack.enter_context(zipfile.ZipFile(stream)), file)
        yield archive


def _header(stream: IO[bytes]) -> ArrayHeader:
    start = stream.read(8)
    if start[:6] != _MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
        raise ValueError("not NumPy's first bytes")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(_exactly(stream, width), "little")
    if length > _HEADER_LIMIT:
        raise ValueError(f"{length} bytes long")
    text = _exactly(stream, length).decode("utf-8" if start[6] == 3 else "latin-1")
    outer = _HEADER.fullmatch(text)
    if outer is None:
        raise ValueError("no mapping")
    parts: dict[str, str] = {}
    position = 0
    while position < len(outer[1]):
        entry = _ENTRIES.match(outer[1], position)
        if entry is None:
            raise ValueError("no descr, fortran_order and shape alone")
        given = {key: value for key, value in entry.groupdict().items() if value is not None}
        if parts.keys() & given.keys():
            raise ValueError("an entry twice")
        parts |= given
        position = entry.end()
    if "fields" in parts:
        raise ValueError("an array of records")
    if parts.keys() != {"dtype", "fortran", "shape"}:
        raise ValueError("no descr, fortran_order and shape alone")
    sides = [side.strip(" L") for side in parts["shape"].split(",")]
    if "" in sides[:-1] or (len(sides) == 1 and sides != [""]):
        raise ValueError("no shape")
    shape = tuple(int(side) for side in sides if side)
    if len(shape) > _RANK or any(side > _SIDE for side in shape):
        raise ValueError("too large a shape")
    dtype = np.dtype(object) if parts["dtype"] in ("|O", "O") else plain_dtype(parts["dtype"])
    return ArrayHeader(shape, dtype, parts["fortran"] == "True", 8 + width + length)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise ValueError("cut short")
    return content
