"""The callback that writes a run's folder."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_spot import prompts
from keras_spot.base.errors import invalid
from keras_spot.base.versions import versions
from keras_spot.prompts.names import folder
from keras_spot.training import run_folder


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
        every: steps between checkpoints. Default 500, as the paper. The last step of `fit` is
            always saved.
        validate: function from the model to scores, e.g.
            `lambda model: keras_spot.evaluate(model, "super_glue/boolq").scores`; called at
            every checkpoint. Default: none, no best step is recorded. Of a bank it gives such
            scores for each prompt by name.
        monitor: the score that decides the best step. Default `"score"`.
        mode: `"max"` (default) or `"min"`.
        record: what `run.json` shall say beside the recipe, the backbone's fingerprint and the
            versions, such as `{"task": "super_glue/boolq"}`. JSON-able.
        prompt_records: of a bank, what each prompt's `run.json` shall say besides, by name.

    Raises:
        ValueError: `every` below 1, an unknown `mode`, a `monitor` that `validate` does not
            give, or a folder with another run.
        OSError: the folder cannot be written to.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike,
        every: int = 500,
        validate: Callable[[Any], Mapping[str, Any]] | None = None,
        monitor: str = "score",
        mode: str = "max",
        record: Mapping[str, Any] | None = None,
        prompt_records: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        super().__init__()
        if not isinstance(every, int) or every < 1:
            raise invalid("every", "must be a positive integer", f"{every=}")
        if mode not in ("max", "min"):
            raise invalid("mode", "must be 'max' or 'min'", f"{mode=}")
        self.run_dir = Path(run_dir)
        self.every = every
        self.validate = validate
        self.monitor = monitor
        self.mode = mode
        self.record = dict(record or {})
        self.prompt_records = dict(prompt_records or {})
        self.step = 0
        self.last: dict[str, Any] = {}

    def on_train_begin(self, logs=None):
        model = self.model
        record = {
            "recipe": model.get_config()["recipe"],
            "backbone": model.fingerprint,
            "prompt_attention": model.prompt_attention,
            "prompt_length": model.prompt_length,
            "versions": versions(),
            **self.record,
        }
        model.optimizer.build(model.trainable_variables)
        bank = self._bank()
        whole = {"bank": list(bank), "prompts": self.prompt_records} if bank else {}
        self.step = run_folder.open_run(self.run_dir, {**record, **whole})
        for name, place in bank.items():
            own = {**record, "bank": name, **self.prompt_records.get(name, {})}
            run_folder.open_run(place, own, self.step)
        if self.step:
            run_folder.load_state(self.run_dir, model.soft_prompt.prompts, model.optimizer)
        self._saved = self.step
        self._forget()
        self._began = time.monotonic()
        self._writer = _tensorboard(self.run_dir / run_folder.TENSORBOARD)

    def on_epoch_begin(self, epoch, logs=None):
        self._seen = 0.0
        self._epoch_sums = {}

    def _forget(self):
        """Start new means of the losses, and of a bank's by prompt."""
        names = [f"{name}_loss" for name in self.model.prompt_names or ()]
        self._sums = dict.fromkeys(["loss", *names], 0.0)
        self._batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        # Keras reports the mean since the epoch began; its increments are the batches' losses.
        self._seen += 1
        for name in self._sums:
            total = (logs or {}).get(name, 0.0) * self._seen
            self._sums[name] += total - self._epoch_sums.get(name, 0.0)
            self._epoch_sums[name] = total
        self._batches += 1
        if self.step % self.every == 0:
            self.save()

    def on_train_end(self, logs=None):
        if self.step > self._saved:
            self.save()
        self._writer.close()

    def _bank(self):
        """Return the folder of each prompt of a bank by name, nothing without one."""
        return {name: self.run_dir / folder(name) for name in self.model.prompt_names or ()}

    def save(self):
        """Write a checkpoint of the present step."""
        model, step, bank = self.model, self.step, self._bank()
        values_of_each = model.prompt if bank else [model.prompt]
        for place, values in zip([*bank.values()] or [self.run_dir], values_of_each):
            prompts.write(prompts.step_path(place, step), values)
        line: dict[str, Any] = {"step": step}
        if self._batches:
            line["loss"] = self._sums["loss"] / self._batches
        line["seconds"] = round(time.monotonic() - self._began, 3)
        found = self.validate(model) if self.validate else None
        for name, place in bank.items():
            own = {"step": step, "seconds": line["seconds"]}
            if self._batches:
                own["loss"] = self._sums[f"{name}_loss"] / self._batches
            own = self._note(place, own, found and found[name])
            line |= {f"{name}/{k}": own[k] for k in own if k not in ("step", "seconds")}
        line = self._note(self.run_dir, line, None if bank else found)
        # The state comes last: what it does not cover is trimmed when the run continues.
        run_folder.save_state(self.run_dir, model.prompt, model.optimizer, step)
        self._writer.scalars(line, step)
        self._saved = step
        self._forget()
        self.last = line

    def _note(self, run_dir, line, found):
        """Add scores to a folder's metrics; return the line, with whether the step is the best."""
        if found is None:
            run_folder.append_metrics(run_dir, line)
            return line
        scores = {name: float(value) for name, value in found.items()}
        if self.monitor not in scores:
            known = ", ".join(sorted(scores))
            raise invalid("monitor", f"must be one of {known}", f"monitor={self.monitor!r}")
        line = {**line, **scores}
        run_folder.append_metrics(run_dir, line)
        better = float.__gt__ if self.mode == "max" else float.__lt__
        best = run_folder.record_best(run_dir, line["step"], scores[self.monitor], better)
        return {**line, "best": best}


class _tensorboard:
    """Scalar summaries with TensorFlow alone, nothing on other backends."""

    def __init__(self, folder: Path):
        self._writer = None
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            self._writer = tf.summary.create_file_writer(str(folder))

    def scalars(self, line: Mapping[str, Any], step: int) -> None:
        if self._writer is None:
            return
        import tensorflow as tf
        from tensorflow.core.framework import summary_pb2

        # tf.summary.scalar lives in the tensorboard package; its metadata is just this.
        metadata = summary_pb2.SummaryMetadata()
        metadata.plugin_data.plugin_name = "scalars"
        with self._writer.as_default():
            for name, value in line.items():
                if name.rpartition("/")[2] not in ("step", "best"):
                    tf.summary.write(name, tf.constant(value, tf.float32), step, metadata)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
