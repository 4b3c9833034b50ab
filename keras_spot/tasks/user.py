"""A task of one's own from a YAML or JSON file with one literal record."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_spot.base import reading
from keras_spot.base.errors import damaged, invalid, unknown
from keras_spot.tasks.task import Task
from keras_spot.tasks.values import shown

__all__ = ["load"]

_LARGEST = 16 << 20  # bytes of a record
_FIELDS = tuple(field.name for field in dataclasses.fields(Task))


def load(path: str | os.PathLike[str]) -> Task:
    """Read a task from a `.yaml`, `.yml` or `.json` file.

    The file holds the fields of `Task`: `name`, `input`, and `tfds` (a TFDS name), `files`
    (split to path) or `rows` (split to a list of records). Relative paths of data files start at
    the record's own folder.

        name: reviews
        input: "review: {text}"
        labels: [bad, good]
        metrics: [accuracy]
        files: {train: train.csv, validation: dev.csv}

    Raises:
        MissingFile: no such file.
        InvalidArgument: not YAML or JSON, an unknown or missing field, a value of the wrong type,
            or a data file of an unknown type.
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
    if not any(record.get(field) for field in ("tfds", "files", "rows")):
        raise invalid("task", "must have the field 'tfds', 'files' or 'rows'", path)
    for field, value in record.items():
        good, rule = _RULES.get(field, (_is_text, "must be a text"))
        if not good(value):
            raise invalid(field, rule, f"{field}={shown(value)}")
    if "files" in record:
        files = record["files"].items()
        record["files"] = {split: str(path.parent / file) for split, file in files}
    return Task(**record)


def _parse(path: Path) -> dict[str, Any]:
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise invalid("task", "must be a .yaml, .yml or .json file", path)
    record = reading.read_yaml_or_json(path, argument="task", limit=_LARGEST)
    if not isinstance(record, dict):
        raise damaged(path, "must be one record of fields", type(record).__name__, argument="task")
    return record


# === Types of the fields ===


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _maps(value: Any, good: Callable[[Any], bool]) -> bool:
    if not isinstance(value, Mapping):
        return False
    return all(_is_text(name) and good(item) for name, item in value.items())


def _is_files(value: Any) -> bool:
    return _maps(value, _is_text)


def _is_weights(value: Any) -> bool:
    return _maps(value, lambda weight: type(weight) in (int, float))


def _is_rows(value: Any) -> bool:
    return _maps(value, lambda rows: isinstance(rows, list) and all(_maps(r, _any) for r in rows))


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _any(value: Any) -> bool:
    return True


_TEXTS = (_is_texts, "must be a list of texts (quote yes, no, true, false and numbers)")
_WHOLE = (_is_whole, "must be a whole number")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("labels", "metrics", "validation"), _TEXTS),
    **dict.fromkeys(("train_label", "sentinel", "max_input_length", "max_target_length"), _WHOLE),
    **dict.fromkeys(("splits", "files"), (_is_files, "must map split names to texts")),
    "rows": (_is_rows, "must map split names to lists of records"),
    "label_weights": (_is_weights, "must map label names to numbers (quote names like no or 1)"),
    "label_indices": (_is_truth, "must be true or false"),
}
"""Field to its check and rule; every other field is a text."""
