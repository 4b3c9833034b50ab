"""Bytes of a file within a limit, and the one error for whatever is wrong with them."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from typing import IO

from keras_spot.base.errors import (
    DamagedFile,
    InvalidArgument,
    MissingFile,
    Unreachable,
    UnsuitableDevices,
    damaged,
    is_memory_full,
    printable,
    shortened,
)

__all__ = [
    "DEPTH",
    "MIB",
    "Path",
    "grown_limit",
    "naming",
    "open_file",
    "parsing",
    "read_bytes",
    "read_text",
    "reason",
]

Path = str | os.PathLike[str]

MIB = 1 << 20
# What a small file may grow to in memory, and how often a large one may be its own size.
ALLOWANCE, RATIO = 32 * MIB, 20
_OF_TENSORFLOW = re.compile(r"^\{\{[^{}]*\}\} ")  # which operation of which device
DEPTH = 64  # of nested lists and mappings


def grown_limit(size: int) -> int:
    """Return how many bytes the content of `size` bytes may claim to be.

    >>> grown_limit(100) == ALLOWANCE
    True
    """
    return max(ALLOWANCE, RATIO * size)


@contextlib.contextmanager
def parsing(file: Path, rule: str, argument: str = "path") -> Iterator[None]:
    """Turn whatever a parser raises in the block into `DamagedFile`.

    Parsers of other people's raise errors of all kinds at a hostile file, `MemoryError` and
    `RecursionError` among them. Errors of the system get the file's name if they have none. That
    the devices do not suit, or are full, is no fault of the file's.
    """
    try:
        yield
    except (DamagedFile, MissingFile, Unreachable, UnsuitableDevices, ModuleNotFoundError):
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        if error.errno is not None:
            raise type(error)(error.errno, os.strerror(error.errno), os.fspath(file)) from error
        raise damaged(file, rule, reason(error), argument=argument) from error
    except InvalidArgument as error:
        if printable(os.fspath(file)) in str(error):
            raise
        raise damaged(file, rule, reason(error), argument=argument) from error
    except Exception as error:
        if is_memory_full(error):
            raise
        raise damaged(file, rule, reason(error), argument=argument) from error


@contextlib.contextmanager
def naming(file: Path) -> Iterator[None]:
    """Name the file in the error of a value that came from it."""
    try:
        yield
    except ValueError as error:
        name = printable(os.fspath(file))
        if name in str(error):
            raise
        raise DamagedFile(f"{error} in {name}") from error


def reason(error: BaseException) -> str:
    """Return what an error says, in one short line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, MemoryError):
        return "more than fits into memory"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not {error.encoding.upper()}"
    if isinstance(error, UnicodeEncodeError):
        return "half a character"
    text = _OF_TENSORFLOW.sub("", str(error).strip())
    return shortened(text.splitlines()[0], 160) if text else type(error).__name__


def open_file(file: Path) -> IO[bytes]:
    """Open an ordinary file to read its bytes; a pipe or a device could never end.

    Raises:
        OSError: it is not there, a folder, or not yours to read.
        DamagedFile: it is a pipe, a device or a socket.
    """
    mode = os.stat(file).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise damaged(file, "must be an ordinary file", "a pipe, a device or a socket")
    return open(file, "rb")


def read_bytes(file: Path, limit: int, argument: str = "path") -> bytes:
    """Return the bytes of a file that has at most `limit` of them.

    Raises:
        OSError: it is not there or cannot be read.
        DamagedFile: it is larger.
    """
    with open_file(file) as stream, parsing(file, "must be readable", argument):
        size = os.fstat(stream.fileno()).st_size
        content = stream.read(size + 1) if size <= limit else b""
        if size < len(content) <= limit:  # it has grown meanwhile
            content += stream.read(limit - size)
    if max(size, len(content)) > limit:
        raise damaged(file, f"must have at most {limit} bytes", argument=argument)
    return content


def read_text(file: Path, limit: int, argument: str = "path", rule: str = "") -> str:
    """Return the UTF-8 text of a file that has at most `limit` bytes.

    Raises:
        OSError, DamagedFile: as `read_bytes`; or other bytes than UTF-8.
    """
    content = read_bytes(file, limit, argument)
    with parsing(file, rule or "must be text in UTF-8", argument):
        return content.decode("utf-8-sig")
