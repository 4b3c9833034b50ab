"""What an evaluation gives: scores, answers, and how each class fares."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_spot.base import remote
from keras_spot.base.atomic import atomic_write
from keras_spot.base.json_text import to_json
from keras_spot.base.ownership import Kind
from keras_spot.base.types import PathLike, Record
from keras_spot.tasks.classes import ClassScores, by_class

__all__ = ["INVALID", "PREDICTIONS", "Evaluation", "Table", "write_predictions"]

_MATRIX = 12
"""Classes up to which the counts are shown as a matrix; of more, the most frequent mistakes."""
_MISTAKES = 12
_LONGEST = 24  # characters of a label in a table
INVALID = "no label"
_FIELDS = {"split", "index", "idx", "input", "target", "prediction", "scores", "probabilities"}


class Table(NamedTuple):
    """A caption, the columns' heads, and rows whose first cell is a text, the others numbers."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True, repr=False)
class Evaluation:
    """What came out of one task.

    Attributes:
        task: the task's name.
        scores: metric -> value, x100; `score` is their mean, `invalid` counts the answers that
            are no label. With several validation splits, their means and every `split/metric`.
        predictions: one record an example: `split`, `index`, `idx`, `input`, `target`,
            `prediction`, and with `method="rank"` the log-likelihood of every label (`scores`) and
            its share among the labels (`probabilities`).
        labels: the task's labels; () for free text.
        confusion: of a task with labels, how often each was answered with each, int64
            `[K, K + 1]`: rows are right, columns answered, the last one no label. All splits
            together. None for free text.
    """

    task: str
    scores: dict[str, float]
    predictions: list[Record]
    labels: tuple[str, ...] = ()
    confusion: np.ndarray | None = dataclasses.field(default=None, compare=False)

    @property
    def examples(self) -> int:
        """The number of examples scored."""
        return len(self.predictions)

    @property
    def classes(self) -> list[ClassScores]:
        """Precision, recall and F1 of each label, [] for free text."""
        return [] if self.confusion is None else by_class(self.confusion, self.labels)

    def write(self, path: PathLike, overwrite: bool = False) -> None:
        """Write the predictions as JSON lines.

        Args:
            path: may be an address. A file of such lines is replaced.
            overwrite: replace any file.

        Raises:
            InvalidArgument: another file is there.
            OSError: the file cannot be written.
        """
        write_predictions(self.predictions, path, overwrite)

    # === To look at ===

    def __repr__(self) -> str:
        scores = ", ".join(f"{name}={_score(name, value)}" for name, value in self.scores.items())
        return f"Evaluation({self.task!r}, {self.examples} examples: {scores})"

    def tables(self) -> list[Table]:
        """Return what there is to see as tables: scores, classes, and what is taken for what."""
        scores = [(name, _score(name, value)) for name, value in self.scores.items()]
        caption = f"{self.task}: {self.examples:,} examples"
        tables = [Table(caption, ("metric", "value"), scores)]
        if self.confusion is None:
            return tables
        classes = [
            (_short(c.label), *map(_number, (c.precision, c.recall, c.f1)), f"{c.examples:,}")
            for c in self.classes
        ]
        head = ("class", "precision", "recall", "f1", "examples")
        tables.append(Table("each class", head, classes))
        answers = [*self.labels, *[INVALID] * bool(self.confusion[:, -1].any())]
        if len(self.labels) <= _MATRIX:
            counts = [
                (_short(label), *(f"{count:,}" for count in row[: len(answers)]))
                for label, row in zip(self.labels, self.confusion)
            ]
            columns = ("right \\ answered", *map(_short, answers))
            tables.append(Table("what is answered with what", columns, counts))
        elif mistakes := self._mistakes(answers):
            tables.append(Table("most frequent mistakes", ("right → answered", "times"), mistakes))
        return tables

    def _mistakes(self, answers: Sequence[str]) -> list[tuple[str, str]]:
        assert self.confusion is not None
        wrong = self.confusion[:, : len(answers)].copy()
        np.fill_diagonal(wrong, 0)
        places = np.argsort(-wrong, axis=None, kind="stable")[:_MISTAKES]
        pairs = [np.unravel_index(place, wrong.shape) for place in places]
        return [
            (f"{_short(self.labels[right])} → {_short(answers[given])}", f"{wrong[right, given]:,}")
            for right, given in pairs
            if wrong[right, given]
        ]

    def report(self, classes: bool = True) -> str:
        """Return the tables as text; without `classes` the scores alone.

        >>> print(Evaluation("mine", {"accuracy": 50.0}, [{}, {}]).report())
        mine: 2 examples
        metric    value
        accuracy  50.00
        """
        tables = self.tables()
        return "\n\n".join(map(_text, tables if classes else tables[:1]))

    def _repr_html_(self) -> str:
        return "\n".join(map(_html, self.tables()))


def _number(value: float) -> str:
    return f"{value:.2f}"


def _score(name: str, value: float) -> str:
    """Return a score as text; `invalid` is a number of answers."""
    is_count = name.rpartition("/")[2] == "invalid"
    return f"{value:,.0f}" if is_count else _number(value)


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else label[: _LONGEST - 1] + "…"


def _text(table: Table) -> str:
    rows = [table.head, *table.rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.head))]
    lines = [table.caption]
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _html(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        first, *others = map(html.escape, cells)
        number = '<td style="text-align:right">' if tag == "td" else '<th style="text-align:right">'
        rest = "".join(f"{number}{cell}</{tag}>" for cell in others)
        return f'<tr><th style="text-align:left">{first}</th>{rest}</tr>'

    body = "".join(row(cells, "td") for cells in table.rows)
    return (
        f"<table><caption>{html.escape(table.caption)}</caption>"
        f"<thead>{row(table.head, 'th')}</thead><tbody>{body}</tbody></table>"
    )


# === Files of predictions ===


def _are_predictions(file: Path) -> bool:
    with open(file, encoding="utf-8") as lines:
        first = json.loads(lines.readline())
    return isinstance(first, dict) and {"input", "prediction"} <= set(first) <= _FIELDS


PREDICTIONS = Kind("file of predictions", similar=_are_predictions)


def write_predictions(records: Iterable[Record], path: PathLike, overwrite: bool = False) -> None:
    """Write records (see `Evaluation.predictions`) as JSON lines; see `Evaluation.write`."""
    with (
        remote.writing(path, PREDICTIONS, overwrite) as local,
        atomic_write(local, "w", PREDICTIONS, overwrite) as file,
    ):
        for record in records:
            file.write(to_json(record, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
