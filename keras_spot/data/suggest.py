"""A task record for a data file without one: what its columns may be, to be read and corrected."""

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_spot.data.own import open_own
from keras_spot.tasks import Task
from keras_spot.tasks.values import is_missing, plain

__all__ = ["LABEL_COLUMNS", "suggest_task"]

LABEL_COLUMNS = ("label", "labels", "target", "class", "category", "answer", "output", "y")
_NUMBERING = ("id", "idx", "index", "")
_LOOK = 1000  # rows
_MOST_LABELS = 20


def suggest_task(path: str | os.PathLike[str]) -> str:
    """Return the lines of YAML that make a task of a data file, as far as its columns say.

    Args:
        path: a .csv, .tsv, .json, .jsonl or .parquet file.

    Raises:
        InvalidArgument: another type, or a file that cannot be read.
        MissingFile: no such file.
    """
    path = Path(path)
    name = path.name.partition(".")[0]
    task = Task(name, input="{text}", files={"train": str(path)})
    rows = [plain(row) for row in itertools.islice(open_own(task, "train")(), _LOOK)]
    columns = list(dict.fromkeys(column for row in rows for column in row)) or ["text", "label"]
    label = next((c for c in columns if c.lower() in LABEL_COLUMNS), columns[-1])
    texts = [c for c in columns if c != label and c.lower() not in _NUMBERING] or columns[:1]
    shown = " ".join(f"{{{c}}}" if len(texts) == 1 else f"{c}: {{{c}}}" for c in texts)
    values = dict.fromkeys(_text(row[label]) for row in rows if not is_missing(row.get(label)))
    lines: dict[str, Any] = {"name": name, "input": f"{name} {shown}"}
    if 0 < len(values) <= min(_MOST_LABELS, max(2, len(rows) // 2)):
        lines |= {"labels": sorted(values), "metrics": ["accuracy"]}
        if label != "label":
            lines["label_feature"] = label
    else:
        lines |= {"target": f"{{{label}}}", "metrics": ["exact_match"]}
    lines["files"] = {"train": path.name}
    return "\n".join(f"{field}: {_yaml(value)}" for field, value in lines.items())


def _text(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value).strip()


def _yaml(value: Any) -> str:
    """Return a text, a list or a mapping in one line, as JSON writes it: that is YAML, too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
