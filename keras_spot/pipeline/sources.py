"""Rows of a task's split, read block by block through TFDS or from the task's own files."""

import contextlib
import csv
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from keras_spot import tasks
from keras_spot.errors import invalid, unknown

BLOCK = 1024
"""Rows read, formatted and tokenised at a time."""

Row = dict[str, Any]
Rows = Callable[[], Iterator[Row]]

_SLICE = re.compile(r"(\w+)(?:\[(\d*):(\d*)\])?")


def open_rows(task: tasks.Task, split: str, data_dir: str | os.PathLike[str] | None = None) -> Rows:
    """Return a function that starts reading the split's rows, from the first, in stored order.

    Args:
        task: the task.
        split: a name in `task.splits` or of the data set, or a TFDS slice of one.
        data_dir: the TFDS directory; default TFDS' own (`TFDS_DATA_DIR` or the home directory).

    Raises:
        ValueError: no such split.
        FileNotFoundError: the data set is not prepared, or the task's file is absent.
    """
    if task.files:
        return _open_file(task, split)
    builder = find_builder(task, data_dir)
    found = tfds_split(task, split, builder)
    fast = _batch_parser(builder)
    try:
        blocks = fast(found) if fast else _served(builder, found)
    except (AssertionError, KeyError) as error:
        if builder.info.splits:
            raise _bad_split(split, error) from None
        raise _missing(task, builder.data_path) from None
    except ValueError as error:
        raise _bad_split(split, error) from None
    return lambda: itertools.chain.from_iterable(map(_rows, blocks.as_numpy_iterator()))


def count_rows(task: tasks.Task, split: str, data_dir: str | os.PathLike[str] | None = None) -> int:
    """Return the number of rows of a split (of a file: by reading it once)."""
    if task.files:
        return sum(1 for _ in open_rows(task, split)())
    builder = find_builder(task, data_dir)
    open_rows(task, split, data_dir)  # its errors
    return int(builder.info.splits[tfds_split(task, split, builder)].num_examples)


