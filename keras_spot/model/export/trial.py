"""What was written is run once, beside the model itself, before it gets its place."""

from typing import Any

import numpy as np
from keras import ops

from keras_spot.model.texts import pad_rows

__all__ = ["Trial"]

_TEXTS = ("this is a fine film", "it rains, and nobody answered the question: why?")


class Trial:
    """Two short texts, a target, and the model's own logits for them.

    Args:
        model: `PromptedT5`, of one prompt or a bank: then the texts have its first and its last.

    Attributes:
        rows: token ids of the texts, end token last.
        prompts: the number of each text's prompt.
        target: `[2, D]` int32 decoder inputs, the start token first; what follows it is a target.
        logits: `[2, D, V]` float32.
    """

    def __init__(self, model: Any) -> None:
        self.rows = [row[:16] for row in model.token_rows(list(_TEXTS))]
        last = (model.num_prompts or 1) - 1
        self.prompts = [0, last]
        self.ids, self.mask = pad_rows(self.rows)
        words = [row[:4] for row in self.rows[::-1]]
        self.target = np.array([[0, *row] for row in words], "int32")
        index = None if model.num_prompts is None else ops.convert_to_tensor(self.prompts)
        states, mask = model.forward_pass.encode(self.ids, self.mask, index)
        logits = model.forward_pass.decode(self.target, np.ones_like(self.target), states, mask)
        self.logits = np.asarray(ops.convert_to_numpy(ops.cast(logits, "float32")))

    def check(self, logits: np.ndarray, what: str, tolerance: float = 1e-3) -> None:
        """Raise RuntimeError unless what another engine computes are the model's logits.

        Args:
            logits: `[2, D, V]` or more columns, which are the prompts' words.
            what: which was run, for the message.
            tolerance: root mean square of the differences at most, as a share of the logits'
                spread. That of anything else's logits is above 1.
        """
        own = logits[..., : self.logits.shape[-1]]
        self._compare(own, self.logits, float(self.logits.std()), what, tolerance)

    def check_likelihoods(self, scores: np.ndarray, what: str, tolerance: float) -> None:
        """Raise RuntimeError unless these are the log-likelihoods `[2, D - 1]` of the target.

        Args: as of `check`, the tolerance a share of the likelihoods' spread.
        """
        logits = self.logits - self.logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        own = np.take_along_axis(logits[:, :-1], self.target[:, 1:, None], axis=-1)[..., 0]
        self._compare(scores, own, float(logits.std()), what, tolerance)

    def _compare(
        self, theirs: np.ndarray, own: np.ndarray, spread: float, what: str, tolerance: float
    ) -> None:
        difference = float(np.sqrt(np.square(theirs - own).mean())) / (spread + 1e-6)
        if not difference <= tolerance:  # NaN, too
            raise RuntimeError(
                f"{what} as it was written does not compute what the model does: it differs by "
                f"{difference:.2g} of the logits' spread. Nothing was put in place."
            )
