"""Rows of a task's split, read block by block through TFDS (or from the task's own files)."""

import contextlib
import io
import itertools
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keras_spot import tasks
from keras_spot.base import reading, remote
from keras_spot.base.errors import InvalidArgument, MissingFile, invalid, unknown, unreachable
from keras_spot.data.own import Rows, open_own
from keras_spot.data.readers import Row
from keras_spot.tasks.sentences import WITHOUT_BUILDER

__all__ = [
    "BLOCK",
    "availability",
    "count_rows",
    "find_builder",
    "how_to_get",
    "open_rows",
    "prepare",
    "prepared_record",
    "tfds_split",
]

BLOCK = 1024
"""Rows read, formatted and tokenised at a time."""

_EXACT = re.compile(r":\d+\.\d+\.\d+$")


def open_rows(task: tasks.Task, split: str, data_dir: str | os.PathLike[str] | None = None) -> Rows:
    """Return a function that starts reading the split's rows, from the first, in stored order.

    Args:
        task: the task.
        split: a name in `task.splits` or of the data set, or a TFDS slice of one.
        data_dir: the TFDS directory; default TFDS' own (`TFDS_DATA_DIR` or the home directory).

    Raises:
        InvalidArgument: no such split.
        MissingFile: the data set is not prepared, or the task's file is absent.
    """
    if task.tfds is None:
        return open_own(task, split)
    builder = find_builder(task, data_dir)
    stored = tfds_split(task, split, builder)
    parse = _batch_parser(builder)
    count = None
    try:
        blocks = parse(stored) if parse else _served(builder, stored)
        if builder.info.splits:
            count = int(builder.info.splits[stored].num_examples)
    except (AssertionError, KeyError) as error:
        if builder.info.splits:
            raise _bad_split(split, error) from None
        raise _missing(task, builder, _root(data_dir)) from None
    except ValueError as error:
        raise _bad_split(split, error) from None
    return Rows(
        lambda: itertools.chain.from_iterable(map(_rows, blocks.as_numpy_iterator())), count=count
    )


def count_rows(task: tasks.Task, split: str, data_dir: str | os.PathLike[str] | None = None) -> int:
    """Return the number of rows of a split (of a file: by reading it once)."""
    rows = open_rows(task, split, data_dir)
    return sum(1 for _ in rows()) if rows.count is None else rows.count


