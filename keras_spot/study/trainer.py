"""The cells of a study as runs of one session, which is put back to the start before each."""

import collections
import dataclasses
import functools
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot import prompts
from keras_spot.base.errors import invalid
from keras_spot.data.sources import count_rows
from keras_spot.data.streams import examples, numbered, open_labelled
from keras_spot.study.cells import SHARED, Cell
from keras_spot.study.description import Study
from keras_spot.study.engine import Outcome
from keras_spot.study.entries import StudyTask
from keras_spot.tasks import metrics
from keras_spot.training.execute import TrainedBank, TrainedRun, execute
from keras_spot.training.run import Run
from keras_spot.training.session import Session

__all__ = ["SCORED_AT_ONCE", "CellTrainer"]

SCORED_AT_ONCE = 64
"""Examples in a batch of a validation, which has no gradients to hold."""


class CellTrainer:
    """Trains and scores cells, see `engine.Trainer`.

    All cells of a method have the same shapes (input and target lengths are the study's), so one
    session serves them.

    Args:
        study: what to run.
    """

    def __init__(self, study: Study):
        self.study = study
        self.session: Session | None = None
        self._sessions: dict[tuple[str | None, bytes | None], Session] = {}

    def __call__(self, cell: Cell, start: np.ndarray | None, partial: Path) -> Outcome:
        """Run a cell; `partial` is the folder in which an interrupted one goes on."""
        study = self.study
        run = self.run(cell, start)
        self.session = self._session(cell, start, run)
        steps, count = study.steps(cell), study.evaluations
        scored = {round(steps * (i + 1) / count) for i in range(count)}
        assert study.embedding_steps is not None
        trained = execute(
            run,
            partial,
            session=self.session,
            every=scored | {study.embedding_steps},
            scored=scored,
            progress=None,
        )
        if cell.is_shared:
            return self._shared_outcome(trained)
        return self._outcome(cell, run, trained.runs[cell.task])

    def _session(self, cell: Cell, start: np.ndarray | None, run: Run) -> Session:
        """Return the session of a cell's method; all of them have the one backbone.

        A mixture has its prompts built in, a shared prompt its teachers.
        """
        mixed = start.tobytes() if start is not None and start.ndim == 3 else None
        key = cell.method, mixed
        if key not in self._sessions:
            study = self.study
            members = [entry.task for entry in (*study.sources, *study.targets)]
            other = self.session
            loaded = None if other is None else (other.model.backbone, other.tokenizer)
            options: dict[str, Any] = {"scored_at_once": SCORED_AT_ONCE, "keep": not run.is_bank}
            self._sessions[key] = Session(run, loaded=loaded, members=members, **options)
        return self._sessions[key]

    def run(self, cell: Cell, start: np.ndarray | None) -> Run:
        """Return the run of a cell; `start` is that of an `engine.Trainer`."""
        from keras_spot.base.devices import here
        from keras_spot.model.reparameterizations import SourceMixture

        study = self.study
        # What all sources share is trained alike on each, see `methods.check_mixed`.
        members = study.sources if cell.is_shared else [study.entry(cell)]
        entry = members[0]
        recipe, reparameterization = study.full_recipe, None
        teachers: list[np.ndarray] | None = None
        if cell.method is not None:
            method = study.prompt_methods[cell.method]
            length = method.prompt_length or recipe.prompt_length
            rate = cell.rate or recipe.learning_rate
            recipe = dataclasses.replace(recipe, prompt_length=length, learning_rate=rate)
            reparameterization = (
                "shared" if method.transfer == SHARED else method.reparameterization
            )
        if cell.is_shared and start is not None:
            teachers, start = list(start), None
        elif start is not None and start.ndim == 3:
            reparameterization = SourceMixture(start, joint=True)
            start = start.mean(axis=0)
        return Run(
            task=[one.task for one in members] if cell.is_shared else entry.task,
            seed=cell.seed,
            prompt_init=start,
            teacher=teachers,
            backbone=study.backbone,
            recipe=recipe,
            steps=study.steps(cell),
            data_dir=study.data_dir,
            split=entry.split,
            examples=cell.examples,
            validation_split=entry.validation,
            validation_limit=study.validation_limit,
            method=entry.method or study.method,
            input_length=study.input_length,
            devices=here(),
            dtype=study.dtype,
            kernels=study.kernels,
            remat=study.remat,
            reparameterization=reparameterization,
        )

    def _outcome(self, cell: Cell, run: Run, trained: TrainedRun) -> Outcome:
        study, session = self.study, self.session
        assert session is not None
        assert study.embedding_steps is not None
        lines = [line for line in trained.history if "score" in line]
        keeps_best = cell.target is None or study.score == "best"
        numbers = [line for line in lines if line["score"] is not None]
        candidates = numbers if keeps_best and numbers else lines[-1:]
        chosen = max(candidates, key=lambda line: line["score"])
        if chosen["score"] is None:
            where = f"{trained.run_dir}, step {chosen['step']}: NaN"
            raise invalid("score", "must be a number for a run to be compared", where)
        named = {"step", "loss", "seconds"}
        split_scores = {f"{split}/" for split in run.scored(run.members[0].tasks[0])}
        scores = {
            name: value
            for name, value in chosen.items()
            if name not in named and not name.startswith(tuple(split_scores))
        }
        kept = session.kept(run)
        return Outcome(
            curve=[(line["step"], line["score"]) for line in numbers],
            scores=scores,
            step=chosen["step"],
            prompt=prompts.read(trained.run_dir, chosen["step"]).values,
            embedding=prompts.read(trained.run_dir, study.embedding_steps).values,
            loss=_mean_loss(trained.history),
            examples=len(kept.subset(cell.examples, cell.seed)),
            backbone=session.model.fingerprint,
            majority=self._majority(study.entry(cell), run),
            weights=_weights(session),
        )

    def _shared_outcome(self, trained: TrainedBank) -> Outcome:
        """Return what a bank on all sources comes to: its scores are their means."""
        assert self.session is not None
        assert self.study.embedding_steps is not None
        histories = [one.history for one in trained.runs.values()]
        curve = [
            (lines[0]["step"], statistics.fmean(line["score"] for line in lines))
            for lines in zip(*histories)
            if all(line.get("score") is not None for line in lines)
        ]
        if not curve:
            rule = "must be a number at some step for a prompt to be shared"
            raise invalid("score", rule, f"{trained.run_dir}: NaN")
        step, score = max(curve, key=lambda point: point[1])
        return Outcome(
            curve=curve,
            scores={"score": score},
            step=step,
            prompt=prompts.read(trained.run_dir, step).values,
            embedding=prompts.read(trained.run_dir, self.study.embedding_steps).values,
            loss=statistics.fmean(map(_mean_loss, histories)),
            examples=sum(
                count_rows(entry.task, entry.split, self.study.data_dir)
                for entry in self.study.sources
            ),
            backbone=self.session.model.fingerprint,
        )

    def _majority(self, entry: StudyTask, run: Run) -> float | None:
        """Return the score of always giving the commonest training answer, None without labels."""
        assert self.session is not None
        task = entry.task
        if task.target != "{label}":
            return None
        answer = self._commonest(entry)
        parts = []
        for split in run.scored(task):
            rows = self.session.examples(run, task, split)
            parts.append(metrics.score(task, [answer] * len(rows), rows))
        return metrics.mean(parts)["score"]

    @functools.cache  # noqa: B019  a trainer lives as long as its process
    def _commonest(self, entry: StudyTask) -> str:
        read = open_labelled(entry.task, entry.split, self.study.data_dir)
        rows = examples(entry.task, numbered(read))
        counts = collections.Counter(example.target for example in rows)
        return counts.most_common(1)[0][0]


def _weights(session: Session) -> list[float] | None:
    """Return the weights of the mixture that a session trains, None of anything else."""
    from keras_spot.model.reparameterizations import SourceMixture

    layer = session.model.soft_prompt.reparameterization
    return [float(w) for w in layer.shares()] if isinstance(layer, SourceMixture) else None


def _mean_loss(history: list[dict[str, Any]]) -> float:
    """Return the mean loss of all steps, of lines that have the mean since the line before."""
    total, before = 0.0, 0
    for line in history:
        total += line["loss"] * (line["step"] - before)
        before = line["step"]
    return total / before
