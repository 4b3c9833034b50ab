"""The sources and targets of a study: tasks with what to train on and how to score them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_spot import tasks
from keras_spot.base.choices import METHODS
from keras_spot.base.errors import invalid, unknown

__all__ = ["StudyTask", "entries", "name_in"]


@dataclasses.dataclass(frozen=True)
class StudyTask:
    """A source or a target.

    Attributes:
        task: a task's name, the path of a `.yaml` or `.json` record, or a `tasks.Task`.
        split: what to train on, a split or TFDS slice. Default `"train"`.
        validation: what to score, a split or slice. Default: the task's validation splits.
        method: how to answer. Default: the study's.
        sources: of a target, the names of those of the study's sources that it is started from.
            Default: all.
    """

    task: Any
    split: str = "train"
    validation: str | None = None
    method: str | None = None
    sources: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.task, (str, os.PathLike)):
            object.__setattr__(self, "task", _find(self.task))
        if self.method is not None and self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        if self.sources is not None:
            if isinstance(self.sources, str) or not isinstance(self.sources, Sequence):
                rule = "must be a list of names of sources"
                raise invalid("sources", rule, f"sources={self.sources!r} of {self.name}")
            object.__setattr__(self, "sources", tuple(self.sources))

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.task.name)

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits whose mean score counts."""
        return (self.validation,) if self.validation else tuple(self.task.validation)

    def record(self) -> dict[str, Any]:
        """The entry as plain data; a task that is not of the catalogue is written out."""
        known = self.name in tasks.names() and tasks.get(self.name) == self.task
        if not known and callable(self.task.preprocess):
            rule = "must name its preprocess, as other processes read it from the study's folder"
            raise invalid("task", rule, self.name)
        task = self.name if known else dataclasses.asdict(self.task)
        own = {} if self.sources is None else {"sources": list(self.sources)}
        return {
            "task": task,
            "split": self.split,
            "validation": self.validation,
            "method": self.method,
            **own,
        }


def _find(task: str | os.PathLike) -> tasks.Task:
    if Path(task).suffix in (".yaml", ".yml", ".json"):
        return tasks.load(task)
    return tasks.get(str(task))


def entries(field: str, values: Any) -> tuple[StudyTask, ...]:
    """Return the sources or targets of a description.

    Raises:
        InvalidArgument: no list, nothing in it, a task twice, or an unknown field.
    """
    if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence) or not values:
        raise invalid(field, "must be a list of at least one task", f"{field}={values!r}")
    read = tuple(_entry(field, value) for value in values)
    seen: set[str] = set()
    for entry in read:
        if entry.name.replace("/", ".") in seen:
            raise invalid(field, "must name every task once", f"{entry.name} twice")
        seen.add(entry.name.replace("/", "."))
    return read


def _entry(field: str, value: Any) -> StudyTask:
    if isinstance(value, StudyTask):
        return value
    if not isinstance(value, Mapping):
        return StudyTask(value)
    known = [f.name for f in dataclasses.fields(StudyTask)]
    for name in value:
        if name not in known:
            raise unknown(field, name, known)
    if "task" not in value:
        raise invalid(field, "must give each task's name as `task`", f"{dict(value)}")
    task = value["task"]
    if isinstance(task, Mapping):
        task = tasks.Task(**task)
    return StudyTask(**{**value, "task": task})


def name_in(entry: Mapping[str, Any]) -> str:
    """Return the name of the task in an entry's record."""
    task = entry["task"]
    return str(task if isinstance(task, str) else task["name"])
