"""Train a prompt: recipe, strategy, data and checkpoints put together."""

import dataclasses
import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_spot import backbones, data, prompts, tasks
from keras_spot.base import devices
from keras_spot.base.errors import invalid
from keras_spot.model.build import build
from keras_spot.prompts import initializers
from keras_spot.training import run_folder
from keras_spot.training.checkpoints import PromptCheckpoint
from keras_spot.training.evaluate import check_labelled, evaluate


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """What `train` gives back.

    Attributes:
        model: the trained `PromptedT5`, with the prompt of the last step.
        run_dir: its folder; `prompt_init=run_dir` starts another prompt from the best step.
        best: `{"step": ..., "score": ...}` on the validation split, or None without one.
        history: the lines of `metrics.jsonl`.
    """

    model: Any
    run_dir: Path
    best: dict[str, Any] | None
    history: list[dict[str, Any]]


def train(
    task: str | tasks.Task | tasks.Mixture,
    run_dir: str | os.PathLike,
    *,
    backbone: Any = "tiny",
    prompt_init: Any = None,
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
    seed: int = 0,
    progress: Callable[[int, int, Mapping[str, Any]], None] | None = None,
) -> TrainedRun:
    """Train a soft prompt for a task; run the same call again to continue after an interruption.

    The continued run is bit for bit the uninterrupted one: same batches, same optimiser state.

    Args:
        task: name or `tasks.Task`; a `tasks.Mixture` is drawn from as `load_mixture` does, and
            scored by the mean of its tasks' scores.
        run_dir: folder for checkpoints, metrics and state, see `run_folder`.
        backbone: see `build`. Default `"tiny"`, the embedded one.
        prompt_init: see `build`: another run's folder or file is SPoT's transfer.
        steps: training steps. Default: the recipe's.
        recipe: `Recipe`. Default: the backbone's.
        tokenizer: see `build`.
        prompt_attention: see `build`.
        data_dir: where prepared TFDS data lie. Default: TFDS' own folder.
        split: what to train on, e.g. `"train[:64]"`. Default `"train"`.
        validation_split: what to score every `recipe.checkpoint_every` steps. Default: the
            task's validation splits; `""` for none.
        validation_limit: examples of each validation split at most.
        method: `"generate"` or `"rank"`, see `evaluate`.
        input_length: input tokens at most. Default: the task's.
        strategy: a tf.distribute strategy, or a choice of `keras_spot.strategy`.
        dtype: see `build`.
        seed: of the sampled initial prompt and of the order of the examples.
        progress: called with step, total steps and logs after every step.

    Raises:
        ValueError: an argument that breaks its rule, or a folder with another run.
        FileNotFoundError: data that are not prepared, or a prompt that is not there.
    """
    if isinstance(task, tasks.Mixture):
        members = [tasks.get(name) for name in task.tasks]
    else:
        task = tasks.get(task)
        members = [task]
    recipe = recipe or backbones.recipe_for(backbone)
    steps = recipe.steps if steps is None else steps
    if steps < 1:
        raise invalid("steps", "must be a positive integer", f"{steps=}")
    if isinstance(strategy, str):
        strategy = devices.strategy(strategy)
    with devices.scope(strategy):
        model = build(
            backbone,
            prompt_init,
            tokenizer=tokenizer,
            recipe=recipe,
            labels=list(dict.fromkeys(label for m in members for label in m.labels)) or None,
            prompt_attention=prompt_attention,
            input_length=input_length or max(member.max_input_length for member in members),
            dtype=dtype,
            seed=seed,
        )
        backbone = model.backbone
        if devices.jit_pays(backbone.count_params(), backbone.compute_dtype, steps):
            model.compile(jit_compile=True)
    if model.preprocessor is None:
        raise invalid("tokenizer", "must be given with a backbone object", "tokenizer=None")
    data.set_target_length(model, members, data_dir)

    if validation_split != "":
        for member in members:
            for part in [validation_split] if validation_split else member.validation:
                check_labelled(member, part, data_dir)

    def validate(model: Any) -> dict[str, float]:
        scores = {
            member.name: evaluate(
                model,
                member,
                validation_split,
                method=method,
                data_dir=data_dir,
                batch_size=recipe.batch_size,
                limit=validation_limit,
            ).scores
            for member in members
        }
        return _mean_score(scores) if isinstance(task, tasks.Mixture) else scores[task.name]

    checkpoint = PromptCheckpoint(
        run_dir,
        every=recipe.checkpoint_every,
        validate=None if validation_split == "" else validate,
        record={
            "task": task.name,
            "split": split,
            "prompt_init": initializers.describe(
                recipe.prompt_init if prompt_init is None else prompt_init
            ),
            "seed": seed,
            "steps": steps,
            "strategy": type(strategy).__name__,
            **({"mixture": dataclasses.asdict(task)} if isinstance(task, tasks.Mixture) else {}),
        },
    )

    def load(done: int) -> Any:
        options = {"data_dir": data_dir, "seed": seed, "start_step": done, **lengths(model)}
        tokenizer, size = model.preprocessor.tokenizer, recipe.batch_size
        if isinstance(task, tasks.Mixture):
            return data.load_mixture(task, split, tokenizer, size, **options)
        return data.load_task(task, split, tokenizer, size, repeat=True, **options)

    with devices.scope(strategy):
        run_steps(model, checkpoint, steps, load, progress)
    history = run_folder.read_metrics(run_dir)
    best = prompts.read_run(run_dir).get("best")
    return TrainedRun(model, Path(run_dir), best, history)


