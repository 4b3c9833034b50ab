"""The signatures of a SavedModel: texts in, answers, labels or log-likelihoods out.

| signature | takes | gives |
|---|---|---|
| `serving_default` | `text` [B] | `outputs` [B], `output_ids` [B, D], `error` [B] |
| `classify` | `text` [B] | `label`, `error` [B]; `labels`, `probabilities`, `scores` [B, L] |
| `score` | `text` [B], `candidates` [L] | `scores` [B, L], `error` [B] |
| `generate_ids` | `encoder_token_ids`, `encoder_padding_mask` [B, T] | ids and their mask [B, D] |
| `generate_with_prompt` | `text` [B], `prompt_matrix` [P, H] | as `serving_default` |
| `score_with_prompt` | `text` [B], `candidates` [L], `prompt_matrix` [P, H] | as `score` |
| `generate_with_prompts` | `text`, `prompt_index` [B], `prompts` [U, P, H] | as `serving_default` |
| `score_with_prompts` | the same, and `candidates` [B, L], "" for none | as `score` |
| `describe` | nothing | `task`, the text of `task.json` |

Of a bank the first three also take `prompt` [B], the name of each text's prompt, and `generate_ids`
takes `prompt_index` [B]. `error` is empty where a row was answered; a row that cannot be says why,
and the others are answered all the same. `scores` are log-likelihoods, sums over an answer's
tokens with the end of sequence; answers longer than inputs and targets may be are cut.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_spot.model.export.core import Core
from keras_spot.model.export.pieces import Pieces
from keras_spot.tasks.card import TaskCard

__all__ = ["CANDIDATES", "NAMES", "TEXTS", "Signatures"]

TEXTS = tf.TensorSpec([None], tf.string, "text")
NAMES = tf.TensorSpec([None], tf.string, "prompt")
CANDIDATES = tf.TensorSpec([None], tf.string, "candidates")


class Signatures(tf.Module):
    """The functions behind the signatures, and all that they need.

    Args:
        model: `PromptedT5` with a preprocessor.
        cards: prompt's name to its card, in the order of the prompts' numbers.
        description: the text of `task.json`.
        max_length: D, target tokens at most.
        buckets: widths to which inputs are padded, see `Pieces`.
    """

    def __init__(
        self,
        model: Any,
        cards: Mapping[str, TaskCard],
        description: str,
        max_length: int,
        buckets: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self._pieces = Pieces(model.preprocessor, max_length, buckets)
        core = Core(model, max_length, jit_compile=bool(buckets) and bool(model.jit_compile))
        # A SavedModel only holds the variables and resources that hang from its root.
        self._variables = core.variables
        self._core, self._description = _Untracked(core), description
        self._is_bank = model.num_prompts is not None
        self._vocabulary = model.backbone.vocabulary_size
        self._prompts = len(cards)
        self._matrix = tf.TensorSpec([None, model.backbone.hidden_dim], name="prompt_matrix")
        self._known = self._names_table(list(cards)) if self._is_bank else None
        self._labels = self._label_tables(list(cards.values()))
        self._limits = tf.constant(
            [card.max_target_length or max_length for card in cards.values()]
        )

    def signatures(self) -> dict[str, Any]:
        """Return the functions by the signatures' names."""
        bank = [NAMES] if self._is_bank else []
        index = [tf.TensorSpec([None], tf.int32, "prompt_index")]
        ids = [
            tf.TensorSpec([None, None], tf.int32, f"encoder_{name}")
            for name in ("token_ids", "padding_mask")
        ]
        many = [tf.TensorSpec([None, None, self._matrix.shape[1]], name="prompts"), *index]
        rows_of = tf.TensorSpec([None, None], tf.string, "candidates")
        core, any_targets = self._core.value, [None, None, None]
        self._score_given = core.scores_given(any_targets)
        self._score_named = core.scores(any_targets)
        functions = {
            "serving_default": (self._answer, [TEXTS, *bank]),
            "score": (self._score, [TEXTS, CANDIDATES, *bank]),
            "generate_ids": (self._generate_ids, [*ids, *(index if self._is_bank else [])]),
            "generate_with_prompt": (self._answer_with_prompt, [TEXTS, self._matrix]),
            "score_with_prompt": (self._score_with_prompt, [TEXTS, CANDIDATES, self._matrix]),
            "generate_with_prompts": (self._answer_with_prompts, [TEXTS, *many]),
            "score_with_prompts": (self._score_with_prompts, [TEXTS, rows_of, *many]),
            "describe": (self._describe, []),
        }
        if self._labels is not None:
            functions["classify"] = self._classify, [TEXTS, *bank]
            self._score_labels = core.scores([None, *self._labels[1].shape[1:]])
        return {
            name: tf.function(_checked(compute, specs), input_signature=specs, autograph=False)
            for name, (compute, specs) in functions.items()
        }

    # === Signatures ===

    def _answer(self, text: tf.Tensor, *prompt: tf.Tensor) -> dict[str, tf.Tensor]:
        index, error = self._numbers(text, *prompt)
        ids, kept = self._core.value.generate(*self._pieces.inputs(text), *index)
        # A task whose answers are short may stand beside one whose answers are long.
        limits = tf.gather(self._limits, index[0] if index else tf.zeros_like(ids[:, 0]))
        within = tf.range(tf.shape(ids)[1])[None, :] < limits[:, None]
        return self._answers(ids, kept & within, error)

    def _classify(self, text: tf.Tensor, *prompt: tf.Tensor) -> dict[str, tf.Tensor]:
        index, error = self._numbers(text, *prompt)
        rows = index[0] if index else tf.zeros_like(error, tf.int32)
        assert self._labels is not None
        names, targets = (tf.gather(table, rows) for table in self._labels)
        scores = self._score_labels(*self._pieces.inputs(text), targets, *index)
        free = tf.reduce_all(names == "", axis=1) & (error == "")
        error = tf.where(free, "`prompt` must be of a task with labels.", error)
        probabilities = tf.where(names == "", 0.0, tf.nn.softmax(scores, axis=1))
        best = tf.gather(names, tf.argmax(scores, axis=1), batch_dims=1)
        return {
            "label": tf.where(error == "", best, ""),
            "labels": names,
            "probabilities": tf.where(error[:, None] == "", probabilities, 0.0),
            "scores": scores,
            "error": error,
        }

    def _score(
        self, text: tf.Tensor, candidates: tf.Tensor, *prompt: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        index, error = self._numbers(text, *prompt)
        targets = self._for_each_row(candidates, text)
        scores = self._score_named(*self._pieces.inputs(text), targets, *index)
        return {"scores": scores, "error": error}

    def _generate_ids(
        self, encoder_token_ids: tf.Tensor, encoder_padding_mask: tf.Tensor, *prompt_index: Any
    ) -> dict[str, tf.Tensor]:
        ids = _in_range("encoder_token_ids", encoder_token_ids, self._vocabulary)
        mask = _in_range("encoder_padding_mask", encoder_padding_mask, 2)
        index = [_in_range("prompt_index", numbers, self._prompts) for numbers in prompt_index]
        ids, kept = self._core.value.generate(ids, mask, *index)
        return {"output_ids": ids, "output_mask": tf.cast(kept, tf.int32)}

    def _answer_with_prompt(
        self, text: tf.Tensor, prompt_matrix: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return self._answer_with_prompts(text, prompt_matrix[None], tf.zeros_like(text, tf.int32))

    def _score_with_prompt(
        self, text: tf.Tensor, candidates: tf.Tensor, prompt_matrix: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        targets = self._for_each_row(candidates, text)
        index = tf.zeros_like(text, tf.int32)
        inputs = self._pieces.inputs(text)
        scores = self._score_given(*inputs, targets, prompt_matrix[None], index)
        return {"scores": scores, "error": tf.zeros_like(text)}

    def _answer_with_prompts(
        self, text: tf.Tensor, prompts: tf.Tensor, prompt_index: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        index = _in_range("prompt_index", prompt_index, tf.shape(prompts)[0])
        inputs = self._pieces.inputs(text)
        ids, kept = self._core.value.generate_given(*inputs, prompts, index)
        return self._answers(ids, kept, tf.zeros_like(text))

    def _score_with_prompts(
        self, text: tf.Tensor, candidates: tf.Tensor, prompts: tf.Tensor, prompt_index: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        index = _in_range("prompt_index", prompt_index, tf.shape(prompts)[0])
        inputs = self._pieces.inputs(text)
        targets = self._pieces.targets(tf.reshape(candidates, [-1]))
        rows, answers = tf.shape(candidates)[0], tf.shape(candidates)[1]
        targets = tf.reshape(targets, [rows, answers, tf.shape(targets)[1]])
        scores = self._score_given(*inputs, targets, prompts, index)
        return {"scores": scores, "error": tf.zeros_like(text)}

    def _describe(self) -> dict[str, tf.Tensor]:
        return {"task": tf.constant(self._description)}

    # === Helpers ===

    def _answers(self, ids: tf.Tensor, kept: tf.Tensor, error: tf.Tensor) -> dict[str, tf.Tensor]:
        texts = tf.where(error == "", self._pieces.texts(ids, kept), "")
        return {"outputs": texts, "output_ids": ids, "error": error}

    def _for_each_row(self, candidates: tf.Tensor, text: tf.Tensor) -> tf.Tensor:
        """Return the ids `[B, L, D]` of candidates `[L]`, the same for every row."""
        targets = self._pieces.targets(candidates)
        shape = tf.concat([tf.shape(text), tf.shape(targets)], axis=0)
        return tf.broadcast_to(targets, shape)

    def _numbers(self, text: tf.Tensor, *prompt: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Return the numbers `[B]` of named prompts and what is wrong with each name."""
        if self._known is None:
            return [], tf.zeros_like(text)
        rule = "`prompt` must be one name for each of the texts. Received: shape="
        same = tf.debugging.Assert(
            tf.reduce_all(tf.shape(prompt[0]) == tf.shape(text)), [rule, tf.shape(prompt[0])]
        )
        with tf.control_dependencies([same]):
            numbers = self._known.lookup(prompt[0])
        message = tf.strings.join(
            ["`prompt` must be a known name, see `describe`. Received: prompt='", prompt[0], "'"]
        )
        return [tf.maximum(numbers, 0)], tf.where(numbers < 0, message, "")

    def _names_table(self, names: Sequence[str]) -> Any:
        numbers = tf.range(len(names), dtype=tf.int32)
        pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(names), numbers)
        return tf.lookup.StaticHashTable(pairs, default_value=-1)

    def _label_tables(self, cards: Sequence[TaskCard]) -> tuple[tf.Tensor, tf.Tensor] | None:
        """Return the labels of K prompts, texts `[K, L]` and ids `[K, L, D]`; None without any."""
        most = max(len(card.labels) for card in cards)
        if not most:
            return None
        texts = [[*card.labels, *[""] * (most - len(card.labels))] for card in cards]
        ids = self._pieces.targets(tf.constant(np.ravel(texts)))
        return tf.constant(texts), tf.reshape(ids, [len(cards), most, ids.shape[1]])


class _Untracked:
    """What Keras and TensorFlow shall not look into for variables."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _checked(compute: Any, specs: Sequence[tf.TensorSpec]) -> Any:
    """Return a function that looks at the shapes it gets: a loaded signature does not."""

    def checked(*inputs: tf.Tensor) -> Any:
        pairs = zip(inputs, specs)
        return compute(*(tf.ensure_shape(value, spec.shape) for value, spec in pairs))

    return checked


def _in_range(name: str, values: tf.Tensor, end: Any) -> tf.Tensor:
    """Return numbers, which must be from 0 on and below `end`."""
    good = tf.reduce_all((values >= 0) & (values < end))
    rule = f"`{name}` must be numbers from 0 on and below"
    with tf.control_dependencies([tf.debugging.Assert(good, [rule, end, "Received:", values])]):
        return tf.identity(values)
