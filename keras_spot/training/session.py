"""A compiled model with its data, put back to the start before each run that has its shapes."""

import functools
import os
import statistics
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spot import backbones, data, tasks
from keras_spot.base import devices, remote
from keras_spot.base.errors import invalid, unknown
from keras_spot.data.dataset import Shape
from keras_spot.data.kept import KeptSplit
from keras_spot.model import optimizers
from keras_spot.model.build import build
from keras_spot.model.distillation import WEIGHT, read_teacher
from keras_spot.prompts import initializers
from keras_spot.prompts.initializers import PromptInitializer
from keras_spot.training.checkpoints import random_states
from keras_spot.training.evaluate import check_labelled, score, warn_of_cut
from keras_spot.training.members import Member
from keras_spot.training.run import Run

__all__ = ["Session", "check_backbone"]


class Session:
    """What runs of one shape share: one backbone, one compiled step, texts tokenised once.

    Building a model and compiling its training step takes longer than a short run. A run leaves
    nothing behind for the next one: prompts, optimiser and random states are set back to where a
    new model has them.

    Args:
        run: the first run. Others may differ in tasks, splits, seeds, initial prompts and steps;
            those of one prompt in their learning rate, too.
        loaded: the run's backbone and tokenizer. Default: they are loaded.
        members: tasks of later runs, whose lengths the model must have. Default: those of `run`.
        keep: hold training rows in memory, for several runs on the same tasks. Default False.
        scored_at_once: examples in a batch of a validation, which has no gradients to hold.
            Default: the recipe's batch size.

    Raises:
        InvalidArgument: what `build` raises, or a backbone object without a tokenizer.
    """

    def __init__(
        self,
        run: Run,
        *,
        loaded: tuple[Any, Any] | None = None,
        members: Sequence[tasks.Task] | None = None,
        keep: bool = False,
        scored_at_once: int | None = None,
    ):
        members = run.tasks if members is None else members
        self.recipe = run.full_recipe
        self.keep = keep
        self.scored_at_once = scored_at_once or self.recipe.batch_size
        self.devices = devices.devices(run.devices)
        # Prompts are read first: a mistake in a path should not wait for a large backbone.
        starts = [self._initializer(member) for member in run.members]
        given = [member.teacher for member in run.members if member.teacher is not None]
        teachers = [read_teacher(teacher) for teacher in given]
        with self.devices.scope():
            if loaded is None:
                backbones.warn_of_span_corruption(run.backbone)
                loaded = backbones.load(
                    run.backbone, run.tokenizer, run.dtype, quantize=run.quantize
                )
            self.model = build(
                loaded[0],
                _one_or_all(run, starts),
                tokenizer=loaded[1],
                recipe=self.recipe,
                prompt_attention=run.prompt_attention,
                input_length=run.input_length or max(task.max_input_length for task in members),
                prompt_names=[member.name for member in run.members] if run.is_bank else None,
                kernels=run.kernels,
                remat=run.remat,
                reparameterization=run.reparameterization,
            )
            self._compile(run)
            if teachers:
                weight = run.distillation_weight or WEIGHT
                self.model.distill(_one_or_all(run, teachers), weight)
        if self.model.preprocessor is None:
            raise invalid("tokenizer", "must be given with a backbone object", "tokenizer=None")
        self.tokenizer = self.model.preprocessor.tokenizer
        for task in members if run.validation_split != "" and run.method != "rank" else ():
            data.check_labels(task, self.tokenizer, run.method)
        data.set_target_length(self.model, members, run.data_dir)
        # D of kept batches: no longer than the longest label where all tasks have labels.
        lengths = (self.input_length, self.target_length, None)
        size = self.recipe.batch_size
        shape = Shape.of(members, self.tokenizer, size, *lengths, run.data_dir)
        self._kept_target_length = shape.target_length
        self._examples: dict[Any, list[tasks.Example]] = {}
        self._fresh: list[np.ndarray] | None = None
        # The numbers that a reparameterization draws are by the members' own seeds.
        self._needs_start = run.reparameterization is not None

    def _compile(self, run: Run) -> None:
        model, recipe = self.model, self.recipe
        if run.is_bank:
            number = {id(v): k for v, k, _ in model.soft_prompt.multipliers()}
            own = [run.members[number[id(v)]].learning_rate for v in model.trainable_variables]
            multipliers = model.rate_multipliers()
            model.compile(optimizer=optimizers.from_recipe(recipe, own, multipliers))
        elif devices.jit_pays(
            model.backbone.count_params(), model.backbone.compute_dtype, run.total_steps
        ):
            model.compile(jit_compile=True)

    @property
    def input_length(self) -> int:
        """Input tokens at most."""
        return int(self.model.preprocessor.encoder_sequence_length)

    @property
    def target_length(self) -> int:
        """Target tokens at most."""
        return int(self.model.preprocessor.decoder_sequence_length)

    # === Reset ===

    def start(self, run: Run) -> None:
        """Put prompts, optimiser and random states to where a run begins."""
        model = self.model
        model.optimizer.build(model.trainable_variables)
        if self._fresh is None:
            self._fresh = [ops.convert_to_numpy(v) for v in model.optimizer.variables]
        for number, member in enumerate(run.members) if self._needs_start else ():
            model.soft_prompt.start_from(number, self._initial_prompt(member), member.seed)
        for variable, value in zip(model.optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        if not run.is_bank:
            model.optimizer.learning_rate = run.full_recipe.learning_rate
        # Dropout gets the state of the run's seed, whatever ran before.
        for number, variable in enumerate(random_states(model)):
            state = [run.members[0].seed, number]
            variable.assign(np.asarray(state, variable.dtype))
        self._needs_start = True

    def _initializer(self, member: Member) -> keras.initializers.Initializer:
        given = self.recipe.prompt_init if member.prompt_init is None else member.prompt_init
        return initializers.get(given, member.labels, member.seed)

    def _initial_prompt(self, member: Member) -> keras.initializers.Initializer:
        model, start = self.model, self._initializer(member)
        if isinstance(start, PromptInitializer):
            for source in start.sources:
                backbones.check_fingerprint(source, model.fingerprint)
            start = start.completed(self.tokenizer, model.backbone.token_embedding.embeddings)
        return start

    # === Data ===

    def batches(self, run: Run, start_step: int) -> Any:
        """Return the endless `tf.data.Dataset` of a run, from batch number `start_step` on."""
        if self.keep or run.examples is not None:
            return self._kept_batches(run, start_step)
        options: dict[str, Any] = {
            "data_dir": run.data_dir,
            "start_step": start_step,
            "input_length": self.input_length,
            "target_length": self.target_length,
        }
        place = (run.split, self.tokenizer, self.recipe.batch_size)
        seeds = [member.seed for member in run.members]
        if run.is_bank:
            return data.load_bank(run.tasks, *place, seeds=seeds, **options)
        task = run.members[0].task
        if isinstance(task, tasks.Mixture):
            return data.load_mixture(task, *place, seed=seeds[0], **options)
        return data.load_task(task, *place, seed=seeds[0], repeat=True, **options)

    def _kept_batches(self, run: Run, start_step: int) -> Any:
        if run.is_bank or run.is_mixture:
            rule = "must be given for one prompt and one task"
            raise invalid("examples", rule, f"{len(run.tasks)} tasks")
        return self.kept(run).batches(run.examples, run.members[0].seed, start_step)

    def kept(self, run: Run) -> KeptSplit:
        """Return the kept rows that a run of one task trains on, read at the first call."""
        (task,) = run.tasks
        return self._kept(task, run.split, None if run.data_dir is None else str(run.data_dir))

    @functools.cache  # noqa: B019  a session lives as long as its process
    def _kept(self, task: tasks.Task, split: str, data_dir: str | None) -> KeptSplit:
        return KeptSplit(
            task,
            split,
            self.tokenizer,
            self.recipe.batch_size,
            self.input_length,
            self._kept_target_length,
            data_dir,
        )

    # === Scores ===

    def examples(self, run: Run, task: tasks.Task, split: str) -> list[tasks.Example]:
        """Return the examples of a validation split, read at the first call."""
        key = (task, split, run.data_dir, run.validation_limit)
        if key not in self._examples:
            check_labelled(task, split, run.data_dir)
            limit = run.validation_limit
            self._examples[key] = list(
                data.load_examples(task, split, data_dir=run.data_dir, limit=limit, labelled=True)
            )
            warn_of_cut(self.model, task, split, self._examples[key])
        return self._examples[key]

    def scores(self, run: Run) -> dict[str, dict[str, float]]:
        """Return the validation scores of each prompt by name."""
        return {member.name: self._member_scores(run, member) for member in run.members}

    def _member_scores(self, run: Run, member: Member) -> dict[str, float]:
        prompt = member.name if run.is_bank else None
        by_task = {task.name: self._task_scores(run, task, prompt) for task in member.tasks}
        if not isinstance(member.task, tasks.Mixture):
            return by_task[member.task.name]
        each = {f"{name}/score": scores["score"] for name, scores in by_task.items()}
        return {"score": statistics.fmean(each.values()), **each}

    def _task_scores(self, run: Run, task: tasks.Task, prompt: str | None) -> dict[str, float]:
        parts = {split: self.examples(run, task, split) for split in run.scored(task)}
        return score(
            self.model,
            task,
            parts,
            method=run.method,
            batch_size=self.scored_at_once,
            prompt=prompt,
        ).scores


def check_backbone(backbone: Any) -> None:
    """Raise InvalidArgument for an unknown name, with the closest ones; nothing is loaded.

    Objects and addresses pass.
    """
    from keras_hub.models import T5Backbone

    named = isinstance(backbone, (str, os.PathLike)) and not remote.is_remote(backbone)
    if not named or os.path.isdir(backbone) or backbones.is_backbone(backbone):
        return
    known = [*backbones.EMBEDDED, *backbones.SHORTCUTS, *T5Backbone.presets]
    raise unknown("backbone", str(backbone), known)


def _one_or_all(run: Run, values: list[Any]) -> Any:
    """Return the values of a bank's prompts, or the one prompt's."""
    return values if run.is_bank else values[0]
