"""ONNX Runtime, which runs on CPUs and many other processors, in float32 or in 8 bits."""

from collections.abc import Sequence

import numpy as np

from keras_spot.base.errors import missing_extra
from keras_spot.base.types import PathLike
from keras_spot.model.export.onnx.answer import Answerer
from keras_spot.serving.engines.base import Rows, TokenEngine


class OnnxRuntimeEngine(TokenEngine):
    """A folder of `keras-spot export --format onnx`.

    Args:
        folder: see `Engine`.
        batch_size: see `Engine`.
        threads: of one product. Default 0: ONNX Runtime's own choice.
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
        try:
            self._answerer = Answerer(self.folder, threads, providers)
        except ModuleNotFoundError as error:
            raise missing_extra(str(error.name), "onnx") from None

    def generate_ids(self, rows: Rows, prompts: Sequence[int], length: int) -> list[list[int]]:
        return self._answerer.generate_ids(rows, prompts, length)

    def score_ids(self, rows: Rows, prompts: Sequence[int], candidates: Rows) -> np.ndarray:
        return self._answerer.score_ids(rows, prompts, candidates)
