"""Scores of a model on a task: decode or rank every example, then the task's metrics."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_spot import tasks
from keras_spot.base import remote
from keras_spot.base.choices import METHODS
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.progress import Report, counting
from keras_spot.base.types import PathLike, Record
from keras_spot.data import load_examples
from keras_spot.data.labels import check_labels, is_label_task, longest_label
from keras_spot.data.survey import measure
from keras_spot.tasks import metrics
from keras_spot.tasks.classes import confusion
from keras_spot.training import submission
from keras_spot.training.evaluation import Evaluation

if TYPE_CHECKING:
    from keras_spot.model.prompted_t5 import PromptedT5

__all__ = [
    "BEAMS",
    "Answered",
    "answer",
    "check_labelled",
    "check_method",
    "evaluate",
    "label_log_likelihoods",
    "record_of",
    "score",
    "submit",
    "warn_of_cut",
]

BEAMS = 4
_BLOCK = 1024  # examples sorted by length together

Answered = Callable[[int], object]
"""Told how many more examples are answered."""


def evaluate(
    model: PromptedT5,
    task: str | tasks.Task,
    split: str | None = None,
    *,
    method: str = "generate",
    data_dir: PathLike | None = None,
    batch_size: int = 32,
    limit: int | None = None,
    prompt: str | int | None = None,
    progress: Literal["auto"] | Report | None = "auto",
) -> Evaluation:
    """Score a model on a task.

    Args:
        model: a `PromptedT5` with a preprocessor.
        task: name or `tasks.Task`.
        split: a split or TFDS slice such as `"validation[:500]"`. Default: the task's
            validation splits, their scores averaged.
        method: `"generate"` decodes freely with the model's sampler (greedy by default) and
            `"beam"` with 4 beams; an answer that is no label is wrong.
            `"rank"` takes the label of the highest likelihood (label tasks only), with the
            encoder run once for all labels.
        data_dir: where prepared TFDS data lie. Default: TFDS' own folder.
        batch_size: examples at once. Default 32.
        limit: only the first examples of each split.
        prompt: of a bank of prompts, which one, by name or number.
        progress: `"auto"` shows a bar in a terminal or notebook, elsewhere a line on stderr every
            ten seconds; or a function, called with the number of examples answered, their total
            and an empty mapping; None is silent.

    Returns:
        An `Evaluation`: `scores`, `predictions`, and of a task with labels `classes` and
        `confusion`; `print(evaluation.report())` shows them.

    Raises:
        InvalidArgument: an unknown task, split or method, ranking without labels, or a split
            without labels or examples.
        MissingFile: data that are not prepared.
    """
    task = tasks.get(task)
    if not hasattr(model, "preprocessor"):
        raise invalid("model", "must be a PromptedT5", f"{type(model).__name__}")
    check_method(task, method)
    examples = {}
    for part in [split] if split else task.validation:
        check_labelled(task, part, data_dir)
        read = load_examples(task, part, data_dir=data_dir, limit=limit, labelled=True)
        examples[part] = list(read)
        warn_of_cut(model, task, part, examples[part])
    total = sum(map(len, examples.values()))
    with counting(progress, f"evaluating {task.name}", total) as answered:
        return score(
            model,
            task,
            examples,
            method=method,
            batch_size=batch_size,
            prompt=prompt,
            answered=answered,
        )


def score(
    model: PromptedT5,
    task: tasks.Task,
    examples: Mapping[str, Sequence[tasks.Example]],
    *,
    method: str = "generate",
    batch_size: int = 32,
    prompt: str | int | None = None,
    answered: Answered | None = None,
) -> Evaluation:
    """Score a model on the examples of a task's splits.

    `answered` is told of every batch; the other arguments are `evaluate`'s.
    """
    parts: dict[str, dict[str, float]] = {}
    records: list[Record] = []
    counts = np.zeros((len(task.labels), len(task.labels) + 1), np.int64)
    for part, of_part in examples.items():
        answers, extra = answer(
            model,
            task,
            of_part,
            method=method,
            batch_size=batch_size,
            prompt=prompt,
            answered=answered,
        )
        parts[part] = metrics.score(task, answers, of_part)
        if task.labels:
            right = [metrics.INVALID if e.label is None else e.label for e in of_part]
            given = metrics.predicted_labels(task, answers, of_part)
            counts += confusion(right, given, len(task.labels))
        for example, prediction, more in zip(of_part, answers, extra):
            records.append({"split": part, **record_of(example, prediction), **more})
    scores = metrics.mean(list(parts.values()))
    if len(parts) > 1:
        scores |= {
            f"{part}/{name}": part_scores[name]
            for part, part_scores in parts.items()
            for name in part_scores
        }
    return Evaluation(task.name, scores, records, task.labels, counts if task.labels else None)


def check_method(task: tasks.Task, method: str) -> None:
    """Raise InvalidArgument for an unknown method, or for ranking where the target is no label."""
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if method == "rank" and task.target != "{label}":
        raise invalid("method", "must be 'generate' where the target is no label", task.name)


def check_labelled(task: tasks.Task, split: str, data_dir: PathLike | None = None) -> None:
    """Raise InvalidArgument if a split cannot be scored: no such split, no examples, no labels."""
    options = {"limit": 1} if task.missing != "skip" else {"labelled": True}
    first = next(load_examples(task, split, data_dir=data_dir, **options), None)
    if first is None or first.target == tasks.UNLABELLED:
        rule = "must have labelled examples to score"
        raise invalid("split", rule, f"split={split!r} of {task.name}")


def warn_of_cut(
    model: Any, task: tasks.Task, split: str, examples: Sequence[tasks.Example]
) -> None:
    """Warn once of the inputs that are longer than the model reads (`keras_spot.data.Survey`)."""
    if model.preprocessor is None or not examples:
        return
    unlabelled = [dataclasses.replace(e, target=tasks.UNLABELLED) for e in examples]
    length = model.preprocessor.encoder_sequence_length
    tokenizer = model.preprocessor.tokenizer
    measure(task, split, unlabelled, tokenizer, length, length).warn()


def submit(
    model: PromptedT5,
    task: str | tasks.Task,
    folder: str | os.PathLike,
    split: str = "test",
    *,
    method: str = "generate",
    data_dir: PathLike | None = None,
    batch_size: int = 32,
    prompt: str | int | None = None,
    overwrite: bool = False,
) -> Path:
    """Answer a GLUE or SuperGLUE test split and write its submission file.

    Args:
        folder: where the file goes, see `submission.write`. The others are those of `evaluate`.
        split: the test split, `"test_mismatched"` for MNLI's second file.
        overwrite: replace any file of that name, not only an earlier submission.

    Returns:
        The file's path. Of several processes that answer together the first alone writes it.
    """
    from keras_spot.base import hosts

    task = tasks.get(task)
    file = submission.destination(task, folder, split)
    remote.may_write(file, submission.KIND, overwrite)
    examples = list(load_examples(task, split, data_dir=data_dir))
    answers, _ = answer(model, task, examples, method=method, batch_size=batch_size, prompt=prompt)
    if not hosts.is_chief():
        return file
    return submission.write(task, answers, examples, folder, split, overwrite=overwrite)


def answer(
    model: PromptedT5,
    task: tasks.Task,
    examples: Sequence[tasks.Example],
    *,
    method: str = "generate",
    batch_size: int = 32,
    prompt: Any = None,
    answered: Answered | None = None,
) -> tuple[list[str], list[Record]]:
    """Return the answer to each example and, for `"rank"`, what it gives each label.

    That is `{"scores": {label: log p}, "probabilities": {label: p}}`, the latter among the labels.
    """
    check_method(task, method)
    if model.preprocessor is None:
        raise invalid("model", "must have a preprocessor to read texts", "preprocessor=None")
    check_labels(task, model.preprocessor.tokenizer, method)
    texts = [example.input for example in examples]
    if method != "rank":
        answers: list[str] = []
        sampler = _beam_sampler() if method == "beam" else None
        length = task.max_target_length
        if length is None and is_label_task(task):
            length = longest_label(task, model.preprocessor.tokenizer)
        for block in _blocks(texts, _BLOCK):
            answers += model.generator.generate(
                block, length, "auto", False, batch_size, prompt, sampler, answered
            )
        return answers, [{} for _ in answers]
    likelihoods = model.ranker.log_likelihoods(texts, task.labels, batch_size, prompt, answered)
    best = [task.labels[i] for i in likelihoods.argmax(axis=1)]
    shares = np.exp(likelihoods - likelihoods.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return best, [
        {
            "scores": dict(zip(task.labels, map(float, row))),
            "probabilities": dict(zip(task.labels, map(float, share))),
        }
        for row, share in zip(likelihoods, shares)
    ]


def _beam_sampler() -> Any:
    from keras_hub.samplers import BeamSampler

    return BeamSampler(num_beams=BEAMS)


def label_log_likelihoods(
    model: PromptedT5,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    batch_size: int = 32,
    prompt: Any = None,
) -> np.ndarray:
    """Return the log-likelihood of every label after every text, float32 `[texts, labels]`.

    The sum over a label's tokens, end of sequence included, as T5's rank classification has it.
    The encoder runs once a text; only the short decoder runs once a label. Of a bank, `prompt` is
    one for all texts, or a list with one for each.
    """
    return model.ranker.log_likelihoods(texts, labels, batch_size, prompt)


def record_of(example: tasks.Example, prediction: str) -> Record:
    """Return an example and its answer as a record, see `Evaluation.predictions`."""
    record = {"index": example.index, "input": example.input, "target": example.target}
    if example.idx is not None:
        record["idx"] = example.idx
    return {**record, "prediction": prediction}


def _blocks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while block := list(itertools.islice(iterator, size)):
        yield block
