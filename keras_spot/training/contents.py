"""What a run was trained on, by contents: a task's record, and hashes of its files."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from keras_spot import tasks

WHOLE = 64 * 2**20
"""Bytes of a file that are hashed; of a longer one as many from both ends, and its size."""

_NAME = re.compile(r"\w+")


def task_record(task: tasks.Task) -> dict[str, Any]:
    """Return a task as plain data, without its files and rows; a function by its name."""
    names = [field.name for field in dataclasses.fields(task)]
    record = {name: getattr(task, name) for name in names if name not in ("files", "rows")}
    record = {k: dict(v) if isinstance(v, Mapping) else v for k, v in record.items()}
    if callable(task.preprocess):
        module, name = task.preprocess.__module__, task.preprocess.__qualname__
        record["preprocess"] = f"{module}.{name}"
    return record


def files_record(task: tasks.Task, splits: Iterable[str]) -> dict[str, Any]:
    """Return path and hash of the files of some splits, a hash of rows in memory; else `{}`.

    A file that is not there is left out: who reads it says so.
    """
    paths, in_memory = {}, set()
    for part in "+".join(splits).split("+"):
        name = "".join(_NAME.findall(part)[:1])
        stored = task.splits.get(name, name)
        if stored in task.rows:
            in_memory.add(stored)
        elif stored in task.files and os.path.isfile(task.files[stored]):
            paths[stored] = os.path.abspath(task.files[stored])
    record = {name: {"path": path, "sha256": file_hash(path)} for name, path in paths.items()}
    return record | {name: {"sha256": rows_hash(task, name)} for name in sorted(in_memory)}


def rows_hash(task: tasks.Task, split: str) -> str:
    """Return a hash of a split's rows in memory."""
    from keras_spot.data.sources import open_rows

    digest = hashlib.sha256()
    for row in open_rows(task, split)():
        digest.update(repr(sorted(row.items(), key=str)).encode())
    return digest.hexdigest()


def file_hash(path: str | os.PathLike[str]) -> str:
    """Return a hash of a file's contents, of a very long one of its ends and its size."""
    size = os.path.getsize(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        if size <= 2 * WHOLE:
            for block in iter(lambda: file.read(2**20), b""):
                digest.update(block)
        else:
            digest.update(f"{size};".encode())
            digest.update(file.read(WHOLE))
            file.seek(-WHOLE, os.SEEK_END)
            digest.update(file.read(WHOLE))
    return digest.hexdigest()
