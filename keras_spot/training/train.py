"""Train one prompt, or a bank of them, with what a run needs given by keyword."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from keras_spot.base.errors import invalid
from keras_spot.base.types import PathLike
from keras_spot.training.execute import Progress, TrainedBank, TrainedRun, execute
from keras_spot.training.options import BankOptions, RunOptions, TaskLike
from keras_spot.training.run import Run

if TYPE_CHECKING:
    import keras

__all__ = ["train", "train_bank"]


def train(
    task: TaskLike,
    run_dir: PathLike,
    *,
    progress: Progress = "auto",
    callbacks: "Sequence[keras.callbacks.Callback]" = (),
    restart: bool = False,
    **options: Unpack[RunOptions],
) -> TrainedRun:
    """Train a soft prompt for a task; run the same call again to continue after an interruption.

    The continued run is bit for bit the uninterrupted one: same batches, same optimiser state.

    Args:
        task: name or `tasks.Task`; a `tasks.Mixture` is drawn from as `load_mixture` does, and
            scored by the mean of its tasks' scores.
        run_dir: folder for checkpoints, metrics and state, see `run_folder`.
        progress: `"auto"` shows bars in a terminal or notebook, elsewhere a line a checkpoint; or
            a function, called with step, total steps and logs after every step; None is silent.
        callbacks: Keras callbacks, called with a checkpoint as an epoch's end:
            `keras.callbacks.EarlyStopping("score", mode="max", patience=3)`, Weights & Biases'
            `WandbMetricsLogger()`, `keras.callbacks.CSVLogger("log.csv")`.
        restart: set what is in the folder aside and start anew. Default False.
        options: the other fields of `Run`, such as `backbone`, `prompt_init`, `steps` and `seed`.

    Raises:
        InvalidArgument: an argument that breaks its rule, or a folder with another run.
        MissingFile: data that are not prepared, or a prompt that is not there.
    """
    run = Run(task=task, **options)
    if run.is_bank:
        rule = "must describe one prompt; `train_bank` trains several"
        raise invalid("options", rule, f"{len(run.members)} prompts")
    trained = execute(run, run_dir, progress=progress, callbacks=callbacks, restart=restart)
    return trained.runs[run.members[0].name]


def train_bank(
    task: TaskLike | Sequence[TaskLike],
    run_dir: PathLike,
    *,
    progress: Progress = "auto",
    callbacks: "Sequence[keras.callbacks.Callback]" = (),
    restart: bool = False,
    **options: Unpack[BankOptions],
) -> TrainedBank:
    """Train K prompts at once; run the same call again to continue after an interruption.

    Each prompt is trained as by `train` alone: on its own rows, by its own loss, with its own
    optimiser state. A step has the recipe's batch size of rows for each prompt.

    Args:
        task: a task for all prompts, or a list of K.
        run_dir: folder of the bank; each prompt has a folder of its own in it, called by its name,
            see `PromptCheckpoint`.
        options: the other fields of `Run`: `names`, and one for all prompts or a list of K of
            `seed`, `learning_rate` and `prompt_init`; the rest as for `train`.

    The other arguments and the errors are those of `train`.
    """
    run = Run(task=task, **options)
    if not run.is_bank:
        run = dataclasses.replace(run, names=[run.members[0].name])
    return execute(run, run_dir, progress=progress, callbacks=callbacks, restart=restart)
