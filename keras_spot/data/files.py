"""Rows of a task's own .csv, .tsv, .json and .jsonl files."""

import csv
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from keras_spot import tasks
from keras_spot.base.errors import MissingFile, invalid, unknown

Row = dict[str, Any]
Rows = Callable[[], Iterator[Row]]

_SLICE = re.compile(r"(\w+)(?:\[(\d*):(\d*)\])?")


def open_file(task: tasks.Task, split: str) -> Rows:
    """Return a function that starts reading the split's file.

    CSV and TSV have a line of feature names, JSON is a list of objects (read as a whole), JSONL
    an object a line. A null is no feature.

    Raises:
        ValueError: no such split, or a file of another type; while reading, a row that cannot be
            read, by its number.
        FileNotFoundError: no such file.
    """
    match = _SLICE.fullmatch(split)
    if not match:
        raise invalid("split", "must be a name or name[first:last] for a file", f"split={split!r}")
    name = task.splits.get(match[1], match[1])
    if name not in task.files:
        raise unknown("split", split, task.files)
    path = task.files[name]
    kind = os.path.splitext(path)[1]
    if kind not in _READERS:
        raise invalid("files", f"must be of a type out of {list(_READERS)}", path)
    if not os.path.isfile(path):
        raise MissingFile(f"`task` {task.name} reads {name!r} from {path}, which is absent")
    first, last = (int(number) if number else None for number in (match[2], match[3]))
    return lambda: itertools.islice(_rows(task.name, path, _READERS[kind]), first, last)


def _rows(task: str, path: str, reader: Callable[[str], Iterator[Row]]) -> Iterator[Row]:
    index = 0
    try:
        for row in reader(path):
            yield row
            index += 1
    except (ValueError, csv.Error) as error:
        received = f"row {index} of {task} in {path}: {error}"
        raise invalid("row", "must be readable", received) from error


def _tsv(path: str) -> Iterator[Row]:
    return _csv(path, "\t")


def _csv(path: str, delimiter: str = ",") -> Iterator[Row]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, delimiter=delimiter, strict=True):
            if None in row or None in row.values():
                raise ValueError("not one value for each column")
            yield row


def _jsonl(path: str) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield _object(json.loads(line))


def _json(path: str) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig") as file:
        rows = json.load(file)
    if not isinstance(rows, list):
        raise ValueError("not a list of objects")
    yield from map(_object, rows)


def _object(value: Any) -> Row:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return {name: item for name, item in value.items() if item is not None}


_READERS = {".csv": _csv, ".tsv": _tsv, ".json": _json, ".jsonl": _jsonl}
