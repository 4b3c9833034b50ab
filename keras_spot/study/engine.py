"""The worker: take a cell that can be run, run it, write its row, until none is left."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_spot import prompts
from keras_spot.base.claims import identity
from keras_spot.base.versions import versions
from keras_spot.prompts import Prompt
from keras_spot.study.cells import Cell
from keras_spot.study.description import Study
from keras_spot.study.methods import best_rate
from keras_spot.study.table import StudyFolder
from keras_spot.transfer.library import PromptLibrary

__all__ = ["POLL", "Outcome", "Trainer", "work"]

POLL = 1.0  # seconds between looks at a folder where others do all that can be done


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a trainer gives back of a cell.

    Attributes:
        curve: (step, score) of every scored checkpoint, ascending.
        scores: the metrics at the step that counts.
        step: that step.
        prompt: the prompt `[P, H]` at that step.
        embedding: the prompt after the study's embedding steps.
        loss: mean loss of the run.
        examples: training examples there were.
        backbone: fingerprint of the frozen backbone.
        majority: score of always giving the commonest training answer; None without labels.
        weights: of the prompts of a mixture, at the last step; None of others.
    """

    curve: list[tuple[int, float]]
    scores: Mapping[str, float]
    step: int
    prompt: np.ndarray
    embedding: np.ndarray
    loss: float
    examples: int
    backbone: str
    majority: float | None = None
    weights: list[float] | None = None


class Trainer(Protocol):
    """What runs a cell: `trainer.CellTrainer`, or something quicker in a test."""

    def __call__(self, cell: Cell, start: np.ndarray | None, partial: Path) -> Outcome:
        """Run a cell, its state kept in a folder `partial`.

        Args:
            start: a prompt `[P, H]`, or `[k, P, H]` of which a mixture is learned, or from which
                the prompt that the sources share learns; None: the recipe's.
        """


def work(
    folder: StudyFolder,
    study: Study,
    make_trainer: Callable[[Study], Trainer],
    *,
    poll: float = POLL,
    report: Callable[[Cell], None] | None = None,
) -> None:
    """Run cells until every cell of the study is finished or has failed, here or elsewhere.

    Any number of processes and hosts may do so in one folder at the same time; which of them
    runs a cell, and when, changes nothing in its result.

    Args:
        folder: the study's folder.
        study: the study.
        make_trainer: called once, when there is something to do.
        poll: seconds between looks at what others have finished.
        report: called after every cell that was finished here.
    """
    trainer: Trainer | None = None
    waiting = study.cells()
    while True:
        done, failed = folder.done(), folder.failed()
        waiting = [cell for cell in waiting if not _is_settled(study, cell, done, failed)]
        if not waiting:
            folder.clear(done)
            return
        claimed = _claim(folder, study, waiting, done)
        if claimed is None:
            time.sleep(poll)
            continue
        cell, path = claimed
        with folder.claims.kept(path):
            # Somebody may have finished it between our look and our claim.
            if not folder.is_done(cell):
                trainer = trainer or make_trainer(study)
                try:
                    _run(folder, study, cell, trainer)
                except Exception as error:
                    folder.fail(cell, error)
        folder.claims.drop(cell.id)
        if report and folder.is_done(cell):
            report(cell)


def _is_of(library: PromptLibrary, cell: Cell, outcome: Outcome) -> bool:
    """Whether a library has an entry that the same run added, perhaps with other versions."""
    if cell.task not in library:
        return False
    known = library.entry(cell.task).provenance
    wanted = {"task": cell.task, "seed": cell.seed, "backbone": outcome.backbone}
    return all(known.get(key) == value for key, value in wanted.items())


def _is_settled(study: Study, cell: Cell, done: set[str], failed: set[str]) -> bool:
    lost = cell.id in failed or any(needed.id in failed for needed in study.needs(cell))
    return cell.id in done or lost


def _claim(
    folder: StudyFolder, study: Study, cells: list[Cell], done: set[str]
) -> tuple[Cell, Path] | None:
    """Return the first cell that can be run and is nobody's, claimed."""
    for cell in cells:
        if any(needed.id not in done for needed in study.needs(cell)):
            continue
        path = folder.claims.take(cell.id)
        if path is not None:
            return cell, path
    return None


def _start(study: Study, cell: Cell, values: list[np.ndarray]) -> np.ndarray | None:
    """Return what a `Trainer` starts a cell from, given the prompts of `Study.starts`."""
    return None if not values else np.stack(values) if study.mixes(cell) else values[0]


def _run(folder: StudyFolder, study: Study, cell: Cell, trainer: Trainer) -> None:
    began = time.monotonic()
    needed = study.starts(cell)
    values = [prompts.read(folder.prompt(one)).values for one in needed]
    start = _start(study, cell, values)
    if cell.method is not None and cell.kind != "tuning":
        method = study.prompt_methods[cell.method]
        tuning = [folder.row(one) for one in study.tuning(method)]
        cell = dataclasses.replace(cell, rate=best_rate(method, tuning))
    outcome = trainer(cell, start, folder.partial(cell))
    provenance: dict[str, Any] = {
        "task": cell.task,
        "step": outcome.step,
        "score": outcome.scores["score"],
        "backbone": outcome.backbone,
        "versions": versions(),
        "seed": cell.seed,
    }
    if cell.kind == "transfer":
        provenance["source"] = cell.source
    if cell.method is not None:
        provenance["method"] = cell.method
    prompts.write(folder.prompt(cell), outcome.prompt, provenance)
    early = {k: v for k, v in provenance.items() if k != "score"}
    early["step"] = study.embedding_steps
    if cell.kind != "transfer":
        prompts.write(folder.embedding(cell), outcome.embedding, early)
    if cell.kind == "source" and cell.method in (None, *list(study.prompt_methods)[:1]):
        library = PromptLibrary(folder.library)
        if _is_of(library, cell, outcome):  # of a run that was killed before it wrote its row
            library.remove(cell.task)
        embedding = Prompt(outcome.embedding, early)
        library.add(cell.task, Prompt(outcome.prompt, provenance), embedding)
    steps, scores = [step for step, _ in outcome.curve], [score for _, score in outcome.curve]
    row = {
        **cell.columns(),
        "score": outcome.scores["score"],
        "step": outcome.step,
        "last": scores[-1],
        "best": max(scores),
        "best_step": steps[scores.index(max(scores))],
        "steps": study.steps(cell),
        "train_examples": outcome.examples,
        "loss": outcome.loss,
        "majority": outcome.majority,
        "backbone": outcome.backbone,
        "seconds": round(time.monotonic() - began, 2),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": identity()["host"].partition("/")[0],
        "scores": dict(outcome.scores),
        "curve": [list(point) for point in outcome.curve],
    }
    if outcome.weights is not None:
        row["weights"] = {str(one.source): w for one, w in zip(needed, outcome.weights)}
    folder.finish(cell, row)
    shutil.rmtree(folder.partial(cell), ignore_errors=True)
