"""Tasks by name, and the two variants of every task whose form begins with its own name."""

import dataclasses
import functools

from keras_spot.base.errors import invalid, unknown
from keras_spot.tasks import glue, sentences, sources, super_glue, synthetic
from keras_spot.tasks.benchmarks import TASK_INDEX
from keras_spot.tasks.task import Task
from keras_spot.tasks.values import shown

__all__ = ["get", "names"]


def get(name: "str | Task") -> Task:
    """Return a task by its name; a `Task` comes back as it is.

    `"taskless:NAME"` is the task without the leading word that names it, and
    `"task_index:NAME"` has instead of that word a sentinel token with the task's number in front
    (`Task.sentinel`; GLUE and SuperGLUE only). Both are forms of the prompt-tuning codebase.

    Raises:
        InvalidArgument: no task of that name, with the closest ones; or no such variant of it.

    >>> get("glue/sst2").input, get("taskless:glue/sst2").input
    ('sst2 sentence: {sentence}', 'sentence: {sentence}')
    >>> get("task_index:super_glue/wic").sentinel
    6
    """
    if isinstance(name, Task):
        return name
    if not isinstance(name, str):
        raise invalid("task", "must be a task's name or a Task", f"task={shown(name)}")
    variant, colon, base = name.rpartition(":")
    if base not in _by_name() or (colon and variant not in ("taskless", "task_index")):
        raise unknown("task", name, names())
    task = _by_name()[base]
    if not colon:
        return task
    first, _, rest = task.input.partition(" ")
    if "{" in first:
        raise invalid("task", "must have a name in front to remove", f"task={name!r}")
    if variant == "taskless":
        return dataclasses.replace(task, name=name, input=rest)
    if base not in TASK_INDEX:
        raise unknown("task", name, [f"task_index:{known}" for known in TASK_INDEX])
    return dataclasses.replace(task, name=name, input=rest, sentinel=TASK_INDEX[base])


def names() -> list[str]:
    """Return the names of all tasks, benchmark by benchmark.

    >>> names()[:3]
    ['glue/cola', 'glue/sst2', 'glue/mrpc']
    """
    return list(_by_name())


@functools.cache
def _by_name() -> dict[str, Task]:
    tables = (
        *glue.TASKS,
        *super_glue.TASKS,
        *sources.NLI,
        *sources.MRQA,
        *sources.SUMMARISATION,
        *sources.LANGUAGE_MODELS,
        *sentences.TASKS,
        *synthetic.TASKS,
    )
    return {task.name: task for task in tables}
