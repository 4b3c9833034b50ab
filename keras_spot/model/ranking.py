"""Log-likelihoods of labels, as T5's rank classification takes them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spot.base import layouts
from keras_spot.base.errors import invalid
from keras_spot.base.types import Tensor
from keras_spot.model.replicas import by_replicas
from keras_spot.model.texts import label_length, pad_rows, static_rows, token_rows

__all__ = ["Ranker"]


class Ranker:
    """What tells how likely labels are after texts, and the functions compiled for that.

    Args:
        model: `PromptedT5`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._functions: dict[tuple[int, ...], Callable[..., Any]] = {}

    @property
    def _strategy(self) -> Any:
        """The tf.distribute strategy of the model, None without one."""
        return getattr(self.model, "_distribute_strategy", None)  # TensorFlow's models alone

    def forget(self) -> None:
        """Forget the compiled functions, as the model is compiled anew."""
        self._functions.clear()

    def log_likelihoods(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        batch_size: int = 32,
        prompt: Any = None,
        answered: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """Return the log-likelihood of every label after every text, float32 `[texts, labels]`.

        The sum over a label's tokens, end of sequence included. The encoder runs once a text; only
        the short decoder runs once a label.

        Args:
            texts: a list of texts.
            labels: a list of texts; each is cut to the input or the target length, what is more.
            batch_size: texts at once. Default 32.
            prompt: of a bank, one prompt for all texts by name or number, or a list with one for
                each.
            answered: called with the number of texts of every batch, once they are ranked.

        Raises:
            InvalidArgument: no labels, or a batch size that is no positive integer.
        """
        if not labels:
            raise invalid("labels", "must hold at least one label", f"{labels!r}")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise invalid("batch_size", "must be a positive integer", f"{batch_size=}")
        model = self.model
        front = model.preprocessor
        limit = label_length(front.encoder_sequence_length, front.decoder_sequence_length)
        answers = token_rows(front, list(labels), limit=limit)
        targets = [np.asarray([row], "int32") for row in answers]
        rows = model.token_rows(list(texts))
        index = model.prompt_numbers(prompt, len(rows))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        result = np.zeros((len(rows), len(labels)), "float32")
        static = keras.config.backend() == "jax" or self._strategy is not None
        at_once = layouts.rows_at_once(model.distribution)
        sizes = batch_size, model.preprocessor.encoder_sequence_length, at_once
        function = self._function(tuple(target.shape[1] for target in targets))
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            of_chunk = [rows[i] for i in chunk]
            padded = static_rows(of_chunk, *sizes) if static else pad_rows(of_chunk)
            inputs = list(padded)
            if index is not None:
                inputs.append(np.pad(index[chunk], (0, len(inputs[0]) - len(chunk)), "edge"))
            with model.soft_prompt.folded():
                scores = function(inputs, targets)
            result[chunk] = np.stack(list(map(np.asarray, scores)), axis=1)[: len(chunk)]
            if answered is not None:
                answered(len(chunk))
        return result

    def _function(self, lengths: tuple[int, ...]) -> Callable[..., Any]:
        """Return the compiled function for labels of these lengths.

        With known lengths the decoder can tell whether absorbed cross-attention is cheaper.
        """
        model, backend = self.model, keras.config.backend()
        if model.run_eagerly or backend not in ("tensorflow", "jax"):
            return self.of_batch
        if lengths not in self._functions:
            if backend == "jax":
                compiled = self._jax_function()
            elif self._strategy is not None:
                compiled = by_replicas(self._strategy, self.of_batch)
            else:
                compiled = self._tf_function(lengths)
            self._functions[lengths] = compiled
        return self._functions[lengths]

    def _tf_function(self, lengths: tuple[int, ...]) -> Callable[..., Any]:
        import tensorflow as tf

        inputs = [tf.TensorSpec([None, None], "int32")] * 2
        if self.model.num_prompts is not None:
            inputs.append(tf.TensorSpec([None], "int32"))
        labels = [tf.TensorSpec([1, length], "int32") for length in lengths]
        return tf.function(self.of_batch, input_signature=[inputs, labels], autograph=False)

    def _jax_function(self) -> Callable[..., Any]:
        import jax

        variables, distribution = self.model.variables, self.model.distribution

        @jax.jit
        def compiled(state, inputs, targets):
            with keras.StatelessScope(state_mapping=zip(variables, state)):
                return layouts.gathered(self.of_batch(inputs, targets), distribution)

        def run(inputs, targets):
            return compiled(
                [v.value for v in variables], layouts.placed(inputs, distribution), targets
            )

        return run

    def of_batch(self, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Tensor]:
        """Return the log-likelihoods `[B]` of each target after each row.

        Args:
            inputs: token ids and mask of the encoder, `[B, T]` each; of a bank also the numbers
                `[B]` of the rows' prompts.
            targets: `[1, D]` each, padded with 0, which counts for nothing.
        """
        states, mask = self.model.forward_pass.encode(*inputs)
        batch = ops.shape(states)[0]
        rows = [ops.broadcast_to(target, (batch, ops.shape(target)[1])) for target in targets]
        return [self.of_targets(states, mask, target) for target in rows]

    def of_targets(self, states: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """Return the log-likelihoods `[B]` of a target for each row, given encoder states.

        Args:
            states: `[B, P + T, H]`.
            mask: `[B, P + T]`.
            targets: `[B, D]` token ids, padded with 0, which counts for nothing.
        """
        shifted = ops.pad(targets[:, :-1], [[0, 0], [1, 0]])
        logits = self.model.forward_pass.decode(shifted, ops.ones_like(shifted), states, mask)
        logits = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        scores = ops.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return ops.sum(ops.where(targets == 0, 0.0, scores), axis=1)
