"""What a run was trained on, by contents: a task's record, and hashes of its files."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from keras_spot import tasks
from keras_spot.base.errors import invalid
from keras_spot.tasks.rows import PREPROCESS

__all__ = ["WHOLE", "file_hash", "files_record", "recorded_task", "rows_hash", "task_record"]

WHOLE = 64 * 2**20
"""Bytes of a file that are hashed; of a longer one as many from both ends, and its size."""

_NAME = re.compile(r"\w+")
_UNKNOWN = 32  # target tokens where nothing tells, as `build` has them


def task_record(task: tasks.Task) -> dict[str, Any]:
    """Return a task as plain data, without its files and rows; a function by its name."""
    names = [field.name for field in dataclasses.fields(task)]
    record = {name: getattr(task, name) for name in names if name not in ("files", "rows")}
    record = {k: dict(v) if isinstance(v, Mapping) else v for k, v in record.items()}
    if callable(task.preprocess):
        module, name = task.preprocess.__module__, task.preprocess.__qualname__
        record["preprocess"] = f"{module}.{name}"
    return record


def recorded_task(record: Mapping[str, Any], name: str | None = None) -> tasks.Task | None:
    """Return the task of a run's record, with those of its files that are still there.

    Args:
        record: what `run.json` holds, or a prompt file's provenance.
        name: which of a mixture's tasks. Default: the one that the prompt was trained on.

    Raises:
        InvalidArgument: a task that a record cannot tell whole: of a `preprocess` function.
    """
    own = record.get("task_record") if name is None else None  # a prompt file has but one
    name = record.get("task") if name is None else name
    fields = dict(record.get("tasks") or {}).get(name, own)
    if fields is None:
        return tasks.get(name) if name in tasks.names() else None
    if fields.get("preprocess") not in (None, *PREPROCESS):
        rule = "must be given where a function prepares its rows"
        raise invalid("task", rule, f"{name} with preprocess={fields['preprocess']}")
    facts = dict(record.get("files") or {}).get(name) or {}
    paths = {split: of_split["path"] for split, of_split in facts.items() if "path" in of_split}
    files = {split: path for split, path in paths.items() if os.path.isfile(path)}
    task = tasks.Task(**fields, files=files)
    if task.labels or task.max_target_length or files:
        return task
    return dataclasses.replace(task, max_target_length=_UNKNOWN)  # its data, which told, are gone


def files_record(
    task: tasks.Task, splits: Iterable[str], data_dir: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Return path and hash of the files of some splits, or a hash of rows in memory.

    Of TFDS data, as `"tfds"`, the version that is read and the number of its rows. What is not
    there is left out: who reads it says so.
    """
    splits = list(splits)
    if task.tfds is not None:
        from keras_spot.data.sources import prepared_record

        prepared = prepared_record(task, splits, data_dir)
        return {"tfds": prepared} if prepared else {}
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
