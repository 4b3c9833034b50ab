"""The callback that writes a run's folder."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_spot import prompt_files, run_files
from keras_spot.errors import invalid
from keras_spot.versions import versions


class PromptCheckpoint(keras.callbacks.Callback):
    """Write the prompt every N steps in the reference's layout, and all that a run should leave.

    See `run_files` for the folder. If the folder already holds the beginning of the same run, its
    newest state is put into the model when training begins, so that the same program run
    again continues (give `fit` the rest of the data: `load_task(..., start_step=...)`;
    `keras_spot.train` does it all).

    Args:
        run_dir: the run's folder.
        every: steps between checkpoints. Default 500, as the paper. The last step of `fit` is
            always saved.
        validate: function from the model to scores, e.g.
            `lambda model: keras_spot.evaluate(model, "super_glue/boolq").scores`; called at
            every checkpoint. Default: none, no best step is recorded.
        monitor: the score that decides the best step. Default `"score"`.
        mode: `"max"` (default) or `"min"`.
        record: what `run.json` shall say beside the recipe, the backbone's fingerprint and the
            versions, such as `{"task": "super_glue/boolq"}`. JSON-able.

    Raises:
        ValueError: `every` below 1, an unknown `mode`, a `monitor` that `validate` does not
            give, or a folder with another run.
        OSError: the folder cannot be written to.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike,
        every: int = 500,
        validate: Callable[[Any], Mapping[str, float]] | None = None,
        monitor: str = "score",
        mode: str = "max",
        record: Mapping[str, Any] | None = None,
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
        self.step = run_files.open_run(self.run_dir, record)
        if self.step:
            run_files.load_state(self.run_dir, model.soft_prompt.prompt, model.optimizer)
        self._saved = self.step
        self._loss_sum = self._batches = 0.0
        self._began = time.monotonic()
        self._writer = _tensorboard(self.run_dir / run_files.TENSORBOARD)

    def on_epoch_begin(self, epoch, logs=None):
        self._seen = 0.0
        self._epoch_sum = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        # Keras reports the mean since the epoch began; its increments are the batches' losses.
        self._seen += 1
        total = (logs or {}).get("loss", 0.0) * self._seen
        self._loss_sum += total - self._epoch_sum
        self._batches += 1
        self._epoch_sum = total
        if self.step % self.every == 0:
            self.save()

    def on_train_end(self, logs=None):
        if self.step > self._saved:
            self.save()
        self._writer.close()

    def save(self):
        """Write a checkpoint of the present step."""
        model, step = self.model, self.step
        prompt_files.write(prompt_files.step_path(self.run_dir, step), model.prompt)
        line: dict[str, Any] = {"step": step}
        if self._batches:
            line["loss"] = self._loss_sum / self._batches
        line["seconds"] = round(time.monotonic() - self._began, 3)
        if self.validate:
            scores = {name: float(value) for name, value in self.validate(model).items()}
            if self.monitor not in scores:
                known = ", ".join(sorted(scores))
                raise invalid("monitor", f"must be one of {known}", f"monitor={self.monitor!r}")
            line.update(scores)
            better = float.__gt__ if self.mode == "max" else float.__lt__
            run_files.append_metrics(self.run_dir, line)
            line["best"] = run_files.record_best(self.run_dir, step, scores[self.monitor], better)
        else:
            run_files.append_metrics(self.run_dir, line)
        # The state comes last: what it does not cover is trimmed when the run continues.
        run_files.save_state(self.run_dir, model.prompt, model.optimizer, step)
        self._writer.scalars(line, step)
        self._saved = step
        self._loss_sum = self._batches = 0.0
        self.last = line


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
                if name not in ("step", "best"):
                    tf.summary.write(name, tf.constant(value, tf.float32), step, metadata)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
