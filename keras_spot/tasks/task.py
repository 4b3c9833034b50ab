"""What a task is: a format string over the features of a row, and everything scoring needs."""

import dataclasses
import functools
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from keras_spot.base.errors import invalid, unknown
from keras_spot.tasks.rows import PREPROCESS

METRICS = (
    "accuracy",
    "f1",
    "macro_f1",
    "matthews",
    "pearson",
    "spearman",
    "group_exact_match",
    "referent_accuracy",
    "squad_em",
    "squad_f1",
    "exact_match",
    "rouge1",
    "rouge2",
    "rougeLsum",
)
"""Names a task may give in `metrics`; `keras_spot.metrics` has the function of each."""

_OF_LABELS = {"accuracy", "f1", "macro_f1", "matthews", "group_exact_match", "referent_accuracy"}
_OF_TWO_LABELS = {"f1", "referent_accuracy"}
_OF_NUMBERS = {"pearson", "spearman"}

UNLABELLED = "<unk>"
"""Target of a row without a label (the test splits of GLUE and SuperGLUE)."""

_WHOLE = re.compile("-?[0-9]{1,9}")
_ATOMS = (str, int, float, type(None))
_SPLITS = {"train": "train", "validation": "validation", "test": "test"}

Row = Mapping[str, Any]
Preprocess = Callable[[Row], Sequence[Row]]


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
    """

    input: str
    target: str
    index: int
    answers: tuple[str, ...] = ()
    group: str | None = None
    label: int | None = None
    idx: Any = None


@dataclasses.dataclass(frozen=True)
class Task:
    """A literal record: where the rows come from, how they read as text, how they are scored.

    Attributes:
        name: what the task is called, "glue/sst2".
        tfds: TFDS name with its version, "glue/sst2:2.0.0"; None for a task read from `files`.
        input: format string over the row's features, "sst2 sentence: {sentence}".
        target: format string; `{label}` is the label's name where the task has `labels`.
        labels: label names in the order of their numbers; () for free text.
        metrics: names out of `METRICS`; their mean is the task's score.
        splits: canonical split name to TFDS split. A name that is not in it is used as given, so
            TFDS slices ("train[:1000]") work everywhere.
        validation: the splits whose mean score is the task's validation score.
        preprocess: None, a name out of `keras_spot.tasks.rows.PREPROCESS`, or a function from
            a row to the rows that replace it. Features it does not give keep the row's value;
            its features `answers` and `group` go into the example.
        files: split to a .csv, .tsv, .json or .jsonl file, for tasks that TFDS does not have.
        label_feature: the feature that holds the label: its number, its name, or -1 for none.
        train_label: train only on rows with this label; None trains on all.
        sentinel: the number of the sentinel token that stands before the input's tokens, where
            the prompt-tuning codebase marks the task by an index instead of its name.
        max_input_length: input tokens, longer inputs are cut.
        max_target_length: target tokens, end of sequence included.

    Raises:
        ValueError: an unknown metric or preprocess, a metric that does not fit the labels ("f1"
            is for two, "pearson" and "spearman" for none), a format string with more than plain
            feature names in it, label names that repeat, or a length below 1.
    """

    name: str
    tfds: str | None
    input: str
    target: str = "{label}"
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    splits: Mapping[str, str] = dataclasses.field(default_factory=_SPLITS.copy, hash=False)
    validation: tuple[str, ...] = ("validation",)
    preprocess: str | Preprocess | None = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    label_feature: str = "label"
    train_label: int | None = None
    sentinel: int | None = None
    max_input_length: int = 512
    max_target_length: int = 8

    def __post_init__(self) -> None:
        for field in ("labels", "metrics", "validation"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        _fields("input", self.input)
        _fields("target", self.target)
        for metric in self.metrics:
            if metric not in METRICS:
                raise unknown("metrics", metric, METRICS)
            if (
                (metric in _OF_LABELS and not self.labels)
                or (metric in _OF_TWO_LABELS and len(self.labels) != 2)
                or (metric in _OF_NUMBERS and self.labels)
            ):
                rule = "must fit the labels"
                raise invalid("metrics", rule, f"{metric!r} with labels={self.labels!r}")
        if isinstance(self.preprocess, str) and self.preprocess not in PREPROCESS:
            raise unknown("preprocess", self.preprocess, PREPROCESS)
        if len(set(self.labels)) < len(self.labels):
            raise invalid("labels", "must be different names", f"labels={self.labels!r}")
        for field in ("max_input_length", "max_target_length"):
            if getattr(self, field) < 1:
                raise invalid(field, "must be at least 1", f"{field}={getattr(self, field)!r}")

    def examples(self, row: Row, index: int, training: bool = False) -> list[Example]:
        """Return the examples of one row: mostly one, several for ReCoRD, none for some of WSC.

        Args:
            row: feature to value: str, bytes in UTF-8, numbers, lists, dicts or NumPy values.
            index: the row's number in its split, which an error names.
            training: leave out what `train_label` leaves out, and refuse a row without a label.

        Raises:
            ValueError: a feature of the input is missing or None, a text is not UTF-8, a label is
                out of range, or a row to train on has no label. The message names the row.

        >>> task = Task("reviews", None, "review: {text}", labels=("bad", "good"))
        >>> task.examples({"text": "a gem", "label": 1}, 0)[0].target
        'good'
        """
        if self.preprocess is None:
            examples = [self._example(self._read(row, self._needed, index), {})]
        else:
            name = self.preprocess
            make = PREPROCESS[name] if isinstance(name, str) else name
            whole = self._read(row, row, index)
            examples = [
                self._example(Features({**whole, **made}, row, index, self.name), made)
                for made in make(whole)
            ]
        if not training:
            return examples
        for example in examples:
            if example.target == UNLABELLED:
                where = f"row {index} of {self.name}"
                raise invalid("row", "must have a label or an answer to train on", where)
        if self.train_label is None:
            return examples
        return [example for example in examples if example.label == self.train_label]

    @functools.cached_property
    def _written(self) -> frozenset[str]:
        return frozenset(_fields("target", self.target))

    @functools.cached_property
    def _needed(self) -> tuple[str, ...]:
        read = _fields("input", self.input)
        return tuple(dict.fromkeys((*read, *self._written, self.label_feature, "idx")))

    def _read(self, row: Row, names: Iterable[str], index: int) -> "Features":
        features = Features({}, row, index, self.name)
        for name in names:
            try:
                value = _plain(row[name]) if name in row else None
                if value is not None:
                    features[name] = value
            except UnicodeDecodeError as error:
                received = f"{name!r} in {features.place}: {error}"
                raise invalid("row", "must be text in UTF-8", received) from None
        return features

    def _example(self, features: "Features", made: Row) -> Example:
        label = None
        if self.labels:
            label = self._label(features)
            features["label"] = UNLABELLED if label is None else self.labels[label]
        unlabelled = label is None if self.labels else not self._written <= features.keys()
        return Example(
            self.input.format_map(features),
            UNLABELLED if unlabelled else self.target.format_map(features),
            features.index,
            tuple(made.get("answers", ())),
            made.get("group"),
            label,
            features.get("idx"),
        )

    def _label(self, features: "Features") -> int | None:
        """Return the label's number; None for -1, an empty cell or no such feature."""
        value = features.get(self.label_feature)
        if isinstance(value, str):
            value = value.strip()
            if value in self.labels:
                return self.labels.index(value)
            value = int(value) if _WHOLE.fullmatch(value) else value
        if value is None or value == "" or value == -1:
            return None
        if isinstance(value, int | float) and value in range(len(self.labels)):
            return int(value)
        rule = f"must be one of {list(self.labels)} or a number from -1 to {len(self.labels) - 1}"
        received = f"{features[self.label_feature]!r} in {features.place}"
        raise invalid(self.label_feature, rule, received)