def warm_up(model: Any, data: Any, batches: int = 256) -> int:
    """Compile the training step for the lengths of batches in the data, before it is trained.

    Without it the first batch of each length takes that much longer, through XLA seconds. A step
    is made on one batch of each length; prompts and optimiser are as before when this is done.

    Args:
        model: a compiled `PromptedT5`.
        data: what it will be trained on, e.g. of `load_task`. Without `repeat` that uses up an
            epoch's order.
        batches: how many batches at the beginning to look at. Default 256.

    Returns:
        The number of different shapes.

    Raises:
        ValueError: no batches.
    """
    import tensorflow as tf

    one_each: dict[Any, Any] = {}
    for batch in data.take(batches):
        shapes = tuple(tuple(tensor.shape) for tensor in tf.nest.flatten(batch))
        one_each.setdefault(shapes, batch)
    if not one_each:
        raise invalid("data", "must have batches", f"{batches=}")
    found = tf.data.Dataset.from_generator(
        lambda: iter(one_each.values()), output_signature=data.element_spec
    )
    model.optimizer.build(model.trainable_variables)
    kept = [(v, v.numpy()) for v in (*model.trainable_variables, *model.optimizer.variables)]
    try:
        model.fit(found, steps_per_epoch=len(one_each), shuffle=False, verbose=0)
    finally:
        for variable, value in kept:
            variable.assign(value)
    return len(one_each)


def lengths(model: Any) -> dict[str, Any]:
    """Return the lengths of a model's batches, as the loaders of `data` take them."""
    return {
        "input_length": model.preprocessor.encoder_sequence_length,
        "target_length": model.preprocessor.decoder_sequence_length,
        # A TPU compiles for static shapes only: there every batch has the one full length.
        **({"buckets": ()} if devices.on_tpu() else {}),
    }


def run_steps(
    model: Any,
    checkpoint: PromptCheckpoint,
    steps: int,
    load: Callable[[int], Any],
    progress: Callable[[int, int, Mapping[str, Any]], None] | None,
) -> None:
    """Run the steps that the run's folder does not have yet, on what `load` gives from there."""
    checkpoint.set_model(model)
    done = run_folder.newest_step(checkpoint.run_dir)
    data = load(done)
    if done >= steps:
        checkpoint.on_train_begin()
        checkpoint.on_train_end()
        return
    callbacks = [checkpoint]
    if progress:
        callbacks.append(_Progress(checkpoint, steps, progress))
    model.fit(
        data, epochs=1, steps_per_epoch=steps - done, callbacks=callbacks, verbose=0, shuffle=False
    )


class _Progress(keras.callbacks.Callback):
    def __init__(self, checkpoint, steps, report):
        super().__init__()
        self.checkpoint, self.steps, self.report = checkpoint, steps, report

    def on_train_batch_end(self, batch, logs=None):
        self.report(self.checkpoint.step, self.steps, {**self.checkpoint.last, **(logs or {})})


def _mean_score(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean `score` of several tasks, and each one's own."""
    each = {f"{name}/score": found["score"] for name, found in scores.items()}
    return {"score": statistics.fmean(each.values()), **each}
