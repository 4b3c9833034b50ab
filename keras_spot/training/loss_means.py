"""Mean losses between two lines of a run's log, the same whether or not the run was interrupted."""

from typing import Any

import numpy as np
from keras import ops

__all__ = ["LossMeans"]


class LossMeans:
    """Means since the last line, made of the sums that Keras keeps since the epoch began.

    Args:
        model: a compiled `PromptedT5`.

    Attributes:
        names: `"loss"`, and of a bank each prompt's, such as `"cb_loss"`.
    """

    def __init__(self, model: Any):
        self.model = model
        self.names = ["loss", *(f"{name}_loss" for name in model.prompt_names or ())]
        for metric in self._metrics():  # as Keras does when the epoch begins
            metric.reset_state()
        self._before = self._read()  # sum and weight of each loss, at the last look
        self._sums = np.zeros_like(self._before)  # and since the last line

    def begin_epoch(self) -> None:
        """Take note that Keras has set its sums to 0."""
        self._before = np.zeros_like(self._before)

    def look(self) -> None:
        """Add what came since the last look."""
        now = self._read()
        self._sums = self._sums + now - self._before
        self._before = now

    def skip(self) -> None:
        """Leave out what came since the last look, as of an `evaluate` in between."""
        self._before = self._read()

    def take(self) -> dict[str, float]:
        """Return the means since the last call by name, nothing if no step was made."""
        self.look()
        sums, self._sums = self._sums, np.zeros_like(self._sums)
        if not sums[0, 1]:
            return {}
        means = [float(total / weight) if weight else 0.0 for total, weight in sums]
        return dict(zip(self.names, means))

    def state(self) -> np.ndarray:
        """Return what `restore` needs, `[losses, 4]`."""
        self.look()
        return np.concatenate([self._before, self._sums], axis=1)

    def restore(self, state: np.ndarray) -> None:
        """Go on where another process left, Keras' sums included."""
        for metric, (total, count) in zip(self._metrics(), state[:, :2]):
            metric.total.assign(total)
            metric.count.assign(count)
        self._before, self._sums = self._read(), state[:, 2:]

    def _metrics(self) -> list[Any]:
        by_name = {metric.name: metric for metric in self.model.metrics}
        return [by_name[name] for name in self.names]

    def _read(self) -> np.ndarray:
        sums = [(metric.total, metric.count) for metric in self._metrics()]
        return np.array([[ops.convert_to_numpy(x) for x in pair] for pair in sums], "float64")
