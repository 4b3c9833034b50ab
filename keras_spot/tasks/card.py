"""What travels with a trained prompt: how fields read as text, and which answers there are.

A `task.json` beside an exported model holds one such card for each of its prompts.
"""

import dataclasses
import json
import os
import string
from collections.abc import Mapping
from typing import Any

from keras_spot.base import reading
from keras_spot.base.errors import damaged, invalid
from keras_spot.tasks import catalog
from keras_spot.tasks.rows import CLEANING
from keras_spot.tasks.task import Task
from keras_spot.tasks.values import shown

__all__ = ["TASK_FILE", "TEXT", "TaskCard", "card_of", "read_cards", "write_cards"]

TASK_FILE = "task.json"
TEXT = "text"  # the field of a prompt of which no task is known, and of a text that is ready
_LIMIT = 64 << 20  # bytes of a `task.json`


@dataclasses.dataclass(frozen=True)
class TaskCard:
    """How a prompt is asked.

    Attributes:
        name: the task's name, or the prompt's where no task is known.
        input: format string over the fields, "sst2 sentence: {sentence}".
        labels: the answers there are, () where they are free texts.
        max_target_length: tokens of an answer at most; None where nothing is known.
        preprocess: a name out of `keras_spot.tasks.rows.CLEANING`, what is done to the fields'
            texts first, or None.

    >>> card = TaskCard("glue/sst2", "sst2 sentence: {sentence}", ("negative", "positive"))
    >>> card.text({"sentence": "a gem"})
    'sst2 sentence: a gem'
    >>> card.text("sst2 sentence: a gem")
    'sst2 sentence: a gem'
    >>> card.text({"sentense": "a gem"})
    Traceback (most recent call last):
    InvalidArgument: `fields` must be sentence. Received: ['sentense']
    """

    name: str
    input: str = "{text}"
    labels: tuple[str, ...] = ()
    max_target_length: int | None = None
    preprocess: str | None = None

    @classmethod
    def of(cls, task: Task) -> "TaskCard":
        """Return the card of a task.

        Its labels are the answers only where the target is a label and nothing more. Of the
        functions that make other rows of a row only those are kept that clean its texts.
        """
        labels = task.labels if task.target == "{label}" else ()
        cleaning = task.preprocess if task.preprocess in CLEANING else None
        return cls(task.name, task.input, tuple(labels), task.max_target_length, cleaning)

    @classmethod
    def from_record(cls, record: Mapping[str, Any], name: str | None = None) -> "TaskCard":
        """Return the card of a record: one of `record`, of a run's `run.json`, or of a task file.

        Raises:
            InvalidArgument: a field of the wrong type, or a format string that is none.
        """
        rule = "must be the record of a task"
        if not isinstance(record, Mapping):
            raise invalid("task", rule, shown(record))
        labels: Any = record.get("labels") or ()
        length, cleaning = record.get("max_target_length"), record.get("preprocess")
        good = {
            "name": isinstance(record.get("name", name), str),
            "input": isinstance(record.get("input"), str),
            "labels": isinstance(labels, (list, tuple)) and all(type(n) is str for n in labels),
            "max_target_length": length is None or (type(length) is int and length > 0),
        }
        for field, fits in good.items():
            if not fits:
                raise invalid("task", rule, f"{field}={shown(record.get(field))}")
        target = record.get("target", "{label}")
        # `Task` refuses format strings with more than the names of features in them.
        known = Task(
            name=record.get("name", name),
            input=record["input"],
            target=target if isinstance(target, str) else "{label}",
            labels=tuple(labels),
            max_target_length=length,
            preprocess=cleaning if isinstance(cleaning, str) and cleaning in CLEANING else None,
        )
        return cls.of(known)

    def record(self) -> dict[str, Any]:
        """Return the card as plain data; the inverse of `from_record`."""
        return {**dataclasses.asdict(self), "labels": list(self.labels), "fields": self.fields}

    @property
    def fields(self) -> list[str]:
        """The names of the fields, in the order in which the input names them."""
        parts = string.Formatter().parse(self.input)
        return list(dict.fromkeys(part[1] for part in parts if part[1] is not None))

    def text(self, given: str | Mapping[str, Any]) -> str:
        """Return what the model reads: of fields by the format string, a text as it is.

        A mapping with the key `"text"` alone is a text, too, unless that is a field of the task.

        Raises:
            InvalidArgument: fields that are missing or unknown, a value that is no text and no
                number, or half a character in a text.
        """
        fields = self.fields
        if isinstance(given, Mapping):
            if set(given) != set(fields) and set(given) != {TEXT}:
                names = [shown(name) for name in given]
                raise invalid("fields", f"must be {', '.join(fields)}", names)
            values = {name: _text(name, value) for name, value in given.items()}
            if set(given) != set(fields):
                return values[TEXT]
            if self.preprocess is not None:
                values |= CLEANING[self.preprocess](values)
            return self.input.format_map(values)
        return _text(TEXT, given)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise invalid(name, "must be a text or a number", shown(value))
    text = str(value)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise invalid(name, "must be whole characters", shown(ascii(text))) from None
    return text


def card_of(provenance: Mapping[str, Any], name: str) -> TaskCard:
    """Return the card of a prompt, by what its file or its run recorded.

    That is the record of its task, else the task of that name, else one that takes ready texts.

    Args:
        provenance: of a prompt, see `keras_spot.prompts.read`.
        name: what the prompt is called.
    """
    record, task = provenance.get("task_record"), provenance.get("task")
    if record is not None:
        return TaskCard.from_record(record, name)
    if isinstance(task, str) and task in catalog.names():
        return TaskCard.of(catalog.get(task))
    return TaskCard(task if isinstance(task, str) else name)


def write_cards(path: str | os.PathLike, cards: Mapping[str, TaskCard], **facts: Any) -> None:
    """Write a `task.json`: the card of each prompt by the prompt's name, and facts of the model.

    Args:
        path: the file, in a folder that is being written.
        cards: prompt to card, in the order of the prompts' numbers.
        facts: JSON-able, such as `backbone`, `prompt_length` and `max_input_length`.
    """
    prompts = {name: card.record() for name, card in cards.items()}
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**facts, "prompts": prompts}, file, indent=1, ensure_ascii=False)
        file.write("\n")


def read_cards(path: str | os.PathLike) -> tuple[dict[str, TaskCard], dict[str, Any]]:
    """Return the cards of a `task.json` by the prompts' names, and the facts of the model.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFile: it is none.
    """
    rule = "must be a task.json"
    record = reading.read_record(path, rule=rule, limit=_LIMIT)
    prompts = record.pop("prompts", None)
    if not isinstance(prompts, dict) or not prompts:
        raise damaged(path, rule, f"prompts={shown(prompts)}")
    with reading.parsing(path, rule):
        return {name: TaskCard.from_record(card, name) for name, card in prompts.items()}, record
