"""The one executor of runs: open the folder, train what is missing, tell what is there."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from keras_spot.base.progress import Report, watcher
from keras_spot.base.types import Backbone, PathLike, Tokenizer
from keras_spot.training.run import Run
from keras_spot.training.run_folder import RunFolder

if TYPE_CHECKING:
    import keras

    from keras_spot.model.prompted_t5 import PromptedT5
    from keras_spot.training.session import Session

__all__ = ["Progress", "TrainedBank", "TrainedRun", "execute", "trained"]

Progress: TypeAlias = Literal["auto"] | Report | None


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """One trained prompt.

    Attributes:
        model: the trained `PromptedT5`, with the prompt of the last step.
        run_dir: its folder; `prompt_init=run_dir` starts another prompt from the best step.
        best: `{"step": ..., "score": ...}` on the validation split, or None without one.
        history: the lines of `metrics.jsonl`.
    """

    model: "PromptedT5"
    run_dir: Path
    best: dict[str, Any] | None
    history: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class TrainedBank:
    """The trained prompts of a run.

    Attributes:
        model: the trained `PromptedT5` of K prompts, as of the last step.
        run_dir: the run's folder.
        runs: a `TrainedRun` for each prompt by name; its `run_dir` is a `prompt_init`.
    """

    model: "PromptedT5"
    run_dir: Path
    runs: dict[str, TrainedRun]


def execute(
    run: Run,
    run_dir: PathLike,
    *,
    session: "Session | None" = None,
    loaded: tuple[Backbone, Tokenizer | None] | None = None,
    every: Collection[int] | None = None,
    scored: Collection[int] | None = None,
    progress: Progress = "auto",
    callbacks: "Sequence[keras.callbacks.Callback]" = (),
    restart: bool = False,
) -> TrainedBank:
    """Make a run, or what its folder lacks of it.

    The continued run is bit for bit the uninterrupted one: same batches, same optimiser state.
    Of several processes that train together only the first writes into the folder.

    Args:
        run: what to train.
        run_dir: folder for checkpoints, metrics and state, see `run_folder`.
        session: a model of the run's shapes that is there already. Default: a new one.
        loaded: the run's backbone and tokenizer, if they are loaded already.
        every: the steps to save at. Default: every step of `recipe.checkpoint_every`.
        scored: those of them to score at. Default: all.
        progress: `"auto"` shows bars in a terminal or notebook, elsewhere a line a checkpoint; or
            a function, called with step, total steps and logs after every step; None is silent.
        callbacks: Keras callbacks beside the one that writes the folder. A checkpoint is their
            epoch's end, its logs the numbers of `metrics.jsonl`, so that
            `EarlyStopping("score", mode="max", patience=3)` works; one that sets
            `model.stop_training` ends the run at that step, which is then saved.
        restart: set what is in the folder aside and start anew. Default False.

    Raises:
        InvalidArgument: a folder with another run, a split without labels, another run than the
            first of several processes makes, and what `build` raises.
        MissingFile: data that are not prepared, or a prompt that is not there.
    """
    from keras_spot.base import hosts
    from keras_spot.training.mirrors import check_alike, folder_of

    folder = folder_of(run_dir)
    folder.owner.check_free()
    folder.check_place()
    if restart:
        folder.set_aside()
    record = run.record()
    check_alike(record)
    folder.check(record, partly=True)  # before anything slow
    from keras_spot.training.checkpoints import PromptCheckpoint
    from keras_spot.training.evaluate import check_labelled
    from keras_spot.training.listeners import Listeners
    from keras_spot.training.session import Session, check_backbone

    if session is None:
        if loaded is None:
            check_backbone(run.backbone)
        for task in run.tasks:
            for split in run.scored(task):
                check_labelled(task, split, run.data_dir)
        with hosts.needed():
            session = Session(run, loaded=loaded)
    with hosts.needed(), session.devices.scope():
        session.start(run)
    model, steps = session.model, run.total_steps

    def validate(model: "PromptedT5") -> dict[str, Any] | None:
        if scored is not None and checkpoint.step not in scored:
            return None
        scores = session.scores(run)
        return scores if run.is_bank else scores[run.members[0].name]

    checkpoint = PromptCheckpoint(
        folder,
        every=every or run.full_recipe.checkpoint_every,
        validate=None if run.validation_split == "" else validate,
        record={
            **{key: value for key, value in record.items() if key not in ("bank", "prompts")},
            "devices": session.devices.name,
        },
        prompt_records=record.get("prompts"),
        skip_nonfinite=run.skip_nonfinite,
    )
    description = "bank" if run.is_bank else run.members[0].name
    with (
        hosts.needed(),
        folder.owner.owned(),
        session.devices.scope(),
        checkpoint.signals.noted(),
        watcher(progress if hosts.is_chief() else None, description, steps) as checkpoint.watcher,
    ):
        checkpoint.set_model(model)
        checkpoint.steps = steps
        done = folder.newest_step()
        data = session.batches(run, done)
        checkpoint.watcher.started(done, steps)
        if done >= steps:
            checkpoint.on_train_begin()
            checkpoint.on_epoch_begin(0)
            checkpoint.on_train_end()
        else:
            model.fit(
                data,
                epochs=1,
                steps_per_epoch=steps - done,
                callbacks=[checkpoint, Listeners(callbacks, checkpoint)],
                verbose=0,
                shuffle=False,
            )
    hosts.wait("keras_spot trained")
    return trained(run, RunFolder(run_dir), model, folder)


def trained(
    run: Run, folder: RunFolder, model: "PromptedT5", copy: RunFolder | None = None
) -> TrainedBank:
    """Return what a run has left in its folder.

    Args:
        run: what was trained.
        folder: its folder.
        model: the trained one.
        copy: where the same is read, on a process that does not see the folder. Default: there.
    """
    runs = {}
    for member in run.members:
        own, read = (
            one.of_prompt(member.name) if run.is_bank else one for one in (folder, copy or folder)
        )
        read.check_best()
        runs[member.name] = TrainedRun(model, own.path, read.best, read.metrics())
    return TrainedBank(model, folder.path, runs)
