"""Readers of a task's data files: CSV, TSV, JSON, JSON lines (each also in gzip) and Parquet.

Lines end at `\\n` only, a `\\r` before it is no part of them. In CSV quotes are as in RFC 4180, in
TSV a quote is a character.
"""

import csv
import gzip
import json
import os
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from keras_spot.base.errors import invalid
from keras_spot.tasks.values import shown, unique

__all__ = ["BadFile", "Lines", "Row", "read_rows"]

Row = dict[str, Any]

_UNREADABLE = (ValueError, csv.Error, EOFError, zlib.error, gzip.BadGzipFile, RecursionError)
_MIB = 1 << 20
_LONGEST = 16 * _MIB  # bytes of a row of a packed file
_csv_limit = threading.Lock()  # the csv module has one limit of a cell for the whole process


class BadFile(ValueError):
    """A file without rows to read, whatever the row."""


def read_rows(task: str, path: str, kind: str, encoding: str) -> Iterator[Row]:
    """Yield the rows of a file.

    Args:
        task: the task's name, for messages.
        path: the file.
        kind: its type out of `keras_spot.tasks.file_types.FILE_TYPES`.
        encoding: of the text.

    Raises:
        InvalidArgument: no columns, no list of records, or a row that cannot be read, by its number
            and that of the line.
    """
    index, lines = 0, Lines(path, encoding)
    try:
        for row in _READERS[kind](lines):
            yield row
            index += 1
    except BadFile as error:
        raise invalid("files", "must have rows", f"{path}: {error}") from None
    except _UNREADABLE as error:
        line = f" (line {lines.number})" if lines.number else ""
        received = f"row {index} of {task} in {path}{line}: {_reason(error)}"
        raise invalid("row", "must be readable", received) from error


class Lines:
    """The decoded lines of a file, each with its end.

    Each line is decoded by itself, so that a wrong byte is found in its own row.

    Args:
        path: the file; `.gz` is read through gzip.
        encoding: of the text; a byte order mark is left out.

    Attributes:
        number: how many lines have been read.
        rest: of a packed file, which may be a thousand times its size unpacked, how many bytes
            may follow before a reader calls `renew`, as it does for every row.
    """

    def __init__(self, path: str, encoding: str):
        self.path, self.encoding, self.number = path, encoding, 0
        self.packed = path.lower().endswith(".gz")
        self.rest = _LONGEST
        # Of its lines, those of UTF-8 are as good without the mark that it looks for.
        self._codec = "utf-8" if encoding.lower().replace("_", "-") == "utf-8-sig" else encoding

    def __iter__(self) -> Iterator[str]:
        with self.open() as file:
            whole = "\n".encode(self._codec) != b"\n"  # UTF-16 and the like
            lines: Iterable[Any] = self._read(file)
            if whole:
                lines = _ended(self._decode(b"".join(lines)))
            for line in lines:
                self.number += 1
                text = line if whole else self._decode(line)
                yield text.removeprefix("\ufeff") if self.number == 1 else text

    def renew(self, size: int = _LONGEST) -> None:
        """Let that many bytes of a packed file follow."""
        self.rest = size

    def _read(self, file: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
        while line := file.readline(self.rest + 1 if self.packed else -1):
            self.rest -= len(line)
            if self.packed and self.rest < 0:
                raise BadFile("a packed row is too long; unpack the file, or give it as .jsonl.gz")
            yield line

    def open(self) -> BinaryIO | gzip.GzipFile:
        """Open the file's bytes."""
        if self.packed:
            return gzip.open(self.path, "rb")
        return open(self.path, "rb")

    def _decode(self, line: bytes) -> str:
        try:
            return line.decode(self._codec)
        except UnicodeError as error:
            at = getattr(error, "start", 0)
            marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
            likely = marks.get(line[:2]) if self.number <= 1 else None
            hint = f"`encoding: {likely}`" if likely else "`encoding`"
            what = f"byte 0x{line[at]:02x} at position {at}" if at < len(line) else "its end"
            rule = f"not text in {self.encoding}: {what} (the task's {hint} says another)"
            raise ValueError(rule) from None


def _ended(text: str) -> Iterator[str]:
    *lines, last = text.split("\n")
    yield from (line + "\n" for line in lines)
    if last:
        yield last


# === A reader for each type ===


def _csv(lines: Lines) -> Iterator[Row]:
    reader = csv.reader(iter(lines), strict=True)

    def cells() -> Iterator[list[str]]:
        while True:
            lines.renew()
            with _csv_limit:
                before = csv.field_size_limit(sys.maxsize)
                try:
                    row = next(reader, None)
                finally:
                    csv.field_size_limit(before)
            if row is None:
                return
            if row:
                yield row

    return _table(cells())


def _tsv(lines: Lines) -> Iterator[Row]:
    def cells() -> Iterator[list[str]]:
        for line in lines:
            lines.renew()
            text = line.removesuffix("\n").removesuffix("\r")
            if text:
                yield text.split("\t")

    return _table(cells())


def _table(cells: Iterator[list[str]]) -> Iterator[Row]:
    """Yield the rows below the first, which has the columns' names; nameless columns are none."""
    try:
        header = next(cells, None)
    except (ValueError, csv.Error) as error:
        raise BadFile(f"its first line: {_reason(error)}") from None
    if header is None:
        raise BadFile("it is empty, without a line of column names")
    _check_names(header)
    for row in cells:
        if len(row) != len(header):
            values = f"{len(row)} value" + "s" * (len(row) != 1)
            raise ValueError(f"{values} for {len(header)} columns, not one value for each column")
        yield {name: value for name, value in zip(header, row, strict=True) if name}


def _check_names(names: Iterable[str]) -> None:
    try:
        unique((name, None) for name in names if name)
    except ValueError as error:
        raise BadFile(f"its column {error}") from None


def _jsonl(lines: Lines) -> Iterator[Row]:
    for line in lines:
        lines.renew()
        text = line.strip(" \t\r\n")
        if text:
            yield _object(json.loads(text, object_pairs_hook=unique))


def _json(lines: Lines) -> Iterator[Row]:
    size = os.path.getsize(lines.path)
    lines.renew(8 * _MIB if size < _MIB else 20 * size)
    text = "".join(lines)
    lines.number = 0  # a message has its own
    try:
        rows = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"no JSON: {error}") from None
    if not isinstance(rows, list):
        raise BadFile("no list of records")
    yield from map(_object, rows)


def _object(value: Any) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"no record of features: {shown(value)}")
    return value


def _parquet(lines: Lines) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with lines.open() as stream, parquet.ParquetFile(stream) as file:
            _check_names(file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (pyarrow.lib.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise BadFile(" ".join(str(error).split())) from None


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, RecursionError):
        return "nested too deep"
    if "new-line character" in str(error):  # the csv module's advice is for who opens the file
        return "a carriage return outside quotes; lines must end at \\n or \\r\\n"
    return " ".join(str(error).split())


_READERS: dict[str, Callable[[Lines], Iterator[Row]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".json": _json,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
