"""What lengths cut off: counts of a split's long texts and left-out rows, and one warning."""

import dataclasses
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from keras_spot import tasks
from keras_spot.base.errors import invalid
from keras_spot.data.batches import counter
from keras_spot.data.labels import DataWarning, is_label_task, longest_label
from keras_spot.data.own import Rows, absent_column, check_source
from keras_spot.data.sources import BLOCK, open_rows
from keras_spot.tasks import UNLABELLED, Example, Task

__all__ = [
    "LONGEST",
    "LOOK",
    "Survey",
    "look",
    "measure",
    "set_target_length",
    "survey",
    "target_limit",
]

LOOK = 8192
"""Rows that a loader looks at, the first of a split, before it warns."""

LONGEST = 512
"""Target tokens at most of a task that gives no limit."""


@dataclasses.dataclass(frozen=True)
class Survey:
    """How a split's texts fit the lengths.

    Attributes:
        task, split: whose.
        input_length, target_length: tokens at most, end of sequence included.
        rows: how many rows were looked at, all of them where `whole`.
        left_out: rows without an input or a label, of a task with `missing="skip"`.
        inputs, targets: how many there are; a row without a label has no target.
        inputs_cut, targets_cut: how many of them are longer than the lengths.
        longest_input, longest_target: tokens of the longest.
        whole: whether all rows were looked at.
    """

    task: str
    split: str
    input_length: int
    target_length: int
    rows: int = 0
    left_out: int = 0
    inputs: int = 0
    targets: int = 0
    inputs_cut: int = 0
    targets_cut: int = 0
    longest_input: int = 0
    longest_target: int = 0
    whole: bool = True

    @property
    def warning(self) -> str | None:
        """One line on what is cut or left out, None where nothing is."""
        parts = []
        for kind, length in (("input", self.input_length), ("target", self.target_length)):
            cut, number = getattr(self, f"{kind}s_cut"), getattr(self, f"{kind}s")
            if cut:
                share = f"{cut:,} of {number:,} {kind}s ({100 * cut / number:.1f}%)"
                longest = getattr(self, f"longest_{kind}")
                parts.append(f"{share} are longer than {length} tokens and cut (up to {longest:,})")
        if self.left_out:
            share = (
                f"{self.left_out:,} of {self.rows:,} rows ({100 * self.left_out / self.rows:.1f}%)"
            )
            parts.append(f"{share} lack an input or a label and are left out")
        if not parts:
            return None
        some = "" if self.whole else f" (first {self.rows:,} rows)"
        return f"{self.task} {self.split}{some}: " + "; ".join(parts)

    def warn(self) -> None:
        """Warn of what is cut or left out, in one line."""
        if self.warning:
            warnings.warn(self.warning, DataWarning, stacklevel=2)


def survey(
    task: str | Task,
    split: str,
    tokenizer: Any,
    input_length: int | None = None,
    target_length: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Survey:
    """Look at every row of a split.

    Args:
        task: a task's name or record.
        split: a split's name or a slice of it.
        tokenizer: a KerasHub `T5Tokenizer`.
        input_length: input tokens at most; default the task's.
        target_length: target tokens at most; default `target_limit`.
        data_dir: the TFDS directory; default TFDS' own.

    Raises:
        InvalidArgument: an unknown task or split, or a row that the task cannot read.
        MissingFile: the data are not prepared.
    """
    task = tasks.get(task)
    rows = open_rows(task, split, data_dir)
    lengths = (
        input_length or task.max_input_length,
        target_length or target_limit(task, tokenizer, data_dir),
    )
    return look(task, split, rows, tokenizer, *lengths, most=None)


def look(
    task: Task,
    split: str,
    rows: Rows,
    tokenizer: Any,
    input_length: int,
    target_length: int,
    most: int | None = LOOK,
    whole: bool = True,
) -> Survey:
    """Return the survey of the first `most` rows (None for all)."""
    numbered = enumerate(rows())
    taken = itertools.islice(numbered, most)
    seen = left_out = 0

    def examples() -> Iterator[Example]:
        nonlocal seen, left_out
        for index, row in taken:
            made = task.examples(row, index, source=rows.source)
            labelled = [example for example in made if example.target != UNLABELLED]
            seen += 1
            left_out += task.missing == "skip" and not labelled
            yield from labelled if task.missing == "skip" else made

    measured = measure(task, split, examples(), tokenizer, input_length, target_length)
    whole = whole and next(numbered, None) is None
    return dataclasses.replace(measured, rows=seen, left_out=left_out, whole=whole)


def measure(
    task: Task,
    split: str,
    examples: Iterable[Example],
    tokenizer: Any,
    input_length: int,
    target_length: int,
) -> Survey:
    """Return the survey of examples, each counted as a row."""
    count = counter(tokenizer)
    room = input_length - (task.sentinel is not None)
    number = {"inputs": 0, "targets": 0}
    cut, longest = dict(number), dict(number)
    iterator = iter(examples)
    while block := list(itertools.islice(iterator, BLOCK)):
        texts = {"inputs": [example.input for example in block]}
        # Label names that do not fit are refused, and so are not counted here.
        targets = () if is_label_task(task) else block
        texts["targets"] = [e.target for e in targets if e.target != UNLABELLED]
        for kind, limit in (("inputs", room), ("targets", target_length)):
            lengths = count(texts[kind])
            number[kind] += len(lengths)
            cut[kind] += int((lengths > limit).sum())
            longest[kind] = max(longest[kind], int(lengths.max(initial=0)))
    return Survey(
        task.name,
        split,
        input_length,
        target_length,
        rows=number["inputs"],
        inputs=number["inputs"],
        targets=number["targets"],
        inputs_cut=cut["inputs"],
        targets_cut=cut["targets"],
        longest_input=longest["inputs"],
        longest_target=longest["targets"],
    )


def target_limit(
    task: str | Task, tokenizer: Any, data_dir: str | os.PathLike[str] | None = None
) -> int:
    """Return the target tokens of a task, end of sequence included.

    The task's `max_target_length`; where it has none, what its longest label needs, or the longest
    target of its training and validation splits, at most 512.

    Raises:
        InvalidArgument: a task without labels, without a limit and without a split to look at.
    """
    task = tasks.get(task)
    if task.max_target_length is not None:
        return task.max_target_length
    if is_label_task(task):
        return longest_label(task, tokenizer)
    check_source(task)
    longest, why = 0, ""
    for split in dict.fromkeys(("train", *task.validation)):
        stored = task.splits.get(split, split).partition("[")[0]
        if stored in task.files or stored in task.rows:
            rows = open_rows(task, split, data_dir)
            seen = look(task, split, rows, tokenizer, LONGEST, LONGEST, most=None)
            longest = max(longest, seen.longest_target)
            why = why or absent_column(task, rows)
    if not longest:
        rule = "must be given for a task of free text without training or validation data"
        raise invalid("max_target_length", rule, f"None of {task.name}" + (why and f", {why}"))
    return min(longest, LONGEST)


def set_target_length(
    model: Any, members: Iterable[Task], data_dir: str | os.PathLike[str] | None = None
) -> int:
    """Let a model write as many tokens as the longest `target_limit` of some tasks; return it."""
    preprocessor = model.preprocessor
    limits = [target_limit(task, preprocessor.tokenizer, data_dir) for task in members]
    preprocessor.decoder_sequence_length = max(limits)
    return max(limits)
