"""GLUE and SuperGLUE submission files from the predictions of the test splits.

File names, columns and label texts are those the benchmarks' servers take: gluebenchmark.com/faq,
super.gluebenchmark.com/faq and the benchmarks' own toolkit (nyu-mll/jiant 1.3, evaluate.py).
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_spot.base import remote
from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import invalid
from keras_spot.base.ownership import Kind
from keras_spot.tasks import Example, Task, get, metrics
from keras_spot.tasks.benchmarks import FILES

# Everything else is submitted by the label's name.
__all__ = ["write"]

_BY_NUMBER = ("cola", "sst2", "mrpc", "qqp", "wnli", "copa", "multirc")
_LOWER = ("boolq", "wic")


def _is_submission(file: Path) -> bool:
    with open(file, encoding="utf-8") as lines:
        first = lines.readline()
    if first == _HEAD:
        return True
    record = json.loads(first)
    return isinstance(record, dict) and set(record) in ({"idx", "label"}, {"idx", "passage"})


KIND = Kind("submission file", similar=_is_submission)
_HEAD = "index\tprediction\n"


def destination(task: str | Task, folder: str | os.PathLike[str], split: str = "test") -> Path:
    """Return the path of a task's submission file in a folder.

    Raises:
        InvalidArgument: a task outside the benchmarks.
    """
    task = get(task)
    name = _benchmark(task, split)
    if name not in FILES:
        rule = (
            "must be of GLUE or SuperGLUE, whose submissions have a format; predict writes answers"
        )
        raise invalid("task", rule, task.name)
    return Path(folder) / FILES[name]


def write(
    task: str | Task,
    predictions: Sequence[str],
    examples: Sequence[Example],
    folder: str | os.PathLike[str],
    split: str = "test",
    *,
    overwrite: bool = False,
) -> Path:
    """Write one submission file and return its path.

    Rows are in the order of their `idx`. The servers take no invalid prediction: one that names
    no label is written as the task's first label, an STS-B prediction that is no number as 0.

    Args:
        task: a task of GLUE or SuperGLUE, or its name; a variant's file is its task's.
        predictions: the decoded text of each example.
        examples: the examples of a test split, which need their `idx`.
        folder: where the file goes; an earlier submission of the name is replaced.
        split: tells MNLI's files apart, "test_matched" or "test_mismatched".
        overwrite: replace any file of that name.

    Raises:
        InvalidArgument: a task outside the benchmarks, another number of predictions than of
            examples, an example without an `idx` or with that of another one, or another file
            there.
        OSError: the file cannot be written.
    """
    task = get(task)
    path, name = destination(task, folder, split), _benchmark(task, split)
    if not examples or len(predictions) != len(examples):
        rule = f"must be one for each of the {len(examples)} examples, at least one"
        raise invalid("predictions", rule, f"{len(predictions)} predictions")
    rows = _rows(task, name.partition("/")[2], predictions, examples)
    with (
        remote.writing(path, KIND, overwrite) as local,
        atomic_write(local, "w", KIND, overwrite) as file,
    ):
        if path.suffix == ".tsv":
            file.write(_HEAD)
            file.writelines(f"{idx}\t{value}\n" for idx, value in rows)
        elif name == "super_glue/multirc":
            file.writelines(json.dumps(passage) + "\n" for passage in _passages(rows))
        else:
            file.writelines(json.dumps({"idx": idx, "label": v}) + "\n" for idx, v in rows)
    return path


def _benchmark(task: Task, split: str) -> str:
    """Return what a task's submission goes by: its name, of MNLI one for each test split."""
    name = task.name.rpartition(":")[2]
    if name == "glue/mnli":
        name = "glue/mnli_mismatched" if split.startswith("test_mismatched") else name + "_matched"
    return name


def _rows(
    task: Task, config: str, predictions: Sequence[str], examples: Sequence[Example]
) -> list[tuple[Any, Any]]:
    """Return (idx, what is submitted) in the order of idx."""
    rows: dict[Any, Any] = {}
    groups: set[str | None] = set()
    for example, value in zip(examples, _values(task, config, predictions, examples), strict=True):
        idx = example.idx
        if config == "record":
            if example.group in groups:
                continue  # one answer for each query, the first
            groups.add(example.group)
            idx = idx and idx["query"]
        elif config == "multirc":
            idx = idx and (idx["paragraph"], idx["question"], idx["answer"])
        if idx is None or idx in rows:
            where = f"idx={idx!r} in row {example.index} of {task.name}"
            raise invalid("examples", "must each have an `idx` of its own", where)
        rows[idx] = value
    return sorted(rows.items())


def _values(
    task: Task, config: str, predictions: Sequence[str], examples: Sequence[Example]
) -> Iterator[Any]:
    if config == "record":
        return (prediction.strip() for prediction in predictions)
    if config == "stsb":
        return (f"{min(max(metrics.number(text), 0.0), 5.0):.3f}" for text in predictions)
    labels = (max(label, 0) for label in metrics.predicted_labels(task, predictions, examples))
    if config in _BY_NUMBER:
        return labels
    names = (task.labels[label] for label in labels)
    return (name.lower() for name in names) if config in _LOWER else names


def _passages(rows: Sequence[tuple[tuple[int, int, int], int]]) -> Iterator[dict[str, Any]]:
    """Yield MultiRC's nesting: passages of questions of answers."""
    passages: dict[int, dict[int, list[dict[str, int]]]] = {}
    for (paragraph, question, answer), label in rows:
        answers = passages.setdefault(paragraph, {}).setdefault(question, [])
        answers.append({"idx": answer, "label": label})
    for paragraph, questions in passages.items():
        nested = [{"idx": idx, "answers": answers} for idx, answers in questions.items()]
        yield {"idx": paragraph, "passage": {"questions": nested}}
