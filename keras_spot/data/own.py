"""Rows of a task's own: of its files, or given in memory."""

import dataclasses
import functools
import itertools
import numbers
import os
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

from keras_spot.base.errors import InvalidArgument, MissingFile, invalid, unknown
from keras_spot.data.readers import Row, read_rows
from keras_spot.data.slices import parse
from keras_spot.tasks import Task
from keras_spot.tasks.file_types import file_type
from keras_spot.tasks.values import shown, shown_names, unique

__all__ = ["Rows", "absent_column", "check_source", "memory_rows", "open_own"]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of a split that can be read again and again; calling it starts an iterator.

    Attributes:
        read: starts reading, from the first row.
        source: where they come from, for messages; None where the task's name says it.
        count: their number, None where only reading tells.
    """

    read: Callable[[], Iterator[Row]]
    source: str | None = None
    count: int | None = None

    def __call__(self) -> Iterator[Row]:
        return self.read()


def open_own(task: Task, split: str) -> Rows:
    """Return the rows of a split of a task's `files` or `rows`.

    CSV and TSV have a line of feature names, JSON is a list of records (read as a whole), JSONL
    a record a line.

    Raises:
        InvalidArgument: a task without rows, no such split, or a file of another type; while
            reading, a row that cannot be read, by its number.
        MissingFile: no such file.
    """
    check_source(task)
    parts = []
    for part in parse(split):
        name = task.splits.get(part.name, part.name)
        for nested in parse(name):  # a split may be a slice itself
            whole = _open(task, nested.name, split)
            count = functools.partial(_count, whole)
            first, last = nested.bounds(count)
            if name == nested.name:
                first, last = part.bounds(count)
            elif (part.first, part.last) != (None, None):
                raise invalid("split", f"must not slice {name!r} again", f"split={split!r}")
            parts.append(_sliced(whole, first, last))
    return parts[0] if len(parts) == 1 else _joined(parts)


def check_source(task: Task) -> None:
    """Raise InvalidArgument for a task that has rows nowhere."""
    if task.tfds is None and not task.files and not task.rows:
        rule = "must say where its rows are: `tfds`, `files` or `rows`"
        raise invalid("task", rule, f"{task.name!r} with none of them")


def absent_column(task: Task, rows: Rows) -> str:
    """Return that the first row has no such feature as the label's, nothing where it has."""
    parsed = string.Formatter().parse(task.target)
    wanted = [task.label_feature] if task.labels else [name for _, name, _, _ in parsed if name]
    for row in itertools.islice(rows(), 1):
        if task.preprocess is None and not set(wanted) <= set(row):
            return f"whose rows have {shown_names(sorted(map(str, row)))} and not {wanted[0]!r}"
    return ""


def _open(task: Task, name: str, split: str) -> Rows:
    known: Mapping[str, Any] = task.files or task.rows
    if name not in known:
        raise _no_split(task, split, known)
    if name in task.rows:
        return memory_rows(task, name)
    path = task.files[name]
    kind = file_type(path)
    if not os.path.isfile(path):
        raise MissingFile(f"`task` {task.name} reads {name!r} from {path}, which is absent")
    return Rows(lambda: read_rows(task.name, path, kind, task.encoding), path)


def _no_split(task: Task, split: str, known: Mapping[str, Any]) -> InvalidArgument:
    """Return the error for an absent split; of a validation split it says what to do."""
    if split not in task.validation:
        return unknown("split", split, {**task.splits, **known})
    rule = (
        "must be a split of the task: name another in its `validation`, slice one "
        '(validation_split="train[90%:]", split="train[:90%]"), or train without '
        '(validation_split="")'
    )
    return invalid("split", rule, f"split={split!r} of {task.name}, which has {sorted(known)}")


def _count(rows: Rows) -> int:
    return sum(1 for _ in rows()) if rows.count is None else rows.count


def _sliced(rows: Rows, first: int, last: int | None) -> Rows:
    if (first, last) == (0, None):
        return rows
    count = rows.count
    if count is not None:
        count = max(0, min(count, count if last is None else last) - first)
    source = rows.source
    if source is not None and first:
        source += f", counted from row {first}"
    return Rows(lambda: itertools.islice(rows(), first, last), source, count)


def _joined(parts: list[Rows]) -> Rows:
    counts = [part.count for part in parts]
    count = None if None in counts else sum(number or 0 for number in counts)
    sources = [part.source for part in parts if part.source is not None]
    return Rows(
        lambda: itertools.chain.from_iterable(part() for part in parts),
        " + ".join(sources) or None,
        count,
    )


# === Rows in memory ===


def memory_rows(task: Task, split: str) -> Rows:
    """Return the rows that a task holds in memory.

    Raises:
        InvalidArgument: rows that cannot be read twice, columns of unequal lengths or with one
            name; while reading, a row that is no mapping.
    """
    value = task.rows[split]
    place = f"{split!r} of {task.name}"
    if callable(value) and not isinstance(value, Iterable):
        return Rows(lambda: _checked(value(), place))
    if isinstance(value, Iterator):
        rule = "must be readable more than once: give a list, or a function that starts it anew"
        raise invalid("rows", rule, f"{type(value).__name__} for {place}")
    names = getattr(value, "columns", None)
    if isinstance(value, Mapping):
        columns = {str(name): list(column) for name, column in value.items()}
    elif names is not None and hasattr(value, "iloc"):  # pandas
        _check_columns(names, place)
        columns = {str(name): value[name].tolist() for name in names}
    elif hasattr(value, "to_pylist"):  # PyArrow
        _check_columns(value.schema.names, place)
        return Rows(lambda: iter(value.to_pylist()), count=len(value))
    elif hasattr(value, "iter_rows"):  # polars
        return Rows(lambda: value.iter_rows(named=True), count=len(value))
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        count = len(value) if isinstance(value, Sized) else None
        names = _class_names(task, value)
        return Rows(lambda: _named(task, names, _checked(value, place)), count=count)
    else:
        rule = "must be rows: a list of mappings, columns, a table, or a function that gives them"
        raise invalid("rows", rule, f"{shown(value)} for {place}")
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        raise invalid("rows", "must have columns of one length", f"{counts} for {place}")
    return Rows(
        lambda: (dict(zip(columns, row)) for row in zip(*columns.values(), strict=True)),
        count=next(iter(counts.values()), 0),
    )


def _class_names(task: Task, value: Any) -> list[str]:
    """Return what the numbers of the label column of a Hugging Face data set mean, where the
    task has labels of the same names, perhaps in another order; else nothing.
    """
    features = getattr(value, "features", None)
    feature = features.get(task.label_feature) if isinstance(features, Mapping) else None
    names = list(getattr(feature, "names", None) or ())
    return names if task.labels and sorted(names) == sorted(task.labels) else []


def _named(task: Task, names: list[str], rows: Iterator[Row]) -> Iterator[Row]:
    """Yield rows whose label is a name instead of its number; -1 is no label."""
    for row in rows:
        label = row.get(task.label_feature) if names and task.label_feature else None
        if isinstance(label, numbers.Integral) and -1 <= int(label) < len(names):
            name = names[int(label)] if int(label) >= 0 else None
            row = {**row, task.label_feature: name}
        yield row


def _check_columns(names: Iterable[Any], place: str) -> None:
    try:
        unique((str(name), None) for name in names)
    except ValueError as error:
        raise invalid("rows", "must have columns of different names", f"{error}, {place}") from None


def _checked(rows: Iterable[Any], place: str) -> Iterator[Row]:
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            received = f"row {index} of {place}: {shown(row)}"
            raise invalid("row", "must be a mapping of features", received)
        yield dict(row)
