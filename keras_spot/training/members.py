"""The prompts of a run: one, or K of a bank."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keras_spot import tasks
from keras_spot.base.errors import invalid
from keras_spot.prompts import names as prompt_names

__all__ = ["Member", "check_rates", "check_teachers", "members_of"]


@dataclasses.dataclass(frozen=True)
class Member:
    """One prompt of a run.

    Attributes:
        name: what tells it from the others; its task's name where it is the only one.
        task: what it is trained on.
        seed: of its sampled initial prompt, its dropout and the order of its examples.
        learning_rate: its constant rate.
        prompt_init: what it starts from, see `build`.
        teacher: the trained prompt that it also learns from, see `PromptedT5.distill`; or None.
    """

    name: str
    task: tasks.Task | tasks.Mixture
    seed: int
    learning_rate: float
    prompt_init: Any
    teacher: Any = None

    @property
    def tasks(self) -> tuple[tasks.Task, ...]:
        """Its task, or those of its mixture."""
        if isinstance(self.task, tasks.Mixture):
            return tuple(tasks.get(name) for name in self.task.tasks)
        return (self.task,)

    @property
    def labels(self) -> list[str] | None:
        """The labels of its tasks, None without any."""
        return list(dict.fromkeys(label for t in self.tasks for label in t.labels)) or None


def members_of(
    given: Mapping[str, Any], names: Sequence[str] | None, is_bank: bool
) -> tuple[Member, ...]:
    """Return the prompts of a run.

    Args:
        given: `task`, `seed`, `learning_rate`, `prompt_init` and `teacher`, each one for all or a
            list of K.
        names: of a bank, K names. Default: what tells the prompts apart.
        is_bank: whether it is a bank, perhaps of one.

    Raises:
        InvalidArgument: lists of several lengths, an unknown task, a mixture in a bank, or names
            that do not tell the prompts apart.
    """
    lists = {name: list(v) for name, v in given.items() if isinstance(v, (list, tuple))}
    count = max((len(values) for values in lists.values()), default=1)
    for name, values in lists.items():
        if not values:
            raise invalid(name, "must be at least one", f"{name}={values!r}")
        if len(values) != count:
            rule = f"must be one for all prompts, or a list of {count}"
            raise invalid(name, rule, f"{len(values)}")
    columns = [lists.get(name, [value] * count) for name, value in given.items()]
    rows = [(_task(task, is_bank), *rest) for task, *rest in zip(*columns)]
    if not is_bank:
        return (Member(rows[0][0].name, *rows[0]),)
    checked = prompt_names.check(names or _telling_names(rows), count)
    assert checked is not None
    return tuple(Member(name, *row) for name, row in zip(checked, rows))


def check_rates(members: Sequence[Member], share: bool) -> None:
    """Raise InvalidArgument for several rates where the prompts `share` a part of their numbers."""
    rates = [member.learning_rate for member in members]
    if share and len(set(rates)) > 1:
        raise invalid("learning_rate", "must be one for all prompts that share a part", f"{rates}")


def check_teachers(members: Sequence[Member], weight: float | None) -> None:
    """Raise InvalidArgument unless all prompts have a teacher, or none has one and its weight."""
    taught = [member.teacher is not None for member in members]
    if any(taught) and not all(taught):
        names = [member.name for member in members if member.teacher is None]
        raise invalid("teacher", "must be one for each prompt, or none", f"none for {names[0]}")
    if weight is not None and not any(taught):
        rule = "must be given with a teacher"
        raise invalid("distillation_weight", rule, f"distillation_weight={weight}")


def _task(task: Any, is_bank: bool) -> tasks.Task | tasks.Mixture:
    if not isinstance(task, tasks.Mixture):
        return tasks.get(task)
    if is_bank:
        raise invalid("task", "must not be a mixture in a bank of prompts", f"{task.name!r}")
    for name in task.tasks:
        tasks.get(name)
    return task


def _telling_names(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return names that say in what a bank's prompts differ."""
    parts = [(task.name, f"seed{seed}", f"rate{rate:g}") for task, seed, rate, *_ in rows]
    telling = [column for column in zip(*parts) if len(set(column)) > 1] or [next(zip(*parts))]
    names = ["-".join(parts) for parts in zip(*telling)]
    if len(set(names)) == len(names):
        return names
    return [f"{name}-{number}" for number, name in enumerate(names)]
