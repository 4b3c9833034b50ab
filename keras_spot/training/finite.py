"""Steps whose numbers are not finite: noticed when they are made, and undone where that is asked.

What a step leaves is looked at, not only its loss: a gradient that is not finite shows in the
prompt or in what the optimiser remembers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_spot.training.loss_means import LossMeans

if TYPE_CHECKING:
    from keras_spot.model.prompted_t5 import PromptedT5

__all__ = ["EXPLODED", "FiniteSteps", "rates_of"]

EXPLODED = 1e6
"""Norm of a prompt's row that is warned of; of trained prompts it is hundreds to thousands."""


class FiniteSteps:
    """What looks at every step of a model.

    Args:
        model: a compiled `PromptedT5` whose optimiser is built.
        losses: the means of its losses, which an undone step leaves as they were.
        skip: how many steps at most may be undone. Default 0.

    Attributes:
        skipped: how many have been.
    """

    def __init__(self, model: PromptedT5, losses: LossMeans, skip: int = 0) -> None:
        self._losses = losses
        self._prompts = model.soft_prompt.trainable_variables
        # An undone step counts: its batch is not drawn again.
        count = model.optimizer.iterations
        self._slots = [v for v in model.optimizer.variables if v is not count]
        self._skip = skip
        self._kept: tuple[list[np.ndarray], np.ndarray] | None = None
        self._warned: int | None = None
        self.skipped = 0

    def wrong_with(self, logs: Mapping[str, Any]) -> str | None:
        """Return what is not finite after a step, None if all is."""
        for name in self._losses.names:
            value = float(logs.get(name, 0.0))
            if not math.isfinite(value):
                return f"{name}={value}"
        if not all(map(_is_finite, self._prompts)):
            return "a prompt with NaN or infinity"
        if not all(map(_is_finite, self._slots)):
            return "a gradient with NaN or infinity"
        return None

    def keep(self) -> None:
        """Note the numbers of a good step, for `undo`."""
        if self.skipped < self._skip:
            values = [np.array(ops.convert_to_numpy(v)) for v in self._variables]
            self._kept = values, self._losses.state()

    def undo(self) -> bool:
        """Put the numbers of the last good step back; return whether one more may be undone."""
        if self._kept is None or self.skipped >= self._skip:
            return False
        values, losses = self._kept
        for variable, value in zip(self._variables, values):
            variable.assign(value)
        self._losses.restore(losses)
        self.skipped += 1
        return True

    def warn_of_norm(self, model: PromptedT5, step: int) -> None:
        """Warn of a prompt that has grown beyond use, once a step."""
        if step == self._warned:
            return
        self._warned = step
        norm = float(np.linalg.norm(np.asarray(model.prompt, np.float64), axis=-1).max())
        if norm > EXPLODED:
            warnings.warn(
                f"the prompt's largest row has the norm {norm:.3g} at step {step}; the "
                f"learning rate ({rates_of(model.optimizer)}) may be too large",
                stacklevel=3,
            )

    @property
    def _variables(self) -> list[Any]:
        return [*self._prompts, *self._slots]


def rates_of(optimizer: Any) -> str:
    """Return an optimiser's learning rate or rates as a text, `"learning_rate=0.3"`."""
    rates = getattr(optimizer, "learning_rates", None)
    if rates is None:
        rate = float(ops.convert_to_numpy(optimizer.learning_rate))
        return f"learning_rate={rate:.7g}"  # a float32, 0.3 and not 0.30000001192092896
    return f"learning_rate={rates}"


def _is_finite(variable: Any) -> bool:
    values = np.asarray(ops.convert_to_numpy(variable))
    return values.dtype.kind in "iub" or bool(np.isfinite(values).all())
