"""CTranslate2, which runs on the CPU or on an Nvidia GPU, in float32 or in 8 bits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base import reading
from keras_spot.base.errors import damaged, missing_extra
from keras_spot.base.types import PathLike
from keras_spot.serving.engines.base import Rows, TokenEngine
from keras_spot.tasks.card import TASK_FILE

__all__ = ["CTranslate2Engine"]

_LIMIT = 1 << 28  # bytes of a vocabulary


class CTranslate2Engine(TokenEngine):
    """A folder of `keras-spot export --format ctranslate2`.

    Args:
        folder: see `Engine`.
        batch_size: see `Engine`.
        device: `"cpu"` (default), `"cuda"` or `"auto"`.
        compute_type: CTranslate2's, such as `"int8"`. Default: what the folder was written in.
        threads: see `TokenEngine.start`; a GPU computes a batch in one part.

    Raises:
        MissingExtra: ctranslate2 is not installed.
    """

    name = "ctranslate2"

    def __init__(
        self,
        folder: PathLike,
        batch_size: int = 32,
        *,
        device: str = "cpu",
        compute_type: str = "default",
        threads: int = 0,
    ) -> None:
        try:
            import ctranslate2
        except ModuleNotFoundError:
            raise missing_extra("ctranslate2", "ctranslate2") from None
        self._options = {"device": device, "compute_type": compute_type}
        super().__init__(folder, batch_size)
        words = self.facts.get("words")
        if not isinstance(words, dict) or list(words) != list(self.cards):
            rule = "must have the words of each prompt"
            raise damaged(self.folder / TASK_FILE, rule, argument="folder")
        self._words: dict[str, list[str]] = words
        self._tokens = _vocabulary(self.folder)
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        on_gpu = device == "cuda" or (device == "auto" and ctranslate2.get_cuda_device_count() > 0)
        self.start(threads, 1 if on_gpu else None)

    def load(self, threads: int, parts: int) -> None:
        import ctranslate2

        self._translator: Any = None  # at most one at a time
        self._translator = ctranslate2.Translator(
            str(self.folder), inter_threads=parts, intra_threads=threads, **self._options
        )

    def generate_ids(self, rows: Rows, prompts: Sequence[Any], length: int) -> list[list[int]]:
        results = self._translator.translate_batch(
            self._sources(rows, prompts),
            beam_size=1,
            max_input_length=0,
            min_decoding_length=0,
            max_decoding_length=length,
        )
        return [[self._ids[token] for token in result.hypotheses[0]] for result in results]

    def score_ids(self, rows: Rows, prompts: Sequence[Any], candidates: Rows) -> np.ndarray:
        sources = self._sources(rows, prompts)
        targets = [[self._tokens[i] for i in row[:-1]] for row in candidates]
        results = self._translator.score_batch(
            [source for source in sources for _ in targets],
            targets * len(sources),
            max_input_length=0,
            max_batch_size=self.rows_at_once(candidates),
        )
        sums = [sum(result.log_probs) for result in results]
        return np.array(sums, "float32").reshape(len(sources), len(targets))

    def _sources(self, rows: Rows, prompts: Sequence[str]) -> list[list[str]]:
        tokens = self._tokens
        return [[*self._words[name], *(tokens[i] for i in row)] for row, name in zip(rows, prompts)]


def _vocabulary(folder: Path) -> list[str]:
    """Return the target vocabulary, which has a name for each id."""
    for name in ("target_vocabulary.json", "shared_vocabulary.json"):
        if (folder / name).is_file():
            tokens = reading.read_json(folder / name, argument="folder", limit=_LIMIT)
            if isinstance(tokens, list) and all(isinstance(token, str) for token in tokens):
                return tokens
    rule = "must hold the vocabulary of a CTranslate2 model"
    raise damaged(folder, rule, "none", argument="folder")
