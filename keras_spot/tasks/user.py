"""A task of one's own from a YAML or JSON file with one literal record."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from keras_spot.base import reading
from keras_spot.base.errors import invalid, unknown
from keras_spot.tasks.task import Task

FILE_TYPES = (".csv", ".tsv", ".json", ".jsonl")
_LARGEST = 16 << 20  # bytes of a record
_FIELDS = tuple(field.name for field in dataclasses.fields(Task))
_TUPLES = ("labels", "metrics", "validation")
_MAPPINGS = ("splits", "files")
_NUMBERS = ("train_label", "sentinel", "max_input_length", "max_target_length")


def load(path: str | os.PathLike[str]) -> Task:
    """Read a task from a `.yaml`, `.yml` or `.json` file.

    The file holds the fields of `Task`: `name`, `input`, and `tfds` (a TFDS name) or `files`
    (split to path). Relative paths of data files start at the record's own folder.

        name: reviews
        input: "review: {text}"
        labels: [bad, good]
        metrics: [accuracy]
        files: {train: train.csv, validation: dev.csv}

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML or JSON, an unknown or missing field, a value of the wrong type, or
            a data file of an unknown type.
    """
    path = Path(path)
    record = _parse(path)
    with reading.parsing(path, "must hold a task", "task"), reading.naming(path):
        return _task(record, path)


def _task(record: dict[str, Any], path: Path) -> Task:
    for field in record:
        if field not in _FIELDS:
            raise unknown("task", field, _FIELDS)
    for field in ("name", "input"):
        if field not in record:
            raise invalid("task", f"must have the field {field!r}", path)
    if not record.get("tfds") and not record.get("files"):
        raise invalid("task", "must have the field 'tfds' or 'files'", path)
    _check_types(record)
    files = {split: str(path.parent / file) for split, file in record.get("files", {}).items()}
    for file in files.values():
        if Path(file).suffix not in FILE_TYPES:
            raise invalid("files", f"must be of a type out of {list(FILE_TYPES)}", file)
    if files:
        record["files"] = files
        record.setdefault("splits", {split: split for split in files})
    tuples = {field: tuple(record[field]) for field in _TUPLES if field in record}
    return Task(**{"tfds": None, **record, **tuples})


def _parse(path: Path) -> dict[str, Any]:
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise invalid("task", "must be a .yaml, .yml or .json file", path)
    record = reading.read_yaml_or_json(path, argument="task", limit=_LARGEST)
    if not isinstance(record, dict):
        raise invalid("task", "must be one record of fields", f"{path} ({type(record).__name__})")
    return record


def _check_types(record: dict[str, Any]) -> None:
    for field, value in record.items():
        if field in _TUPLES:
            good = isinstance(value, list) and all(isinstance(item, str) for item in value)
            rule = "must be a list of texts (quote yes, no, true, false and numbers)"
        elif field in _MAPPINGS:
            good = isinstance(value, dict) and all(
                isinstance(item, str) for pair in value.items() for item in pair
            )
            rule = "must map split names to texts"
        elif field in _NUMBERS:
            good, rule = type(value) is int, "must be a whole number"
        else:
            good, rule = isinstance(value, str), "must be a text"
        if not good:
            raise invalid(field, rule, f"{field}={value!r}")
