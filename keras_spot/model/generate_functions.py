"""The compiled functions that answer a batch of token ids, for every backend and strategy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import keras_hub
from keras import ops

from keras_spot.base import layouts
from keras_spot.base.errors import invalid
from keras_spot.base.types import Tensor
from keras_spot.model import samplers
from keras_spot.model.replicas import by_replicas

if TYPE_CHECKING:
    from keras_spot.model.prompted_t5 import PromptedT5

__all__ = ["INPUTS", "Answers", "Batch", "Function", "Stops", "compiled"]

INPUTS = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids", "decoder_padding_mask")

Batch: TypeAlias = Mapping[str, Tensor]
Answers: TypeAlias = dict[str, Tensor]
Stops: TypeAlias = Sequence[int] | None
Function: TypeAlias = Callable[..., Answers]  # of a batch and `stop_token_ids`


def compiled(step: Function, model: PromptedT5, sampler: keras_hub.samplers.Sampler) -> Function:
    """Return a `step` of `Generator` as the backend, the strategy and `jit_compile` compile it.

    The function returned refuses a batch `[B, 1]` of decoder inputs, with `InvalidArgument`.
    """
    backend = keras.config.backend()
    # Somebody's own sampler may branch on tensors in Python.
    autograph = not samplers.is_known(sampler)
    function: Function
    if model.run_eagerly or backend not in ("tensorflow", "jax"):
        function = step
    elif backend == "jax":
        function = _jax_function(step, model, sampler)
    elif model._distribute_strategy is not None:
        function = _replica_function(step, model, autograph)
    elif model.jit_compile:
        function = _xla_function(step, autograph)
    else:
        function = _one_trace_function(step, model, samplers.keeps_rows(sampler), autograph)

    def generate_function(inputs: Batch, stop_token_ids: Stops = None) -> Answers:
        # No stop token at all is what None says, too.
        stops = None if stop_token_ids is None else tuple(map(int, stop_token_ids)) or None
        batch = {key: ops.cast(inputs[key], "int32") for key in _keys(model)}
        if batch[INPUTS[2]].shape[1] < 2:
            rule = "must leave room behind the start token"
            raise invalid("decoder_token_ids", rule, f"shape={batch[INPUTS[2]].shape}")
        with model.soft_prompt.folded():
            return function(batch, stop_token_ids=stops)

    return generate_function


def _keys(model: PromptedT5) -> tuple[str, ...]:
    return INPUTS if model.num_prompts is None else (*INPUTS, "prompt_index")


def _one_trace_function(
    step: Function, model: PromptedT5, keeps_rows: bool, autograph: bool
) -> Function:
    import tensorflow as tf

    keys = _keys(model)

    @functools.cache
    def traced(stops, rows, length):
        spec = {key: tf.TensorSpec([rows, None], "int32", name=key) for key in INPUTS[:2]}
        for key in INPUTS[2:]:
            spec[key] = tf.TensorSpec([rows, length], "int32", name=key)
        for key in keys[len(INPUTS) :]:
            spec[key] = tf.TensorSpec([rows], "int32", name=key)
        return tf.function(
            lambda batch: step(batch, stops), input_signature=[spec], autograph=autograph
        )

    def run(batch, stop_token_ids):
        rows, length = batch[INPUTS[2]].shape
        return traced(stop_token_ids, 1 if rows == 1 and keeps_rows else None, length)(batch)

    return run


def _xla_function(step: Function, autograph: bool) -> Function:
    import tensorflow as tf

    @functools.cache
    def traced(stops):
        return tf.function(lambda batch: step(batch, stops), jit_compile=True, autograph=autograph)

    return lambda batch, stop_token_ids: traced(stop_token_ids)(batch)


def _jax_function(step: Function, model: PromptedT5, sampler: Any) -> Function:
    import jax

    @functools.partial(jax.jit, static_argnames="stop_token_ids")
    def compiled(batch, state, stop_token_ids):
        variables = [*model.variables, *sampler.variables]
        with keras.StatelessScope(state_mapping=zip(variables, state)) as scope:
            out = layouts.gathered(step(batch, stop_token_ids), model.distribution)
        return out, [scope.get_current_value(variable) for variable in sampler.variables]

    def run(batch, stop_token_ids):
        state = [variable.value for variable in (*model.variables, *sampler.variables)]
        batch = layouts.placed(batch, model.distribution)
        # KerasHub's samplers mix int32 and Python's numbers, which JAX makes int64 where it may.
        with jax.enable_x64(False):
            out, seeds = compiled(batch, state, stop_token_ids=stop_token_ids)
        for variable, seed in zip(sampler.variables, seeds):
            variable.assign(seed)
        return out

    return run


def _replica_function(step: Function, model: PromptedT5, autograph: bool) -> Function:
    @functools.cache
    def traced(stops):
        return by_replicas(model._distribute_strategy, lambda batch: step(batch, stops), autograph)

    return lambda batch, stop_token_ids: traced(stop_token_ids)(batch)
