"""Train a bank of prompts, several tasks, seeds or learning rates at once, on one backbone."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_spot import backbones, data, prompts, tasks
from keras_spot.base import devices
from keras_spot.base.errors import invalid
from keras_spot.model.build import build
from keras_spot.model.optimizers import Adafactor
from keras_spot.prompts import initializers
from keras_spot.prompts import names as prompt_names
from keras_spot.training import run_folder
from keras_spot.training.checkpoints import PromptCheckpoint
from keras_spot.training.evaluate import check_labelled, evaluate
from keras_spot.training.train import TrainedRun, lengths, run_steps


@dataclasses.dataclass(frozen=True)
class TrainedBank:
    """What `train_bank` gives back.

    Attributes:
        model: the trained `PromptedT5` of K prompts, as of the last step.
        run_dir: the bank's folder.
        runs: a `TrainedRun` for each prompt by name; its `run_dir` is a `prompt_init`.
    """

    model: Any
    run_dir: Path
    runs: dict[str, TrainedRun]


def train_bank(
    members: str | tasks.Task | Sequence[str | tasks.Task],
    run_dir: str | os.PathLike,
    *,
    names: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 0,
    learning_rates: float | Sequence[float] | None = None,
    prompt_init: Any = None,
    backbone: Any = "tiny",
    steps: int | None = None,
    recipe: Any = None,
    tokenizer: Any = None,
    prompt_attention: str | None = None,
    data_dir: str | os.PathLike | None = None,
    split: str = "train",
    validation_split: str | None = None,
    validation_limit: int | None = None,
    method: str = "generate",
    input_length: int | None = None,
    strategy: Any = "auto",
    dtype: Any = None,
    progress: Callable[[int, int, Mapping[str, Any]], None] | None = None,
) -> TrainedBank:
    """Train K prompts at once; run the same call again to continue after an interruption.

    Each prompt is trained as by `train` alone: on its own rows, by its own loss, with its own
    optimiser state. A step has the recipe's batch size of rows for each prompt.

    Args:
        members: a task for all prompts, or a list of K.
        run_dir: folder of the bank; each prompt has a folder of its own in it, called by its name,
            see `PromptCheckpoint`.
        names: K names. Default: what tells the prompts apart, such as `"glue/sst2"`, `"seed1"` or
            `"glue/sst2-rate0.1"`.
        seeds: of the sampled initial prompt and of the order of the examples: one for all prompts,
            or K. Default 0.
        learning_rates: one for all prompts, or K. Default: the recipe's.
        prompt_init: see `build`: one for all prompts, or a list of K.
        progress: called with step, total steps and logs after every step.

    The other arguments are those of `train`.

    Raises:
        ValueError: lists of several lengths, an argument that breaks its rule, or a folder with
            another run.
        FileNotFoundError: data that are not prepared, or a prompt that is not there.
    """
    recipe = recipe or backbones.recipe_for(backbone)
    steps = recipe.steps if steps is None else steps
    if steps < 1:
        raise invalid("steps", "must be a positive integer", f"{steps=}")
    rates = recipe.learning_rate if learning_rates is None else learning_rates
    bank = _members(members, seeds, rates, prompt_init)
    found = prompt_names.check(_names(bank) if names is None else names, len(bank)) or ()
    if isinstance(strategy, str):
        strategy = devices.strategy(strategy)
    with devices.scope(strategy):
        model = build(
            backbone,
            [member.prompt_init for member in bank],
            tokenizer=tokenizer,
            recipe=recipe,
            labels=[list(member.task.labels) or None for member in bank],
            prompt_attention=prompt_attention,
            input_length=input_length or max(member.task.max_input_length for member in bank),
            dtype=dtype,
            seed=[member.seed for member in bank],
            prompt_names=found,
        )
        optimizer = Adafactor(
            learning_rates=[member.learning_rate for member in bank],
            decay_rate=recipe.decay_rate,
            weight_decay=recipe.weight_decay,
        )
        model.compile(optimizer=optimizer)
    if model.preprocessor is None:
        raise invalid("tokenizer", "must be given with a backbone object", "tokenizer=None")
    data.set_target_length(model, [member.task for member in bank], data_dir)

    if validation_split != "":
        for member in bank:
            for part in [validation_split] if validation_split else member.task.validation:
                check_labelled(member.task, part, data_dir)

    def validate(model: Any) -> dict[str, Mapping[str, float]]:
        return {
            name: evaluate(
                model,
                member.task,
                validation_split,
                method=method,
                data_dir=data_dir,
                batch_size=recipe.batch_size,
                limit=validation_limit,
                prompt=name,
            ).scores
            for name, member in zip(found, bank)
        }

    def load(done: int) -> Any:
        return data.load_bank(
            [member.task for member in bank],
            split,
            model.preprocessor.tokenizer,
            recipe.batch_size,
            data_dir=data_dir,
            seeds=[member.seed for member in bank],
            start_step=done,
            **lengths(model),
        )

    checkpoint = PromptCheckpoint(
        run_dir,
        every=recipe.checkpoint_every,
        validate=None if validation_split == "" else validate,
        record={"split": split, "steps": steps, "strategy": type(strategy).__name__},
        prompt_records={name: member.record(recipe) for name, member in zip(found, bank)},
    )
    with devices.scope(strategy):
        run_steps(model, checkpoint, steps, load, progress)
    runs = {}
    for name in found:
        folder = Path(run_dir) / prompt_names.folder(name)
        best = prompts.read_run(folder).get("best")
        runs[name] = TrainedRun(model, folder, best, run_folder.read_metrics(folder))
    return TrainedBank(model, Path(run_dir), runs)


@dataclasses.dataclass(frozen=True)
class _Member:
    """What is asked of one prompt."""

    task: tasks.Task
    seed: int
    learning_rate: float
    prompt_init: Any

    def record(self, recipe: Any) -> dict[str, Any]:
        """Return what the prompt's `run.json` says beside what the bank's says."""
        return {
            "task": self.task.name,
            "seed": self.seed,
            "learning_rate": self.learning_rate,
            "prompt_init": initializers.describe(
                recipe.prompt_init if self.prompt_init is None else self.prompt_init
            ),
        }


def _members(members: Any, seeds: Any, rates: Any, prompt_init: Any) -> list[_Member]:
    """Return K members, of lists of K and of single values for all."""
    given = {
        "members": members,
        "seeds": seeds,
        "learning_rates": rates,
        "prompt_init": prompt_init,
    }
    several = {name: list(v) for name, v in given.items() if isinstance(v, (list, tuple))}
    count = max((len(values) for values in several.values()), default=1)
    for name, values in several.items():
        if len(values) != count:
            rule = f"must be one for all prompts, or a list of {count}"
            raise invalid(name, rule, f"{len(values)}")
    columns = [several.get(name, [value] * count) for name, value in given.items()]
    return [_Member(tasks.get(task), *rest) for task, *rest in zip(*columns)]


def _names(bank: Sequence[_Member]) -> list[str]:
    """Return names that say in what the members differ."""
    rows = [(m.task.name, f"seed{m.seed}", f"rate{m.learning_rate:g}") for m in bank]
    telling = [column for column in zip(*rows) if len(set(column)) > 1] or [next(zip(*rows))]
    names = ["-".join(parts) for parts in zip(*telling)]
    if len(set(names)) == len(names):
        return names
    return [f"{name}-{number}" for number, name in enumerate(names)]
