"""ONNX Runtime, which runs on CPUs and many other processors, in float32 or in 8 bits."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_spot.base.errors import missing_extra
from keras_spot.base.types import PathLike
from keras_spot.model.export.onnx.answer import Answerer
from keras_spot.serving.engines.base import Rows, TokenEngine
from keras_spot.serving.held import HeldPrompt

__all__ = ["OnnxRuntimeEngine"]


class OnnxRuntimeEngine(TokenEngine):
    """A folder of `keras-spot export --format onnx`.

    Each prompt of a call may also be a `HeldPrompt`, which was never exported, of any length.

    Args:
        folder: see `Engine`.
        batch_size: see `Engine`.
        threads: see `TokenEngine.start`; other processors than the CPU compute a batch in one part.
        providers: ONNX Runtime's, such as `["CUDAExecutionProvider"]`. Default: the CPU.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """

    name = "onnxruntime"

    def __init__(
        self,
        folder: PathLike,
        batch_size: int = 32,
        *,
        threads: int = 0,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        super().__init__(folder, batch_size)
        # What sees only itself is constants in the graphs.
        self.takes_prompts = self.facts.get("prompt_attention") == "full"
        self._providers = list(providers)
        on_cpu = self._providers == ["CPUExecutionProvider"]
        try:
            self.start(threads, None if on_cpu else 1)
        except ModuleNotFoundError as error:
            raise missing_extra(str(error.name), "onnx") from None

    def load(self, threads: int, parts: int) -> None:
        del parts  # a session takes any number
        self._answerer: Any = None  # at most one at a time
        self._answerer = Answerer(self.folder, threads, self._providers)

    def generate_ids(
        self, rows: Rows, prompts: Sequence[str | HeldPrompt], length: int
    ) -> list[list[int]]:
        answers: list[list[int]] = [[] for _ in rows]
        for places, numbers, values in self._groups(prompts):
            own = [rows[place] for place in places]
            for place, ids in zip(
                places, self._answerer.generate_ids(own, numbers, length, values)
            ):
                answers[place] = ids
        return answers

    def score_ids(
        self, rows: Rows, prompts: Sequence[str | HeldPrompt], candidates: Rows
    ) -> np.ndarray:
        scores = np.zeros((len(rows), len(candidates)), "float32")
        for places, numbers, values in self._groups(prompts):
            own = [rows[place] for place in places]
            scores[places] = self._answerer.score_ids(own, numbers, candidates, values)
        return scores

    def _groups(self, prompts: Sequence[Any]) -> Iterator[tuple[list[int], list[int], Any]]:
        """Yield places of rows, the numbers of their prompts, and prompts that are not exported.

        Those of one length go together, `[U, P, H]`; None stands for the exported ones.
        """
        groups: dict[int | None, list[int]] = {}
        for place, prompt in enumerate(prompts):
            length = len(prompt.values) if isinstance(prompt, HeldPrompt) else None
            groups.setdefault(length, []).append(place)
        for length, places in groups.items():
            own = [prompts[place] for place in places]
            known: list[Any] = list(self.cards) if length is None else list(dict.fromkeys(own))
            numbers = [known.index(prompt) for prompt in own]
            held = None if length is None else np.stack([prompt.values for prompt in known])
            yield places, numbers, held
