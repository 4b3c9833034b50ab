"""What a task is: a format string over the features of a row, and everything scoring needs."""

import codecs
import dataclasses
import functools
import math
import os
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from keras_spot.base.errors import invalid, unknown
from keras_spot.tasks.features import UNLABELLED, Example, Features, MissingValue
from keras_spot.tasks.file_types import file_type
from keras_spot.tasks.rows import PREPROCESS
from keras_spot.tasks.values import (
    Row,
    is_missing,
    label_number,
    plain,
    shown,
    shown_names,
    unicode_reason,
)

__all__ = ["METRICS", "Preprocess", "Task"]

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

_SPLITS = {"train": "train", "validation": "validation", "test": "test"}
_SHORT = 8  # target tokens of a task of the catalogue that gives no limit

Preprocess = Callable[[Row], Sequence[Row]]


@dataclasses.dataclass(frozen=True)
class Task:
    """A literal record: where the rows come from, how they read as text, how they are scored.

    Rows come from one of `tfds`, `files` and `rows`.

    Attributes:
        name: the task's name, "glue/sst2".
        tfds: TFDS name with its version, "glue/sst2:2.0.0".
        input: format string over the row's features, "sst2 sentence: {sentence}".
        target: format string; `{label}` is the label's name where the task has `labels`.
        labels: label names in the order of their numbers; () for free text.
        metrics: names out of `METRICS`; their mean is the task's score.
        splits: canonical split name to the data's. A name that is not in it is used as given, so
            slices ("train[:1000]", "train[90%:]") work everywhere. Default: train, validation
            and test of TFDS, the names of `files` or `rows`.
        validation: the splits whose mean score is the task's validation score.
        preprocess: None, a name out of `keras_spot.tasks.rows.PREPROCESS`, or a function from
            a row to the rows that replace it. Features it does not give keep the row's value;
            its features `answers` and `group` go into the example.
        files: split to a .csv, .tsv, .json, .jsonl (each also with .gz) or .parquet file.
        rows: split to rows in memory: a list of mappings, a mapping of columns, a pandas
            DataFrame, a Hugging Face or PyArrow table, or a function that gives an iterator of
            mappings. Not part of what makes two tasks equal.
        encoding: the encoding of text files. A byte order mark is no part of the text.
        label_feature: the feature that holds the label. A value whose text is a label's name is
            that label, whatever the reader (`keras_spot.tasks.values.label_number`).
        label_indices: whole numbers are places in `labels` and -1 is no label. Default: for
            TFDS, where a number that is another label's name is refused; never for `files` and
            `rows`.
        label_weights: label to the weight of its rows in the loss, for classes of unequal size;
            default 1 for each.
        missing: what becomes of a row whose input or target lacks a value (null, NaN or blank):
            "refuse" stops with its number; "skip" counts it and leaves it out; "keep" reads it
            as an empty text of the input. Default: "refuse", but the blank texts that published
            TFDS data have are kept.
        train_label: train only on rows with this label; None trains on all.
        sentinel: the number of the sentinel token that stands before the input's tokens, where
            the prompt-tuning codebase marks the task by an index instead of its name.
        max_input_length: input tokens, longer inputs are cut.
        max_target_length: target tokens, end of sequence included. Default: 8 for TFDS, else what
            the longest target of the data needs (`keras_spot.data.target_limit`).

    Raises:
        InvalidArgument: two sources of rows, an unknown metric or preprocess, a metric that
            does not fit the labels ("f1" is for two, "pearson" and "spearman" for none), a format
            string with more than plain feature names in it, label names that repeat or are blank,
            weights of other labels, or a length below 1.
    """

    name: str
    tfds: str | None = None
    input: str = ""
    target: str = "{label}"
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    validation: tuple[str, ...] = ("validation",)
    preprocess: str | Preprocess | None = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    label_feature: str = "label"
    train_label: int | None = None
    sentinel: int | None = None
    max_input_length: int = 512
    max_target_length: int | None = None
    rows: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    encoding: str = "utf-8"
    label_indices: bool | None = None
    label_weights: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    missing: Literal["refuse", "skip", "keep"] | None = None

    def __post_init__(self) -> None:
        for field in ("labels", "metrics", "validation"):
            if isinstance(getattr(self, field), str):
                received = f"{field}={getattr(self, field)!r}"
                raise invalid(field, "must be a list of names, not a text", received)
            object.__setattr__(self, field, tuple(getattr(self, field)))
        for field in ("files", "rows"):
            if not isinstance(getattr(self, field), Mapping):
                received = f"{field}={shown(getattr(self, field))}"
                raise invalid(field, 'must map each split to its data, {"train": …}', received)
        files = {split: os.fspath(path) for split, path in self.files.items()}
        object.__setattr__(self, "files", files)
        if (self.tfds is not None) + bool(files) + bool(self.rows) > 1:
            given = [field for field in ("tfds", "files", "rows") if getattr(self, field)]
            raise invalid("task", "must have one source of rows", f"{given} of {self.name!r}")
        for path in files.values():
            file_type(path)
        if not self.splits:
            own = {split: split for split in (*files, *self.rows)} or _SPLITS
            object.__setattr__(self, "splits", dict(own))
        if self.max_target_length is None and self.tfds is not None:
            object.__setattr__(self, "max_target_length", _SHORT)
        _fields("input", self.input)
        _fields("target", self.target)
        self._check_metrics()
        self._check_labels()
        if isinstance(self.preprocess, str) and self.preprocess not in PREPROCESS:
            raise unknown("preprocess", self.preprocess, PREPROCESS)
        if self.missing not in (None, "refuse", "skip", "keep"):
            raise unknown("missing", self.missing, ("refuse", "skip", "keep"))
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            rule = "must be an encoding that Python knows"
            raise invalid("encoding", rule, f"encoding={self.encoding!r}") from None
        for field in ("max_input_length", "max_target_length"):
            length = getattr(self, field)
            if length is not None and length < 1:
                raise invalid(field, "must be at least 1", f"{field}={length!r}")

    def _check_metrics(self) -> None:
        for metric in self.metrics:
            if metric not in METRICS:
                raise unknown("metrics", metric, METRICS)
            if (
                (metric in _OF_LABELS and not self.labels)
                or (metric in _OF_TWO_LABELS and len(self.labels) != 2)
                or (metric in _OF_NUMBERS and self.labels)
            ):
                received = f"{metric!r} with labels={shown_names(self.labels)}"
                raise invalid("metrics", "must fit the labels", received)

    def _check_labels(self) -> None:
        for label in self.labels:
            if not isinstance(label, str) or label != label.strip() or label in ("", UNLABELLED):
                rule = f"must be texts without white space around them, not blank or {UNLABELLED!r}"
                raise invalid("labels", rule, f"{label!r} in labels={shown_names(self.labels)}")
        if len(set(self.labels)) < len(self.labels):
            received = f"labels={shown_names(self.labels)}"
            raise invalid("labels", "must be different names", received)
        weights = self.label_weights
        for label, weight in weights.items():
            if label not in self.labels:
                raise unknown("label_weights", label, self.labels)
            good = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            if not good or not 0 <= weight < math.inf:
                rule = "must be numbers of at least 0"
                raise invalid("label_weights", rule, f"{label!r}: {weight!r}")
        if self.labels and not any(weights.get(label, 1) for label in self.labels):
            raise invalid("label_weights", "must not all be 0", f"label_weights={dict(weights)!r}")

    def examples(
        self, row: Row, index: int, training: bool = False, source: str | None = None
    ) -> list[Example]:
        """Return the examples of one row: mostly one, several for ReCoRD, none for some of WSC.

        Args:
            row: feature to value: str, bytes in UTF-8, numbers, lists, dicts or NumPy values.
            index: the row's number in its split, which an error names.
            training: leave out what `train_label` leaves out, and refuse (or leave out, see
                `missing`) a row without a label.
            source: where the row comes from, for messages: a file's path.

        Raises:
            MissingValue: a feature of the input is missing, where `missing` does not allow it.
            InvalidArgument: a text is not UTF-8, a label is no label of the task, or a row to train
                on has no label. The message names the row.

        >>> task = Task("reviews", input="review: {text}", labels=("bad", "good"))
        >>> task.examples({"text": "a gem", "label": "good"}, 0)[0].target
        'good'
        """
        try:
            examples = self._made(row, index, source)
        except MissingValue:
            if self.missing != "skip":
                raise
            return []
        if not training:
            return examples
        labelled = [example for example in examples if example.target != UNLABELLED]
        if len(labelled) < len(examples) and self.missing != "skip":
            where = Features({}, row, index, self, source).place
            raise invalid("row", "must have a label or an answer to train on", where)
        if self.train_label is None:
            return labelled
        return [example for example in labelled if example.label == self.train_label]

    def _made(self, row: Row, index: int, source: str | None) -> list[Example]:
        if self.preprocess is None:
            return [self._example(self._read(row, self._needed, index, source), {})]
        name = self.preprocess
        make = PREPROCESS[name] if isinstance(name, str) else name
        whole = self._read(row, row, index, source)
        return [
            self._example(Features({**whole, **made}, row, index, self, source), made)
            for made in make(whole)
        ]

    @functools.cached_property
    def _asked(self) -> frozenset[str]:
        return frozenset(_fields("input", self.input))

    @functools.cached_property
    def _written(self) -> frozenset[str]:
        return frozenset(_fields("target", self.target))

    @functools.cached_property
    def _needed(self) -> tuple[str, ...]:
        read = _fields("input", self.input)
        return tuple(dict.fromkeys((*read, *self._written, self.label_feature, "idx")))

    def _read(self, row: Row, names: Iterable[str], index: int, source: str | None) -> "Features":
        """Return the named features that have a value; published blank texts are one."""
        features = Features({}, row, index, self, source)
        blank_is_text = self.missing is None and self.tfds is not None
        for name in names:
            try:
                value = plain(row[name]) if name in row else None
            except UnicodeError as error:
                received = f"{name!r} in {features.place}: {unicode_reason(error)}"
                raise invalid("row", "must be text in UTF-8", received) from None
            if not is_missing(value) or (blank_is_text and isinstance(value, str)):
                features[name] = value
        return features

    def _example(self, features: "Features", made: Row) -> Example:
        label, weight = None, 1.0
        if self.labels:
            label = self._label(features)
            features["label"] = UNLABELLED if label is None else self.labels[label]
            weight = float(self.label_weights.get(features["label"], 1.0))
        unlabelled = label is None if self.labels else not self._written <= features.keys()
        for name in self._asked if unlabelled else self._asked | self._written:
            if isinstance(features.get(name), (list, dict)):
                received = f"{shown(features[name])} in {features.place}"
                raise invalid(name, "must be a text or a number", received)
        return Example(
            self.input.format_map(features),
            UNLABELLED if unlabelled else self.target.format_map(features),
            features.index,
            tuple(made.get("answers", ())),
            made.get("group"),
            label,
            features.get("idx"),
            weight,
        )

    def _label(self, features: "Features") -> int | None:
        """Return the label's number; None where the row has none."""
        value = features.get(self.label_feature)
        indices = self.label_indices
        if indices is None and self.tfds is None:
            indices = False
        try:
            return label_number(value, self.labels, indices)
        except ValueError as error:
            received = f"{shown(value)} in {features.place}"
            raise invalid(self.label_feature, str(error), received) from None


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
