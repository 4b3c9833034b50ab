"""One compiled model on which all cells of a process run, the prompt set back before each."""

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_spot.base.atomic import atomic_write
from keras_spot.data import BUCKETS, set_target_length
from keras_spot.data.dataset import Shape
from keras_spot.model.build import build
from keras_spot.prompts import initializers
from keras_spot.prompts.initializers import PromptInitializer
from keras_spot.study.cells import Cell
from keras_spot.study.data import KeptTask
from keras_spot.study.description import Study
from keras_spot.study.engine import Outcome

SCORED_AT_ONCE = 64
"""Examples in a batch of an evaluation, which has no gradients to hold."""


class Bench:
    """Trains and scores cells: the same prompts as `keras_spot.build` and `fit` from fresh.

    Building a model and compiling its training step takes longer than a short run. All cells of
    a study have the same shapes (input and target lengths are the study's), so one model
    serves them: prompt, optimiser and random state are set back to where a new one has them.

    Args:
        study: what to run.
    """

    def __init__(self, study: Study):
        self.study = study
        self.recipe = study.full_recipe
        members = [entry.task for entry in itertools.chain(study.sources, study.targets)]
        self.input_length = study.input_length or max(t.max_input_length for t in members)
        self.model = build(
            study.backbone,
            "uniform",
            recipe=self.recipe,
            prompt_length=self.recipe.prompt_length,
            input_length=self.input_length,
            dtype=study.dtype,
        )
        self.target_length = set_target_length(self.model, members, study.data_dir)
        # D of all batches: no longer than the longest label where all tasks have labels.
        self.targets = Shape.of(
            members,
            self.model.preprocessor.tokenizer,
            self.recipe.batch_size,
            self.input_length,
            self.target_length,
            BUCKETS,
        ).target_length
        optimizer = self.model.optimizer
        optimizer.build(self.model.trainable_variables)
        self._fresh = [variable.numpy() for variable in optimizer.variables]
        random = [v for v in self.model.variables if v.path.endswith("seed_generator_state")]
        self.random = random if self.recipe.dropout else []
        # All that training changes.
        self.state = [self.model.soft_prompt.prompt, *optimizer.variables, *self.random]

    def __call__(self, cell: Cell, start: np.ndarray | None, partial: Path) -> Outcome:
        """Run a cell, see `engine.Trainer`."""
        data = self.task(cell.kind == "source", cell.task)
        self._reset(cell, start)
        run = _Run(self, cell, data, partial)
        self.model.fit(
            data.batches(cell.examples, cell.seed, run.step),
            steps_per_epoch=self.study.steps(cell) - run.step,
            shuffle=False,
            verbose=0,
            callbacks=[run],
        )
        return run.outcome()

    @functools.cache  # noqa: B019  a bench lives as long as its process
    def task(self, is_source: bool, name: str) -> KeptTask:
        """Return the data of a source or target, read at the first call."""
        entries = self.study.sources if is_source else self.study.targets
        entry = next(entry for entry in entries if entry.name == name)
        return KeptTask(
            self.study,
            entry,
            self.model.preprocessor.tokenizer,
            self.recipe.batch_size,
            self.input_length,
            self.targets,
        )

    def _reset(self, cell: Cell, start: np.ndarray | None) -> None:
        model, task = self.model, self.study.entry(cell).task
        if start is None:
            initializer = initializers.get(self.recipe.prompt_init, task.labels, cell.seed)
            if isinstance(initializer, PromptInitializer):
                table = model.backbone.token_embedding.embeddings
                initializer = initializer.completed(model.preprocessor.tokenizer, table)
            start = np.asarray(initializer(model.prompt.shape))
        # Dropout gets the state of its seed, whatever ran before.
        random = [np.asarray([cell.seed, i], v.dtype) for i, v in enumerate(self.random)]
        for variable, value in zip(self.state, [start, *self._fresh, *random], strict=True):
            variable.assign(value)


class _Run(keras.callbacks.Callback):
    """Scores, keeps and saves what a cell shall leave while `fit` runs."""

    def __init__(self, bench: Bench, cell: Cell, data: KeptTask, partial: Path):
        super().__init__()
        self.bench, self.cell, self.data, self.partial = bench, cell, data, partial
        study, total = bench.study, bench.study.steps(cell)
        count = study.evaluations
        self.scored = {round(total * (i + 1) / count) for i in range(count)}
        self.keeps_best = cell.kind == "source" or study.score == "best"
        self.step, self.counts = 0, 0  # steps made; the step whose prompt counts so far
        self.curve: list[tuple[int, float]] = []
        self.scores: dict[str, float] = {}
        self.kept: dict[str, np.ndarray] = {}
        self._losses = 0.0
        if partial.is_file():
            self._restore()

    @property
    def losses(self) -> float:
        """Sum of the losses of all steps."""
        return self._losses + self._mean * (self.step - self._first)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._mean, self._first = 0.0, self.step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        self._mean = float((logs or {}).get("loss", 0.0))  # Keras reports that of the epoch so far
        if self.step == self.bench.study.embedding_steps:
            self.kept["embedding"] = self.bench.model.prompt
        if self.step in self.scored:
            self._score()

    def outcome(self) -> Outcome:
        """Return what the finished run gives."""
        return Outcome(
            curve=self.curve,
            scores=self.scores,
            step=self.counts,
            prompt=self.kept["prompt"],
            embedding=self.kept["embedding"],
            loss=self.losses / self.step,
            examples=len(self.data.subset(self.cell.examples, self.cell.seed)),
            backbone=self.bench.model.fingerprint,
            majority=self.data.majority,
        )

    def _score(self) -> None:
        scores = self.data.score(self.bench.model, SCORED_AT_ONCE)
        best = max((score for _, score in self.curve), default=-np.inf)
        self.curve.append((self.step, scores["score"]))
        if not self.keeps_best or scores["score"] > best:
            self.scores, self.counts = scores, self.step
            self.kept["prompt"] = self.bench.model.prompt
        if self.step < self.bench.study.steps(self.cell):
            self._save()

    def _save(self) -> None:
        """Write what the rest of the run needs, tens of kilobytes."""
        said: dict[str, Any] = {"step": self.step, "counts": self.counts, "losses": self.losses}
        said |= {"curve": self.curve, "scores": self.scores}
        arrays = {f"state_{i}": v.numpy() for i, v in enumerate(self.bench.state)}
        arrays |= {"said": np.array(json.dumps(said)), **self.kept}
        with atomic_write(self.partial) as file:
            np.savez(file, **arrays)

    def _restore(self) -> None:
        with np.load(self.partial, allow_pickle=False) as found:
            said = json.loads(str(found["said"]))
            for i, variable in enumerate(self.bench.state):
                variable.assign(found[f"state_{i}"])
            self.kept = {k: found[k] for k in ("prompt", "embedding") if k in found}
        self.step, self.counts, self._losses = said["step"], said["counts"], said["losses"]
        self.curve = [(step, score) for step, score in said["curve"]]
        self.scores = said["scores"]
