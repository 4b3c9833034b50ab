"""The callback that writes a run's folder."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import keras
import numpy as np

from keras_spot.base.errors import diverged, invalid
from keras_spot.base.fields import WHOLE
from keras_spot.base.progress import Watcher
from keras_spot.base.versions import versions
from keras_spot.model import reparameterizations
from keras_spot.training.finite import FiniteSteps, rates_of
from keras_spot.training.interrupts import Interrupted, Signals
from keras_spot.training.loss_means import LossMeans
from keras_spot.training.mirrors import folder_of
from keras_spot.training.run_folder import RAN_ON, RunFolder
from keras_spot.training.state import State, arrays_of, assign
from keras_spot.training.tensorboard import ScalarWriter

if TYPE_CHECKING:
    from keras_spot.model.prompted_t5 import PromptedT5

__all__ = ["Logs", "PromptCheckpoint", "optimizer_record", "random_states"]

Logs: TypeAlias = Mapping[str, float] | None


class PromptCheckpoint(keras.callbacks.Callback):
    """Write the prompt every N steps in the reference's layout, and all that a run should leave.

    See `run_folder` for the folder. If the folder already holds the beginning of the same run, its
    newest state is put into the model when training begins, so that the same program run
    again continues (give `fit` the rest of the data: `load_task(..., start_step=...)`;
    `keras_spot.train` does it all).

    Of a bank of prompts each has a folder of its own in `run_dir`, called by its name ("/" as "."),
    with its prompts, record and scores, good for whatever takes a run's prompt; `run_dir` itself
    has the state and the record of them all (`keras_spot.train_bank` does it all).

    Args:
        run_dir: the run's folder.
        every: steps between checkpoints, or the numbers of the steps to save at. Default 500, as
            the paper. The last step of `fit` is always saved. Steps are the optimiser's, so with
            `steps_per_execution` a checkpoint is of the first step at or after that.
        validate: function from the model to scores, e.g.
            `lambda model: keras_spot.evaluate(model, "super_glue/boolq").scores`; called at
            every checkpoint; None where it scores nothing. Default: none, no best step is
            recorded. Of a bank it gives such scores for each prompt by name.
        monitor: the score that decides the best step. Default `"score"`.
        mode: `"max"` (default) or `"min"`.
        record: what `run.json` shall say beside the recipe, the backbone's fingerprint and the
            versions, such as `{"task": "super_glue/boolq"}`. JSON-able.
        prompt_records: of a bank, what each prompt's `run.json` shall say besides, by name.
        skip_nonfinite: how many steps that leave a loss, gradient or prompt which is not finite to
            undo at most, with a warning for each; one more stops the run. Default 0.

    Raises:
        InvalidArgument: `every` below 1, an unknown `mode`, a `monitor` that `validate` does not
            give, averages of the prompt that are put in its place only after the last step, or a
            folder with another run.
        OSError: the folder cannot be written to.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str] | RunFolder,
        every: int | Collection[int] = 500,
        validate: Callable[[PromptedT5], Mapping[str, Any] | None] | None = None,
        monitor: str = "score",
        mode: str = "max",
        record: Mapping[str, object] | None = None,
        prompt_records: Mapping[str, Mapping[str, object]] | None = None,
        skip_nonfinite: int = 0,
    ) -> None:
        super().__init__()
        steps = [every] if isinstance(every, int) else every
        if not steps or not all(type(step) is int and step >= 1 for step in steps):
            raise invalid("every", "must be a positive integer", f"{every=}")
        if mode not in ("max", "min"):
            raise invalid("mode", "must be 'max' or 'min'", f"{mode=}")
        if type(skip_nonfinite) is not int or skip_nonfinite < 0:
            raise invalid("skip_nonfinite", WHOLE.text, f"{skip_nonfinite=}")
        self.folder = run_dir if isinstance(run_dir, RunFolder) else folder_of(run_dir)
        self.run_dir = self.folder.path
        self.every = every
        self.validate = validate
        self.monitor = monitor
        self.mode = mode
        self.record = dict(record or {})
        self.prompt_records = dict(prompt_records or {})
        self.skip_nonfinite = skip_nonfinite
        self.signals = Signals()
        self.watcher = Watcher()
        self.steps: int | None = None
        self.step = 0
        self.last: dict[str, Any] = {}
        self._writer: ScalarWriter | None = None

    # === What Keras calls ===

    def on_train_begin(self, logs: Logs = None) -> None:
        self.folder.owner.acquire()
        self._begin()

    def _begin(self) -> None:
        """Open the folder and put its newest state into the model."""
        model = self.model
        if model.optimizer.use_ema and model.optimizer.ema_overwrite_frequency is None:
            rule = "must come with `ema_overwrite_frequency`: else no checkpoint has the averages"
            raise invalid("use_ema", rule, f"{type(model.optimizer).__name__}(use_ema=True)")
        model.optimizer.build(model.trainable_variables)
        record = {
            "recipe": model.get_config()["recipe"],
            "backbone": model.fingerprint,
            "prompt_attention": model.prompt_attention,
            "prompt_length": model.prompt_length,
            "optimizer": optimizer_record(model.optimizer),
            "kernels_used": model.kernels_used,
            "backend": keras.config.backend(),
            "reparameterization": reparameterizations.describe(
                model.soft_prompt.reparameterization
            ),
            "versions": versions(),
            **self.record,
        }
        is_finished = self.steps is not None and self.folder.newest_step() >= self.steps > 0
        if is_finished:
            record |= _ran_on(self.folder)
        bank = self._bank()
        whole = {"bank": list(bank), "prompts": self.prompt_records} if bank else {}
        best: dict[str, Any] = {"monitor": self.monitor, "mode": self.mode}
        self.step = self.folder.open({**record, **whole}, **best)
        for name, folder in bank.items():
            own = {**record, "bank": name, **self.prompt_records.get(name, {})}
            folder.open(own, self.step, **best)
        state = self.folder.read_state()
        self._restored = state
        if state is not None:
            self._restore(state)
        seconds = 0.0 if state is None else float(state.get("seconds", 0.0))
        self._began = time.monotonic() - seconds
        # The optimiser may have made steps before the run.
        self._offset = _iterations(model.optimizer) - self.step
        self._noted = max((line["step"] for line in self.folder.metrics()), default=0)
        self._losses = LossMeans(model)
        self._finite = FiniteSteps(model, self._losses, self.skip_nonfinite)
        if state is not None:
            self._finite.skipped = int(state.get("skipped", 0))
        self._writer = None if is_finished else ScalarWriter(self.folder.tensorboard)
        if state is None:
            self._save_state()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._losses.begin_epoch()
        if self._restored is not None and "losses" in self._restored:
            self._losses.restore(self._restored["losses"])
        self._restored = None
        self._finite.keep()
        if self._is_due(self._noted):  # a signal came before this step was validated
            self.save()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        before, self.step = self.step, _iterations(self.model.optimizer) - self._offset
        self._check_finite(logs or {})
        if self._is_due(before):
            self.save()
        else:
            self.signals.agree(self.step)
            if self.signals.stopping is not None:
                self._save_state()
                raise Interrupted(self.signals.stopping, self.step)
        self.watcher(self.step, self.steps or self.step, {**self.last, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._losses.look()

    def on_train_end(self, logs: Logs = None) -> None:
        if self.step > self._noted:
            self.save()
        self._end()

    def on_fit_error(self) -> None:
        """What `PromptedT5.fit` calls when it raises, for which Keras has no method."""
        self._end()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.folder.owner.release()

    # === Checkpoints ===

    def _is_due(self, before: int) -> bool:
        """Return whether a step to save at lies between the step before and this one."""
        if isinstance(self.every, int):
            return self.step // self.every > before // self.every
        return any(before < step <= self.step for step in self.every)

    def _bank(self) -> dict[str, RunFolder]:
        """Return the folder of each prompt of a bank by name, nothing without one."""
        return {name: self.folder.of_prompt(name) for name in self.model.prompt_names or ()}

    def save(self) -> None:
        """Write a checkpoint of the present step, or only the state once a signal has come."""
        scores, validate = None, self.validate
        if validate is not None:
            self._finite.warn_of_norm(self.model, self.step)
            self._losses.look()
            self.watcher.validating(self.step)
            scores = self.signals.unless_stopped(lambda: validate(self.model))
            self.watcher.validated()
            self._losses.skip()
        self.signals.agree()
        if self.signals.stopping is None or validate is None or scores is not None:
            self._write(scores)
        else:  # validated when the run goes on
            self._save_state()
        self.signals.agree()
        if self.signals.stopping is not None:
            raise Interrupted(self.signals.stopping, self.step)

    def _write(self, scores: Mapping[str, Any] | None) -> None:
        """Write prompts, scores and state."""
        self.folder.check_owned()
        self._finite.warn_of_norm(self.model, self.step)
        model, step, bank = self.model, self.step, self._bank()
        values_of_each = model.prompt if bank else [model.prompt]
        for folder, values in zip([*bank.values()] or [self.folder], values_of_each):
            folder.write_prompt(step, values)
        shared = model.soft_prompt.shared
        if bank and shared is not None:  # what a target's run starts from
            self.folder.write_prompt(step, shared)
        losses = self._losses.take()
        line: dict[str, Any] = {"step": step}
        if "loss" in losses:
            line["loss"] = losses["loss"]
        if self.skip_nonfinite:
            line["skipped"] = self._finite.skipped
        line["seconds"] = round(time.monotonic() - self._began, 3)
        for name, folder in bank.items():
            own = {"step": step, "seconds": line["seconds"]}
            if "loss" in losses:
                own["loss"] = losses[f"{name}_loss"]
            own = self._note(folder, own, None if scores is None else scores[name])
            line |= {f"{name}/{k}": own[k] for k in own if k not in ("step", "seconds")}
        line = self._note(self.folder, line, None if bank else scores)
        # The state comes last: what it does not cover is trimmed when the run continues.
        self._save_state()
        if self._writer is not None:
            self._writer.write(line, step)
        self._noted = step
        self.last = line

    def _note(self, folder, line, scores):
        """Add scores to a folder's metrics; return the line, with whether the step is the best."""
        if scores is None:
            folder.append_metrics(line)
            return line
        scores = {name: float(value) for name, value in scores.items()}
        if self.monitor not in scores:
            known = ", ".join(sorted(scores))
            raise invalid("monitor", f"must be one of {known}", f"monitor={self.monitor!r}")
        line = {**line, **scores}
        folder.append_metrics(line)
        better = float.__gt__ if self.mode == "max" else float.__lt__
        best = folder.record_best(line["step"], scores[self.monitor], better)
        return {**line, "best": best}

    # === Numbers that are not finite ===

    def _check_finite(self, logs: Mapping[str, Any]) -> None:
        """Undo a step whose numbers are not finite, or stop at it."""
        reason = self._finite.wrong_with(logs)
        if reason is None:
            self._finite.keep()
        elif self._finite.undo():
            warnings.warn(
                f"{reason} at step {self.step} with {rates_of(self.model.optimizer)}: "
                f"the step was undone, {self._finite.skipped} of at most {self.skip_nonfinite}",
                stacklevel=2,
            )
        else:
            self._give_up(reason)

    def _give_up(self, reason: str) -> NoReturn:
        """Put the last good state back and raise."""
        state, step, rates = self.folder.read_state(), self.step, rates_of(self.model.optimizer)
        if state is not None:
            self._restore(state)
            self.step = int(state["step"])
        rule = "must keep the loss and the prompt finite"
        received = f"{reason} at step {step} (batch {step} of the run) with {rates}"
        raise diverged(
            "learning_rate",
            rule,
            f"{received}; the prompt of step {self.step} is kept in {self.run_dir}",
        )

    # === State ===

    def _save_state(self) -> None:
        self.folder.check_owned()
        self._finite.warn_of_norm(self.model, self.step)
        model = self.model
        arrays = {"prompt": np.asarray(model.prompt)}
        arrays |= arrays_of(model.soft_prompt.factors, "factor")
        arrays |= arrays_of(model.optimizer.variables, "slot")
        arrays |= arrays_of(random_states(model), "random")
        arrays["losses"] = self._losses.state()
        arrays["skipped"] = np.array(self._finite.skipped)
        arrays["seconds"] = np.array(time.monotonic() - self._began)
        self.folder.save_state(self.step, arrays)

    def _restore(self, state: State) -> None:
        """Put a state into the prompts, the optimiser and the random generators."""
        model = self.model
        soft_prompt = model.soft_prompt
        values = [state["prompt"]] if state["prompt"].ndim == 2 else list(state["prompt"])
        named = {f"prompt_{i}": value for i, value in enumerate(values)}
        if soft_prompt.reparameterized:
            assign(soft_prompt.factors, state, "factor")
        else:
            assign(soft_prompt.prompts, named, "prompt")
        assign(model.optimizer.variables, state, "slot")
        assign(random_states(model), state, "random", optional=True)


def _ran_on(folder: RunFolder) -> dict[str, Any]:
    return {key: value for key, value in folder.own_record().items() if key in RAN_ON}


def random_states(model: Any) -> list[Any]:
    """Return the states of the random generators that training uses, those of dropout."""
    if not model.dropout:
        return []
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]


def optimizer_record(optimizer: Any) -> dict[str, Any]:
    """Return the class and the JSON-able settings of an optimiser."""
    config = keras.saving.serialize_keras_object(optimizer)["config"]
    return {"class": type(optimizer).__name__, **json.loads(json.dumps(config, default=str))}


def _iterations(optimizer: Any) -> int:
    return int(keras.ops.convert_to_numpy(optimizer.iterations))
