"""The types of data files that a task may name."""

import os

from keras_spot.base.errors import invalid

__all__ = ["FILE_TYPES", "file_type", "is_data_file"]

FILE_TYPES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
"""Types of data files; all but Parquet may end in `.gz`, too, and case does not count."""


def file_type(path: str) -> str:
    """Return a data file's type out of `FILE_TYPES`; case and `.gz` do not count.

    Raises:
        InvalidArgument: another type.

    >>> file_type("rows.CSV"), file_type("rows.jsonl.gz")
    ('.csv', '.jsonl')
    """
    name = os.path.basename(path).lower()
    kind = os.path.splitext(name.removesuffix(".gz"))[1]
    if kind not in FILE_TYPES or (kind == ".parquet" and name.endswith(".gz")):
        raise invalid("files", f"must be of a type out of {list(FILE_TYPES)}", path)
    return kind


def is_data_file(name: str) -> bool:
    """Say whether a name is that of a data file, and neither a task's nor a record's.

    >>> is_data_file("my_train.csv"), is_data_file("glue/sst2"), is_data_file("task.json")
    (True, False, False)
    """
    kinds = tuple(kind for kind in FILE_TYPES if kind != ".json")
    return name.lower().removesuffix(".gz").endswith(kinds)