def prepare(task: str | tasks.Task, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Download (unless synthetic) and prepare a task's data set; return its directory.

    Does nothing where the data set is prepared already.

    Raises:
        InvalidArgument: the task is read from files, or its data set cannot be downloaded.
        MissingFile: TFDS has no builder for the data set.
    """
    task = tasks.get(task)
    if task.tfds is None:
        raise invalid("task", "must be a TFDS data set to be prepared", f"task={task.name!r}")
    builder = find_builder(task, data_dir)
    if not builder.info.splits:
        _reach_hosts(builder, task)
        try:
            builder.download_and_prepare()
        except OSError as error:  # of the network, mostly
            reason = " ".join(str(error).split())
            raise invalid("task", "must be downloadable", f"{task.tfds} ({reason})") from error
    return str(builder.data_path)


def _reach_hosts(builder: Any, task: tasks.Task) -> None:
    """Raise within seconds where no host of the data set answers: TFDS tries for minutes."""
    urls = getattr(builder, "url_infos", None) or {}
    hosts = {urllib.parse.urlsplit(url).hostname for url in urls} - {None}
    reason: OSError | None = None
    for host in hosts:
        try:
            remote.knock(str(host))
        except OSError as error:
            reason = error
        else:
            return
    if reason is not None:
        received = f"{task.tfds} from {', '.join(sorted(map(str, hosts)))}"
        raise unreachable("task", received, reason) from reason


def availability(task: tasks.Task, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Return whether a task's data are there: "yes", "no", or "on use" for synthetic ones.

    Looks at names alone, without TensorFlow.
    """
    if task.tfds is None:
        return "yes" if all(map(os.path.isfile, task.files.values())) else "no"
    if task.tfds.startswith("synthetic/"):
        return "on use"
    info = os.path.join(_folder(task, data_dir), "dataset_info.json")
    return "yes" if os.path.isfile(info) else "no"


def how_to_get(task: tasks.Task, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Return one line on how to get the data of a task that are not there."""
    if task.tfds is None:
        absent = [path for path in task.files.values() if not os.path.isfile(path)]
        return f"the task's files are absent: {', '.join(absent)}"
    if task.name not in WITHOUT_BUILDER:
        where = "" if data_dir is None else f" --data-dir {os.fspath(data_dir)}"
        return f"keras-spot tasks --prepare {task.name}{where}"
    return (
        f"TFDS has no builder for them: put a prepared directory at {_folder(task, data_dir)}, or "
        "your own files of them into a task record (`files`)"
    )


def _folder(task: tasks.Task, data_dir: str | os.PathLike[str] | None) -> str:
    """Return where TFDS keeps a task's prepared data."""
    root = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return os.path.join(os.path.expanduser(root), *str(task.tfds).replace(":", "/").split("/"))


def prepared_record(
    task: tasks.Task, splits: Iterable[str], data_dir: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Return which version of a TFDS data set is read and how many rows its splits have.

    `{}` where nothing is prepared (who reads it says so), and for synthetic data, which are made on
    use. TensorFlow is needed only where the task names no exact version.
    """
    if task.tfds is None or task.tfds.startswith("synthetic/"):
        return {}
    folder = _folder(task, data_dir)
    if not _EXACT.search(task.tfds):
        try:
            folder = str(find_builder(task, data_dir).data_path)
        except (InvalidArgument, MissingFile):
            return {}
    info = os.path.join(folder, "dataset_info.json")
    if not os.path.isfile(info):
        return {}
    record = reading.read_record(info, argument="data_dir", rule="must hold a data set of TFDS")
    stored = {split["name"]: split for split in record.get("splits", ())}
    rows = {}
    for name in _names(task, splits):
        if name in stored:
            rows[name] = sum(map(int, stored[name].get("shardLengths", ())))
    return {"read": f"{task.tfds.partition(':')[0]}:{os.path.basename(folder)}", "rows": rows}


def _names(task: tasks.Task, splits: Iterable[str]) -> list[str]:
    """Return the stored names of the splits in slices such as "train[:50%]+dev"."""
    names = (part.partition("[")[0].strip() for split in splits for part in split.split("+"))
    return sorted({task.splits.get(name, name).partition("[")[0] for name in names})


def find_builder(task: tasks.Task, data_dir: str | os.PathLike[str] | None) -> Any:
    """Return the TFDS builder of a task, of the code or of the prepared files alone.

    Synthetic data sets are prepared at once.

    Raises:
        InvalidArgument: TFDS has no such configuration or version, or a synthetic data set cannot
            be written.
        MissingFile: TFDS does not know the data set and `data_dir` does not have it.
    """
    import tensorflow_datasets as tfds

    assert task.tfds is not None
    synthetic = task.tfds.startswith("synthetic/")
    if synthetic:
        import keras_spot.tasks.synthetic_data.builder  # noqa: F401  makes the builder known to TFDS
    root = _root(data_dir)
    try:
        builder = tfds.builder(task.tfds, data_dir=root)
    except (tfds.core.DatasetNotFoundError, FileNotFoundError):
        raise MissingFile(
            f"`task` {task.name} needs the data set {task.tfds}, which is not in {root}; "
            f"TFDS has no builder for it, so put its prepared directory into {root}"
        ) from None
    except (AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise invalid("task", "must name a data set of TFDS", f"{task.tfds} ({reason})") from error
    if synthetic and not builder.info.splits:
        _prepare_quietly(builder)
    return builder


def _root(data_dir: str | os.PathLike[str] | None) -> str:
    import tensorflow_datasets as tfds

    return os.path.expanduser(tfds.core.constants.DATA_DIR if data_dir is None else data_dir)


def _prepare_quietly(builder: Any) -> None:
    """Prepare a synthetic data set without TFDS' progress bars."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder.download_and_prepare()
    except OSError as error:
        rule = f"must be writable, to prepare {builder.info.full_name} in it"
        raise invalid("data_dir", rule, f"{builder.data_path} ({error})") from error


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
    """Return a reader that parses a block of records at once, None where TFDS must do it.

    `as_dataset` parses record by record, about twenty times slower. This reader is for features
    that are stored as the scalars they are; it gives the same rows.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    info, plain = builder.info, tfds.features
    if not info.splits or info.file_format != tfds.core.FileFormat.TFRECORD:
        return None
    features = {}
    for name, feature in info.features.items():
        stored = feature.get_serialized_info()
        if (
            type(feature) not in (plain.Text, plain.ClassLabel, plain.Scalar, plain.Tensor)
            or feature.shape != ()
            or stored != feature.get_tensor_info()
        ):
            return None
        dtype = stored.tf_dtype
        whole = dtype.is_integer or dtype.is_bool
        features[name] = tf.io.FixedLenFeature((), tf.int64 if whole else dtype)

    def read(split: str) -> Any:
        files = info.splits[split].file_instructions
        places = ([f.filename for f in files], [f.skip for f in files], [f.take for f in files])
        records = tf.data.Dataset.from_tensor_slices(
            tuple(
                tf.constant(column, dtype)
                for column, dtype in zip(places, (tf.string, tf.int64, tf.int64), strict=True)
            )
        ).flat_map(lambda name, skip, take: tf.data.TFRecordDataset(name).skip(skip).take(take))
        return records.batch(BLOCK).map(lambda block: tf.io.parse_example(block, features))

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


def _missing(task: tasks.Task, builder: Any, root: str) -> MissingFile:
    return MissingFile(
        f"`task` {task.name} needs the data set {task.tfds}, which is not in {builder.data_path}; "
        f"prepare it with: keras-spot tasks --prepare {task.name} --data-dir {root}"
    )


def _bad_split(split: str, error: Exception) -> InvalidArgument:
    reason = " ".join(str(error).split())
    return invalid("split", "must be a split or a TFDS slice", f"split={split!r} ({reason})")
