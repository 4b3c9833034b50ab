"""Keras callbacks in a run, which has checkpoints where `fit` has epochs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from keras_spot.training.checkpoints import PromptCheckpoint

__all__ = ["Listeners"]


class Listeners(keras.callbacks.Callback):
    """Calls Keras callbacks as `fit` does, with an epoch's end at every checkpoint.

    So `keras.callbacks.EarlyStopping`, `CSVLogger` and loggers of others work on a run. The logs
    are the numbers of a line of `metrics.jsonl`, the scores also as `val_{name}`; the number of the
    epoch is that of the checkpoint, from 0.

    Args:
        callbacks: what is called.
        checkpoint: the callback that writes the checkpoints; it must be called before this one.
    """

    def __init__(
        self, callbacks: Sequence[keras.callbacks.Callback], checkpoint: "PromptCheckpoint"
    ) -> None:
        super().__init__()
        self.callbacks = list(callbacks)
        self.checkpoint = checkpoint
        self.number = 0
        self._told: Mapping[str, Any] | None = None

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: Any) -> None:
        super().set_params(params)
        for callback in self.callbacks:
            callback.set_params(params)

    def on_train_begin(self, logs: Any = None) -> None:
        self.number = len(self.checkpoint.folder.metrics())
        self._told = self.checkpoint.last
        self._call("on_train_begin", logs)
        self._call("on_epoch_begin", self.number, {})

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._call("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._call("on_train_batch_end", batch, logs)
        if self._end_of_epoch() and not self.model.stop_training:
            self._call("on_epoch_begin", self.number, {})

    def on_train_end(self, logs: Any = None) -> None:
        self._end_of_epoch()
        self._call("on_train_end", logs)

    def _end_of_epoch(self) -> bool:
        """Tell of a checkpoint that was written since the last time, and whether there was one."""
        line = self.checkpoint.last
        if line is self._told:
            return False
        self._told = line
        numbers = {k: v for k, v in line.items() if isinstance(v, (int, float)) and k != "best"}
        own = ("step", "seconds", "loss", "skipped")
        scores = {f"val_{name}": v for name, v in numbers.items() if name not in own}
        self._call("on_epoch_end", self.number, {**numbers, **scores})
        self.number += 1
        return True

    def _call(self, name: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, name)(*arguments)