class Features(dict[str, Any]):
    """A row's features as plain Python values; one that is missing is a clear error."""

    def __init__(self, values: Row, row: Row, index: int, task: str) -> None:
        super().__init__(values)
        self.row, self.index, self.task = row, index, task

    @property
    def place(self) -> str:
        """Number of the row and name of the task, for messages."""
        return f"row {self.index} of {self.task}"

    def __missing__(self, name: str) -> Any:
        rule = f"must have the feature {name!r}"
        raise invalid("row", rule, f"{self.place}, with {sorted(self.row)}")


def _plain(value: Any) -> Any:
    """Return bytes as text and NumPy values as Python ones, through lists and dicts."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, _ATOMS):
        return value
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return [_plain(item) for item in value]


def _fields(argument: str, template: str) -> tuple[str, ...]:
    """Return the features a format string names; anything but `{feature}` is refused."""
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise invalid(argument, "must be a format string", f"{template!r} ({error})") from None
    names = tuple(str(part[1]) for part in parts)
    if (
        not names
        or any(part[1] == "" or part[2] or part[3] for part in parts)
        or any(mark in name for name in names for mark in ".[")
    ):
        rule = "must name features as {feature}, at least one"
        raise invalid(argument, rule, f"{argument}={template!r}")
    return names
