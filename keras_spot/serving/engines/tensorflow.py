"""SavedModels, run by TensorFlow; new prompts can come with the request."""

import importlib.util
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from keras_spot.base import reading
from keras_spot.base.errors import MissingExtra, complaint, invalid
from keras_spot.base.quiet import without_start_up_notes
from keras_spot.base.types import PathLike
from keras_spot.data.texts import clean
from keras_spot.serving.engines.base import WRITTEN, Engine
from keras_spot.serving.held import HeldPrompt

__all__ = ["Prompts", "TensorFlowEngine"]

Prompts = Sequence[str | HeldPrompt]
_OPS = "python/ops/_sentencepiece_tokenizer.so"
_T = TypeVar("_T")


class TensorFlowEngine(Engine):
    """A SavedModel of `keras-spot export`.

    Nothing of Keras is imported, and of tensorflow_text the operations alone. Of `generate`,
    `scores` and `classify` each prompt may also be a `HeldPrompt`, which was never exported.
    """

    name = "tensorflow"
    takes_prompts = True

    def __init__(self, folder: PathLike, batch_size: int = 32) -> None:
        super().__init__(folder, batch_size)
        self._tf = tf = _tensorflow()
        with reading.parsing(self.folder, WRITTEN, "folder"):
            self._model = tf.saved_model.load(str(self.folder))
            self._signatures = self._model.signatures
            inputs = self._signatures["serving_default"].structured_input_signature[1]
        self._is_bank = "prompt" in inputs

    def generate(
        self, texts: Sequence[str], prompt: Any = None, max_length: int | None = None
    ) -> list[str]:
        if max_length is not None:
            rule = "must be None for a SavedModel, whose answers' length was set at export"
            raise invalid("max_length", rule, f"{max_length=}")
        texts = clean("texts", texts)
        prompts = self.prompts_of_rows(prompt, len(texts))
        answers = [""] * len(texts)
        for places in self._batches(texts, prompts):
            rows, which = _at(texts, places), _at(prompts, places)
            if isinstance(which[0], str):
                out = self._ask("serving_default", text=rows, **self._named(which))
            else:
                out = self._ask("generate_with_prompts", text=rows, **_matrices(which))
            for place, answer in zip(places, out["outputs"]):
                answers[place] = answer.decode()
        return answers

    def scores(
        self, texts: Sequence[str], candidates: Sequence[str], prompt: Any = None
    ) -> np.ndarray:
        if not candidates:
            raise invalid("candidates", "must hold at least one text", f"{candidates!r}")
        texts = clean("texts", texts)
        # "" is no candidate to the model, and a blank one an answer without words.
        candidates = [one or " " for one in clean("candidates", candidates)]
        prompts = self.prompts_of_rows(prompt, len(texts))
        result = np.zeros((len(texts), len(candidates)), "float32")
        for places in self._batches(texts, prompts):
            rows, which = _at(texts, places), _at(prompts, places)
            if isinstance(which[0], str):
                more = {"candidates": candidates, **self._named(which)}
                out = self._ask("score", text=rows, **more)
            else:
                more = {"candidates": [candidates] * len(rows), **_matrices(which)}
                out = self._ask("score_with_prompts", text=rows, **more)
            result[places] = out["scores"]
        return result

    def classify(self, texts: Sequence[str], prompt: Any = None) -> list[dict[str, float]]:
        texts = clean("texts", texts)
        prompts = self.prompts_of_rows(prompt, len(texts))
        cards = [self.card_of(one) for one in prompts]
        for card in cards:
            if not card.labels:
                rule = "must be of a task with labels"
                raise invalid("prompt", rule, f"prompt={card.name!r}")
        answers: list[dict[str, float]] = [{}] * len(texts)
        for places in self._batches(texts, prompts):
            rows, which = _at(texts, places), _at(prompts, places)
            labels = [cards[place].labels for place in places]
            if isinstance(which[0], str):
                shares = self._ask("classify", text=rows, **self._named(which))["probabilities"]
            else:
                most = max(map(len, labels))
                padded = [[*own, *[""] * (most - len(own))] for own in labels]
                more = {"candidates": padded, **_matrices(which)}
                shares = _softmax(self._ask("score_with_prompts", text=rows, **more)["scores"])
            for place, own, row in zip(places, labels, shares):
                answers[place] = dict(zip(own, map(float, row)))
        return answers

    # === Helpers ===

    def _batches(self, texts: Sequence[str], prompts: Prompts) -> Iterator[list[int]]:
        """Yield places of rows that one signature answers: sorted by length, at most B."""
        groups: dict[Any, list[int]] = {}
        for place in sorted(range(len(texts)), key=lambda i: len(texts[i])):
            which = prompts[place]
            group = None if isinstance(which, str) else which.values.shape[0]
            groups.setdefault(group, []).append(place)
        for places in groups.values():
            for start in range(0, len(places), self.batch_size):
                yield places[start : start + self.batch_size]

    def _named(self, names: Prompts) -> dict[str, Any]:
        return {"prompt": list(names)} if self._is_bank else {}

    def _ask(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        given = {name: self._tf.constant(value) for name, value in inputs.items()}
        out = self._signatures[signature](**given)
        return {name: value.numpy() for name, value in out.items()}


def _at(values: Sequence[_T], places: Sequence[int]) -> list[_T]:
    return [values[place] for place in places]


def _matrices(prompts: Sequence[Any]) -> dict[str, Any]:
    """Return the distinct prompts `[U, P, H]` of rows, and each row's number of them."""
    distinct = list(dict.fromkeys(prompts))
    numbers = {prompt: number for number, prompt in enumerate(distinct)}
    values = [prompt.values for prompt in distinct]
    return {
        "prompts": values[0][None] if len(values) == 1 else np.stack(values),
        "prompt_index": np.array([numbers[prompt] for prompt in prompts], "int32"),
    }


def _softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _tensorflow() -> Any:
    """Return TensorFlow with the SentencePiece operations; all of tensorflow_text brings Keras.

    As the commands do it: quietly, and with oneDNN where the processor has it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with without_start_up_notes():
        import tensorflow as tf
    package = importlib.util.find_spec("tensorflow_text")
    places = [] if package is None else list(package.submodule_search_locations or [])
    files = [file for place in places if (file := Path(place, _OPS)).is_file()]
    if not files:
        rule = "must be installed with its SentencePiece operations (pip install tensorflow-text)"
        raise MissingExtra(complaint("tensorflow_text", rule, places))
    tf.load_op_library(str(files[0]))
    return tf
