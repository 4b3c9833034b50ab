"""What the signatures of a SavedModel compute, from token ids on: answers and log-likelihoods.

Letters: B rows, T input tokens, P prompt tokens, H hidden width, K prompts that were exported,
U prompts that a request brings, D target tokens, L answers to choose from.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_spot.model import samplers
from keras_spot.model.plain.forward import PlainT5

__all__ = ["INDEX", "NONE", "ROWS", "Core", "GivenPrompts"]

ROWS = [tf.TensorSpec([None, None], tf.int32, "ids"), tf.TensorSpec([None, None], tf.int32, "mask")]
NONE = tf.float32.min  # the score of no answer: JSON has no infinity
INDEX = tf.TensorSpec([None], tf.int32, "prompt_index")


class GivenPrompts:
    """Prompts that a request brings, where `PlainT5` takes the layer `SoftPrompt`.

    Args:
        values: `[U, P, H]`.
    """

    def __init__(self, values: tf.Tensor) -> None:
        self.values = values
        self.length = tf.shape(values)[1] if values.shape[1] is None else values.shape[1]
        self.num_prompts = -1  # a bank's, of some size

    def stacked(self, dtype: str) -> tf.Tensor:
        """Return the prompts `[U, P, H]`."""
        return tf.cast(self.values, dtype)

    def of_rows(
        self, values: tf.Tensor, prompt_index: tf.Tensor, rows: Any, axis: int = 0
    ) -> tf.Tensor:
        """Return for each of B rows what there is once a prompt."""
        return tf.gather(values, prompt_index, axis=axis)

    def extend_mask(self, mask: tf.Tensor) -> tf.Tensor:
        """Return a padding mask `[B, T]` as `[B, P + T]`."""
        front = tf.ones([tf.shape(mask)[0], self.length], mask.dtype)
        return tf.concat([front, mask], axis=1)


class Core:
    """The functions that signatures share, each traced once.

    Args:
        model: `PromptedT5`, whose sampler decodes.
        max_length: D, target tokens at most.
        jit_compile: let XLA compile them, for inputs of few shapes.

    Attributes:
        variables: what a SavedModel must hold for them.
        generate_given: the function of ids, mask, prompts `[U, P, H]` and each row's number of them
            to the answers' ids `[B, D]` and where they count.
    """

    def __init__(self, model: Any, max_length: int, jit_compile: bool = False) -> None:
        self.model, self.length, self.jit_compile = model, max_length + 1, jit_compile
        # A prompt that does not see the tokens is encoded now, once for all.
        self._states = model.forward_pass.prompt_states()
        prompts = {id(variable) for variable in model.soft_prompt.variables}
        weights = [weight for weight in model.weights if id(weight) not in prompts]
        self.variables = [w.value for w in (*weights, *model.sampler.variables)]
        self._bank = [] if model.num_prompts is None else [INDEX]
        self._given = [
            tf.TensorSpec([None, None, model.backbone.hidden_dim], name="prompts"),
            INDEX,
        ]
        self.generate_given = self._for_few_or_many(self._generate_given, self._given)
        if self._states is None:
            stacked = model.soft_prompt.stacked("float32")
            self._table = tf.Variable(stacked, trainable=False, name="prompts")
            self.variables.append(self._table)
        else:
            self._generate_named = self._for_few_or_many(self._generate_with_states, self._bank)

    def generate(self, ids: tf.Tensor, mask: tf.Tensor, *index: tf.Tensor) -> Any:
        """Return what `generate_given` does, with the exported prompts, of a bank by number."""
        if self._states is not None:
            return self._generate_named(ids, mask, *index)
        return self.generate_given(ids, mask, *self._asked(ids, *index))

    def scores_given(self, targets: Sequence[int | None]) -> Callable[..., tf.Tensor]:
        """Return the function of ids, mask, targets, prompts and numbers to scores `[B, L]`.

        Args:
            targets: the targets' shape `[B, L, D]`; with a known D the cheaper attention is chosen.
        """
        return self._traced(self._scores_given, [tf.TensorSpec(targets, tf.int32), *self._given])

    def scores(self, targets: Sequence[int | None]) -> Callable[..., tf.Tensor]:
        """Return the function of ids, mask, targets and, of a bank, numbers to scores `[B, L]`."""
        spec = tf.TensorSpec(targets, tf.int32)
        if self._states is not None:
            return self._traced(self._scores_with_states, [spec, *self._bank])
        function = self.scores_given(targets)
        return lambda ids, mask, targets, *index: function(
            ids, mask, targets, *self._asked(ids, *index)
        )

    # === Traces ===

    def _traced(self, compute: Callable[..., Any], more: Sequence[tf.TensorSpec]) -> Any:
        specs, jit = [*ROWS, *more], self.jit_compile or None
        return tf.function(compute, input_signature=specs, autograph=False, jit_compile=jit)

    def _for_few_or_many(self, compute: Callable[..., Any], more: Sequence[tf.TensorSpec]) -> Any:
        """Return a function of rows; a single row has a trace of its own where that is faster."""
        many = self._traced(compute, more)
        model = self.model
        keeps_rows = samplers.keeps_rows(model.sampler)
        if not keeps_rows or self.jit_compile or model.kernels_used == "plain":
            return many
        specs = [
            spec if spec.name == "prompts" else tf.TensorSpec([1, *spec.shape[1:]], spec.dtype)
            for spec in (*ROWS, *more)
        ]
        one = tf.function(compute, input_signature=specs, autograph=False)

        def either(*inputs: tf.Tensor) -> Any:
            single = tf.equal(tf.shape(inputs[0])[0], 1)
            return tf.cond(single, lambda: one(*inputs), lambda: many(*inputs))

        return either

    # === Encoder ===

    def _asked(self, ids: tf.Tensor, *index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the prompts `[U, P, H]` that rows ask for, and each row's number of them.

        Of a thousand prompts only those are computed with.
        """
        if not index:
            return tf.convert_to_tensor(self._table), tf.zeros_like(ids[:, 0])
        distinct, own = tf.unique(index[0])
        return tf.gather(self._table, distinct), own

    def _encode_given(
        self, ids: tf.Tensor, mask: tf.Tensor, prompts: tf.Tensor, index: tf.Tensor
    ) -> Any:
        model = self.model
        given: Any = GivenPrompts(prompts)
        return PlainT5(model.backbone, given, model.prompt_attention).encode(ids, mask, index)

    def _encode_with_states(self, ids: tf.Tensor, mask: tf.Tensor, *index: tf.Tensor) -> Any:
        return self.model.forward_pass.encode(ids, mask, *(index or [None]), self._states)

    # === Answers ===

    def _generate_given(
        self, ids: tf.Tensor, mask: tf.Tensor, prompts: tf.Tensor, index: tf.Tensor
    ) -> Any:
        return self._decode(*self._encode_given(ids, mask, prompts, index))

    def _generate_with_states(self, ids: tf.Tensor, mask: tf.Tensor, *index: tf.Tensor) -> Any:
        return self._decode(*self._encode_with_states(ids, mask, *index))

    def _decode(self, states: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = tf.shape(states)[0] if states.shape[0] is None else states.shape[0]
        first, rest = tf.ones((batch, 1), "int32"), tf.zeros((batch, self.length - 1), "int32")
        given = tf.concat([first, rest], axis=1)
        end = self.model.preprocessor.tokenizer.end_token_id
        generator = self.model.generator
        out = generator.decode(states, mask, tf.zeros_like(given), given, (end,))
        return out["decoder_token_ids"][:, 1:], out["decoder_padding_mask"][:, 1:]

    # === Log-likelihoods ===

    def _scores_given(
        self,
        ids: tf.Tensor,
        mask: tf.Tensor,
        targets: tf.Tensor,
        prompts: tf.Tensor,
        index: tf.Tensor,
    ) -> tf.Tensor:
        return self._rank(targets, *self._encode_given(ids, mask, prompts, index))

    def _scores_with_states(
        self, ids: tf.Tensor, mask: tf.Tensor, targets: tf.Tensor, *index: tf.Tensor
    ) -> tf.Tensor:
        return self._rank(targets, *self._encode_with_states(ids, mask, *index))

    def _rank(self, targets: tf.Tensor, states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Return the log-likelihoods `[B, L]` of targets `[B, L, D]`, `NONE` without one."""
        slots = tf.shape(targets)[1]
        some = tf.debugging.Assert(slots > 0, ["`candidates` must hold at least one text"])
        with tf.control_dependencies([some]):
            slots = tf.identity(slots)

        def score(slot: tf.Tensor, scores: tf.TensorArray) -> Any:
            own = self.model.ranker.of_targets(states, mask, targets[:, slot])
            return slot + 1, scores.write(slot, own)

        array = tf.TensorArray(tf.float32, size=slots, element_shape=[states.shape[0]])
        _, array = tf.while_loop(
            lambda slot, _: slot < slots, score, (tf.constant(0), array), parallel_iterations=1
        )
        there = tf.reduce_any(targets != 0, axis=-1)
        return tf.where(there, tf.transpose(array.stack()), NONE)
