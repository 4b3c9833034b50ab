"""Scores of a model on a task: decode or rank every example, then the task's metrics."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_spot import tasks
from keras_spot.base import remote
from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.ownership import Kind
from keras_spot.base.types import PathLike, Record
from keras_spot.data import load_examples
from keras_spot.data.labels import check_labels, is_label_task, longest_label
from keras_spot.data.survey import measure
from keras_spot.tasks import metrics
from keras_spot.training import submission
from keras_spot.training.run import METHODS

if TYPE_CHECKING:
    from keras_spot.model.prompted_t5 import PromptedT5

BEAMS = 4
_BLOCK = 1024  # examples sorted by length together


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What came out of one task.

    Attributes:
        task: the task's name.
        scores: metric -> value, x100; `score` is their mean, `invalid` counts the answers that
            are no label. With several validation splits, their means and every `split/metric`.
        predictions: one record an example: `split`, `index`, `idx`, `input`, `target`,
            `prediction`, and with `method="rank"` the log-likelihood of every label.
        examples: the number of examples scored.
    """

    task: str
    scores: dict[str, float]
    predictions: list[Record]

    @property
    def examples(self) -> int:
        return len(self.predictions)

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


def _are_predictions(file: Path) -> bool:
    with open(file, encoding="utf-8") as lines:
        first = json.loads(lines.readline())
    return isinstance(first, dict) and {"input", "prediction"} <= set(first) <= _FIELDS


PREDICTIONS = Kind("file of predictions", similar=_are_predictions)
_FIELDS = {"split", "index", "idx", "input", "target", "prediction", "scores"}


def write_predictions(records: Iterable[Record], path: PathLike, overwrite: bool = False) -> None:
    """Write records (see `Evaluation.predictions`) as JSON lines; see `Evaluation.write`."""
    with (
        remote.writing(path, PREDICTIONS, overwrite) as local,
        atomic_write(local, "w", PREDICTIONS, overwrite) as file,
    ):
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, default=_plain) + "\n")


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

    Raises:
        InvalidArgument: an unknown task, split or method, ranking without labels, or a split
            without labels or examples.
        MissingFile: data that are not prepared.
    """
    task = tasks.get(task)
    check_method(task, method)
    examples = {}
    for part in [split] if split else task.validation:
        check_labelled(task, part, data_dir)
        read = load_examples(task, part, data_dir=data_dir, limit=limit, labelled=True)
        examples[part] = list(read)
        warn_of_cut(model, task, part, examples[part])
    return score(model, task, examples, method=method, batch_size=batch_size, prompt=prompt)


def score(
    model: PromptedT5,
    task: tasks.Task,
    examples: Mapping[str, Sequence[tasks.Example]],
    *,
    method: str = "generate",
    batch_size: int = 32,
    prompt: str | int | None = None,
) -> Evaluation:
    """Score a model on the examples of a task's splits; the other arguments are `evaluate`'s."""
    parts: dict[str, dict[str, float]] = {}
    records: list[Record] = []
    for part, of_part in examples.items():
        answers, extra = answer(
            model, task, of_part, method=method, batch_size=batch_size, prompt=prompt
        )
        parts[part] = metrics.score(task, answers, of_part)
        for example, prediction, more in zip(of_part, answers, extra):
            records.append({"split": part, **_record(example, prediction), **more})
    scores = metrics.mean(list(parts.values()))
    if len(parts) > 1:
        scores |= {
            f"{part}/{name}": part_scores[name]
            for part, part_scores in parts.items()
            for name in part_scores
        }
    return Evaluation(task.name, scores, records)


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


def predict(
    model: PromptedT5,
    task: str | tasks.Task,
    split: str = "test",
    *,
    method: str = "generate",
    data_dir: PathLike | None = None,
    batch_size: int = 32,
    limit: int | None = None,
    prompt: str | int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a record (see `Evaluation.predictions`) for every example, labelled or not.

    Arguments and errors are those of `evaluate`, except that labels are not needed.
    """
    task = tasks.get(task)
    examples = load_examples(task, split, data_dir=data_dir, limit=limit)
    for number, block in enumerate(_blocks(examples, _BLOCK)):
        if not number:
            warn_of_cut(model, task, split, block)
        answers, extra = answer(
            model, task, block, method=method, batch_size=batch_size, prompt=prompt
        )
        for example, prediction, more in zip(block, answers, extra):
            yield {"split": split, **_record(example, prediction), **more}


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
        The file's path.
    """
    task = tasks.get(task)
    remote.may_write(submission.destination(task, folder, split), submission.KIND, overwrite)
    examples = list(load_examples(task, split, data_dir=data_dir))
    answers, _ = answer(model, task, examples, method=method, batch_size=batch_size, prompt=prompt)
    return submission.write(task, answers, examples, folder, split, overwrite=overwrite)


def answer(
    model: PromptedT5,
    task: tasks.Task,
    examples: Sequence[tasks.Example],
    *,
    method: str = "generate",
    batch_size: int = 32,
    prompt: Any = None,
) -> tuple[list[str], list[Record]]:
    """Return the answer to each example and, for `"rank"`, `{"scores": {label: log p}}`."""
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
            answers += model.generate(
                block, max_length=length, batch_size=batch_size, prompt=prompt, sampler=sampler
            )
        return answers, [{} for _ in answers]
    likelihoods = label_log_likelihoods(
        model, texts, task.labels, batch_size=batch_size, prompt=prompt
    )
    best = [task.labels[i] for i in likelihoods.argmax(axis=1)]
    scores = [dict(zip(task.labels, map(float, row))) for row in likelihoods]
    return best, [{"scores": row} for row in scores]


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


def _record(example: tasks.Example, prediction: str) -> Record:
    record = {"index": example.index, "input": example.input, "target": example.target}
    if example.idx is not None:
        record["idx"] = example.idx
    return {**record, "prediction": prediction}


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _blocks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while block := list(itertools.islice(iterator, size)):
        yield block
