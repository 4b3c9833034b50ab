"""What is between a row and a model: the row's features, and the example made of them."""

import dataclasses
from typing import TYPE_CHECKING, Any

from keras_spot.base.errors import InvalidArgument, complaint
from keras_spot.tasks.values import Row, shown, shown_names

if TYPE_CHECKING:
    from keras_spot.tasks.task import Task

__all__ = ["UNLABELLED", "Example", "Features", "MissingValue"]

UNLABELLED = "<unk>"
"""Target of a row without a label (the test splits of GLUE and SuperGLUE)."""


class MissingValue(InvalidArgument):
    """A row lacks a feature that its input needs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One text in, one text out, with what scoring needs.

    Attributes:
        input: what the model reads.
        target: what the model should write; `"<unk>"` where the row has no label.
        index: the row's number in its split, from 0.
        answers: every accepted answer of a question, or the candidate referent of a WSC row.
        group: rows with the same group are scored together (a MultiRC question, a ReCoRD query).
        label: the label's number, None where the task has no labels or the row has none.
        idx: the row's own `idx` feature, which submission files need.
        weight: the row's share in the loss, of the task's `label_weights`.
    """

    input: str
    target: str
    index: int
    answers: tuple[str, ...] = ()
    group: str | None = None
    label: int | None = None
    idx: Any = None
    weight: float = 1.0


class Features(dict[str, Any]):
    """A row's features as plain Python values; one that is missing is a clear error."""

    def __init__(self, values: Row, row: Row, index: int, task: "Task", source: str | None) -> None:
        super().__init__(values)
        self.row, self.index, self.task, self.source = row, index, task, source

    @property
    def place(self) -> str:
        """Number of the row, name of the task and its file, for messages."""
        place = f"row {self.index} of {self.task.name}"
        return place if self.source is None else f"{place} in {self.source}"

    def __missing__(self, name: str) -> Any:
        if name not in self.row:
            known = shown_names(sorted(map(str, self.row)))
            rule = f"must have the feature {name!r}"
            raise _missing_value(rule, f"{self.place}, with {known}")
        if self.task.missing == "keep":
            return ""
        rule = f"must have a value for {name!r} (or the task `missing: skip`)"
        raise _missing_value(rule, f"{self.place}, where it is {shown(self.row[name])}")


def _missing_value(rule: str, received: str) -> MissingValue:
    return MissingValue(complaint("row", rule, received))