def prepare(task: str | tasks.Task, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Download (unless synthetic) and prepare a task's data set; return its directory.

    Does nothing where the data set is prepared already.

    Raises:
        ValueError: the task is read from files, or TFDS has no builder for its data set.
    """
    task = tasks.get(task)
    if task.tfds is None:
        raise invalid("task", "must be a TFDS data set to be prepared", f"task={task.name!r}")
    builder = find_builder(task, data_dir)
    if not builder.info.splits:
        builder.download_and_prepare()
    return str(builder.data_path)


def find_builder(task: tasks.Task, data_dir: str | os.PathLike[str] | None) -> Any:
    """Return the TFDS builder of a task, of the code or of the prepared files alone.

    Synthetic data sets are prepared on the way.
    """
    import tensorflow_datasets as tfds

    assert task.tfds is not None
    synthetic = task.tfds.startswith("synthetic/")
    if synthetic:
        import keras_spot.synthetic.builder  # noqa: F401  makes the builder known to TFDS
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    try:
        builder = tfds.builder(task.tfds, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, FileNotFoundError):
        raise _missing(task, data_dir or tfds.core.constants.DATA_DIR, known=False) from None
    if synthetic and not builder.info.splits:
        _prepare_quietly(builder)
    return builder


def tfds_split(task: tasks.Task, split: str, builder: Any) -> str:
    """Return the split in TFDS' words, `task.splits` applied to every name in it."""
    known = dict.fromkeys(builder.info.splits)
    for name, stored in task.splits.items():
        if stored.partition("[")[0] in known or not known:
            known.setdefault(name)
    parts = []
    for part in split.split("+"):
        name, bracket, rest = part.strip().partition("[")
        stored = task.splits.get(name, name)
        if builder.info.splits and stored.partition("[")[0] not in builder.info.splits:
            raise unknown("split", split, known)
        parts.append(stored + bracket + rest)
    return "+".join(parts)


# === TFDS ===


def _served(builder: Any, split: str) -> Any:
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
    rows = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
    return rows.ragged_batch(BLOCK).prefetch(2)


def _batch_parser(builder: Any) -> Callable[[str], Any] | None:
    """Return a reader that parses a block of records at once, where the features are scalars.

    `as_dataset` parses record by record, about twenty times slower; the rows are the same.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    info = builder.info
    if not info.splits or info.file_format != tfds.core.FileFormat.TFRECORD:
        return None
    features = {}
    for name, feature in info.features.items():
        kind = type(feature)
        if (
            kind
            not in (
                tfds.features.Text,
                tfds.features.ClassLabel,
                tfds.features.Scalar,
                tfds.features.Tensor,
            )
            or feature.shape != ()
        ):
            return None
        stored = feature.get_serialized_info()
        dtype = tf.as_dtype(stored.dtype)
        if dtype.is_integer or dtype.is_bool:
            dtype = tf.int64
        features[name] = tf.io.FixedLenFeature((), dtype)

    def read(split: str) -> Any:
        files = info.splits[split].file_instructions
        parts = [
            tf.data.TFRecordDataset(file.filename).skip(file.skip).take(file.take) for file in files
        ]
        records = tf.data.TFRecordDataset([])
        for part in parts:
            records = records.concatenate(part)
        blocks = records.batch(BLOCK)
        return blocks.map(lambda block: tf.io.parse_example(block, features)).prefetch(2)

    return read


def _rows(block: Row) -> Iterator[Row]:
    """Yield the rows of a block of columns."""
    columns = {name: _column(values) for name, values in block.items()}
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _column(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return list(_rows(values))
    return values.to_list() if hasattr(values, "to_list") else values.tolist()


def _prepare_quietly(builder: Any) -> None:
    """Prepare a synthetic data set without TFDS' progress bars."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder.download_and_prepare()
    except OSError as error:
        rule = f"must be writable, to prepare {builder.info.full_name} in it"
        raise invalid("data_dir", rule, f"{builder.data_path} ({error})") from None


def _missing(task: tasks.Task, path: Any, known: bool = True) -> FileNotFoundError:
    if known:
        data_dir = str(path).split(str(task.tfds).partition(":")[0])[0].rstrip(os.sep)
        how = f"prepare it with: keras-spot tasks --prepare {task.name} --data-dir {data_dir}"
    else:
        how = f"TFDS has no builder for it, so put its prepared directory into {path}"
    return FileNotFoundError(
        f"`task` {task.name} needs the data set {task.tfds}, which is not in {path}; {how}"
    )


def _bad_split(split: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())
    return invalid("split", "must be a split or a TFDS slice", f"split={split!r} ({reason})")


# === Files ===


def _open_file(task: tasks.Task, split: str) -> Rows:
    match = _SLICE.fullmatch(split)
    name = task.splits.get(match[1], match[1]) if match else split
    if not match:
        raise invalid("split", "must be a name or name[first:last] for a file", f"split={split!r}")
    if name not in task.files:
        raise unknown("split", split, task.files)
    path = task.files[name]
    if not os.path.isfile(path):
        raise FileNotFoundError(f"`task` {task.name} reads {name!r} from {path}, which is absent")
    first, last = (int(number) if number else None for number in (match[2], match[3]))
    return lambda: itertools.islice(_file_rows(task.name, path), first, last)


def _file_rows(task: str, path: str) -> Iterator[Row]:
    kind = os.path.splitext(path)[1]
    reader = {".csv": _csv, ".tsv": _csv, ".json": _json, ".jsonl": _jsonl}[kind]
    index = 0
    try:
        for row in reader(path):
            if not isinstance(row, dict) or None in row or None in row.values():
                raise ValueError(
                    "not one value for each column"
                    if kind[2:] == "sv"
                    else "not an object with values"
                )
            yield row
            index += 1
    except (ValueError, csv.Error) as error:
        raise invalid(
            "row", "must be readable", f"row {index} of {task} in {path}: {error}"
        ) from error


def _csv(path: str) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(
            file, delimiter="\t" if path.endswith(".tsv") else ",", strict=True
        )


def _jsonl(path: str) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _json(path: str) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig") as file:
        rows = json.load(file)
    if not isinstance(rows, list):
        raise ValueError("not a list of objects")
    yield from rows
