"""A run as the plain data that `run.json` holds, and back."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from keras_spot import backbones, tasks
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.recipe import Recipe
from keras_spot.training.contents import files_record, task_record

if TYPE_CHECKING:
    from keras_spot.training.members import Member
    from keras_spot.training.run import Run

__all__ = ["fields_of", "record_of"]

_TOLD_OTHERWISE = (
    *("task", "names", "seed", "learning_rate", "prompt_init", "teacher"),  # of each prompt
    *("backbone", "tokenizer"),  # by name or place
    *("data_dir", "devices"),  # where a run is made does not make it another one
)
"""Fields of `Run` that its record does not have as they are."""
_WHERE_GIVEN = ("prompt_attention", "quantize", "distillation_weight")
"""Fields that are left out where they are None: the model says what that comes to."""


def record_of(run: Run) -> dict[str, Any]:
    """Return a run as plain data; the inverse of `fields_of`.

    Tasks are written out, and the contents of their files are told by a hash, so that a run
    of the same name on other data is another run.
    """
    shared: dict[str, Any] = {
        "recipe": dataclasses.asdict(run.full_recipe),
        "steps": run.total_steps,
        "dtype": run.dtype and str(run.dtype),
        "reparameterization": _described_reparameterization(run.reparameterization),
        "tasks": {task.name: task_record(task) for task in run.tasks},
        "files": {
            task.name: files_record(task, [run.split, *run.scored(task)], run.data_dir)
            for task in run.tasks
        },
    }
    for field in dataclasses.fields(run):
        if field.name not in (*shared, *_TOLD_OTHERWISE, *_WHERE_GIVEN):
            shared[field.name] = getattr(run, field.name)
    for name in _WHERE_GIVEN:
        if getattr(run, name) is not None:
            shared[name] = getattr(run, name)
    shared |= {"backbone_name": _place(run.backbone), "tokenizer": _place(run.tokenizer)}
    default = run.full_recipe.prompt_init
    if run.is_bank:
        prompts = {member.name: _member_record(member, default) for member in run.members}
        return {**shared, "bank": list(prompts), "prompts": prompts}
    (member,) = run.members
    record = {**shared, **_member_record(member, default)}
    del record["learning_rate"]  # the recipe says it
    return record


def _member_record(member: Member, default: str) -> dict[str, Any]:
    record = {
        "task": member.task.name,
        "seed": member.seed,
        "learning_rate": member.learning_rate,
        "prompt_init": _described_start(member.prompt_init, default),
    }
    if isinstance(member.task, tasks.Mixture):
        record["mixture"] = dataclasses.asdict(member.task)
    if member.teacher is not None:
        record["teacher"] = _described_start(member.teacher, default)
    return record


def _described_start(prompt_init: Any, default: str) -> Any:
    """Return what the record says of an initial prompt: its name or path, else its numbers."""
    if prompt_init is None:
        return default
    if isinstance(prompt_init, (str, os.PathLike)):
        return str(prompt_init)
    from keras_spot.prompts import initializers

    return initializers.describe(prompt_init)


def _described_reparameterization(reparameterization: Any) -> dict[str, Any] | None:
    if reparameterization is None:
        return None
    from keras_spot.model import reparameterizations

    return reparameterizations.describe(reparameterization)


def _place(value: Any) -> str | None:
    """Return a name, an address, or a whole path, by which something is found again."""
    if not isinstance(value, (str, os.PathLike)):
        return None
    named = str(value) in backbones.EMBEDDED or not os.path.exists(value)
    return str(value) if named else os.path.abspath(value)


def fields_of(record: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return the fields of the run that a record describes.

    Args:
        record: what `record_of` returned, perhaps with more in it.
        known: the names of all fields.

    Raises:
        InvalidArgument: a run that a record cannot tell whole: of a backbone, an initial prompt
            or a task's `preprocess` that were objects.
    """
    given: dict[str, Any] = {key: value for key, value in record.items() if key in known}
    given.pop("names", None)
    if record.get("backbone_name") is None:
        raise invalid("record", "must name its backbone", "backbone_name=None")
    given |= {
        "backbone": record["backbone_name"],
        "recipe": Recipe(**record["recipe"]),
        "devices": "auto",
    }
    rows = record.get("prompts", {None: record})
    own = [_member_fields(row, record) for row in rows.values()]
    if "prompts" not in record:
        return {**given, **own[0]}
    columns = {key: [row[key] for row in own] for key in own[0]}
    return {**given, **columns, "names": list(rows)}


def _member_fields(row: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `Run` for one prompt of a record."""
    start, name, teacher = row["prompt_init"], row["task"], row.get("teacher")
    if not isinstance(start, str) or start.startswith("array "):
        raise invalid("record", "must name its initial prompt", f"prompt_init={start!r}")
    if teacher is not None and (not isinstance(teacher, str) or teacher.startswith("array ")):
        raise invalid("record", "must name its teacher", f"teacher={teacher!r}")
    if "mixture" in row:
        task: tasks.Task | tasks.Mixture = tasks.Mixture(**row["mixture"])
    elif name not in record["tasks"]:
        raise unknown("task", name, record["tasks"])
    else:
        facts = {k: v for k, v in record["files"][name].items() if k != "tfds"}
        if any("path" not in of_split for of_split in facts.values()):
            raise invalid("record", "must be of data that are not in memory", f"task={name!r}")
        files = {split: of_split["path"] for split, of_split in facts.items()}
        task = tasks.Task(**record["tasks"][name], files=files)
    rate = row.get("learning_rate", record["recipe"]["learning_rate"])
    own = {"task": task, "seed": row["seed"], "learning_rate": rate, "prompt_init": start}
    return own if teacher is None else {**own, "teacher": teacher}
