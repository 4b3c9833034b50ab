"""Cached decoding of texts and token ids."""

import functools
import numbers
from collections.abc import Iterable, Mapping

import keras
import keras_hub
import numpy as np
from keras import ops

from keras_spot.base import layouts
from keras_spot.base.errors import invalid
from keras_spot.base.fields import POSITIVE
from keras_spot.data.texts import clean, clean_text
from keras_spot.model import samplers
from keras_spot.model.texts import pad_rows, static_rows, token_rows
from keras_spot.tasks.values import shown

__all__ = ["INPUTS", "Generator"]

INPUTS = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids", "decoder_padding_mask")
_FUNCTIONS = 8  # compiled functions that are remembered


class Generator:
    """What answers texts and token ids with a `PromptedT5`, and the functions compiled for that.

    Args:
        model: `PromptedT5`.
    """

    def __init__(self, model):
        self.model = model
        self._functions = {}

    def forget(self):
        """Forget the compiled functions, as the model is compiled anew."""
        self._functions.clear()

    def generate(
        self,
        inputs,
        max_length,
        stop_token_ids,
        strip_prompt,
        batch_size,
        prompt,
        sampler,
        answered=None,
        warns=False,
    ):
        """Answer texts or token ids, see `PromptedT5.generate`.

        `answered` is called with the number of texts of every batch, once they are answered; with
        `warns` texts that are cut are counted in a `DataWarning`.
        """
        if not POSITIVE.holds(batch_size):
            raise invalid("batch_size", POSITIVE.text, f"{batch_size=}")
        if max_length is not None and not POSITIVE.holds(max_length):
            raise invalid("max_length", POSITIVE.text, f"{max_length=}")
        _check_stops(stop_token_ids)
        given = None if self.model.preprocessor is None else _as_texts(inputs)
        if given is None:
            view = _WithFunction(self.model, self.function(sampler))
            return keras_hub.models.Seq2SeqLM.generate(
                view, inputs, max_length, stop_token_ids, strip_prompt
            )
        texts, is_one = given
        options = max_length, stop_token_ids, batch_size, prompt, sampler, answered, warns
        answers = self._answers(texts, *options)
        return answers[0] if is_one else answers

    def _answers(
        self, texts, max_length, stop_token_ids, batch_size, prompt, sampler, answered, warns
    ):
        """Return the answers to a list of texts, decoded sorted by length."""
        model, preprocessor = self.model, self.model.preprocessor
        stops = stop_token_ids
        if isinstance(stops, str) and stops == "auto":
            stops = (preprocessor.tokenizer.end_token_id,)
        length = max_length or preprocessor.decoder_sequence_length
        rows = token_rows(preprocessor, texts, warns)
        index = model.prompt_numbers(prompt, len(rows))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        answers = [""] * len(rows)
        step = self.function(sampler)
        # Only TensorFlow's models have a strategy.
        strategy = getattr(model, "_distribute_strategy", None)
        static = model.jit_compile or strategy is not None
        at_once = layouts.rows_at_once(model.distribution)
        sizes = batch_size, preprocessor.encoder_sequence_length, at_once
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            of_chunk = [rows[i] for i in chunk]
            padded = static_rows(of_chunk, *sizes) if static else pad_rows(of_chunk)
            batch = _batch(*padded, length)
            if index is not None:
                fill = len(batch[INPUTS[0]]) - len(chunk)
                batch["prompt_index"] = np.pad(index[chunk], (0, fill), "edge")
            out = step(batch, stop_token_ids=stops)
            ids = ops.convert_to_numpy(out["decoder_token_ids"])[:, 1:]
            mask = ops.convert_to_numpy(out["decoder_padding_mask"])[:, 1:]
            for i, answer in zip(chunk, model.detokenize(ids, mask)):
                answers[i] = answer
            if answered is not None:
                answered(len(chunk))
        return answers

    def step(self, inputs, stop_token_ids=None, prompt_states=None, sampler=None):
        """Decode one batch of token ids with cached keys and values.

        Args:
            inputs: the model's call arguments; `decoder_padding_mask` marks given tokens,
                at least the start token.
            stop_token_ids: ids that end a row. Default: None, all D positions are filled.
            prompt_states: see `ForwardPass.prompt_states`. Default: computed anew.
            sampler: default, the model's.

        Returns:
            `decoder_token_ids` `[B, D]` and the boolean `decoder_padding_mask` `[B, D]`.
        """
        texts = inputs["encoder_token_ids"], inputs["encoder_padding_mask"]
        states, mask = self.model.forward_pass.encode(
            *texts, inputs.get("prompt_index"), prompt_states
        )
        ids, given = inputs["decoder_token_ids"], inputs["decoder_padding_mask"]
        return self.decode(states, mask, ids, given, stop_token_ids, sampler)

    def decode(self, states, mask, ids, given, stop_token_ids=None, sampler=None):
        """Decode one batch of encoder states `[B, P + T, H]` with their mask; see `step`.

        Args:
            ids: `[B, D]`, the given tokens.
            given: `[B, D]`, 1 where a token is given.
        """
        model = self.model
        sampler = model.sampler if sampler is None else sampler
        given = ops.cast(given, "bool")
        decoder = model.forward_pass.chosen.cached_decoder(states, mask, ops.shape(ids)[1])

        def next(tokens, cache, index):
            token = ops.slice(tokens, [0, index - 1], [ops.shape(tokens)[0], 1])
            x, cache = decoder.step(model.backbone.token_embedding(token)[:, 0], cache, index - 1)
            return model.forward_pass.plain.logits(x), x, cache

        ids = sampler(
            next=next,
            prompt=ids,
            cache=decoder.cache,
            # Starting at 1 needs no warm-up pass: the sampler keeps every given token.
            index=1,
            mask=given,
            stop_token_ids=stop_token_ids,
            model=model,
            **({} if samplers.keeps_rows(sampler) else _hidden_states(next, ids, decoder)),
        )
        if stop_token_ids is None:
            return {"decoder_token_ids": ids, "decoder_padding_mask": ops.ones_like(ids, "bool")}
        ended = ops.zeros_like(given)
        for stop in stop_token_ids:
            ended = ops.logical_or(ended, ops.logical_and(ids == stop, ops.logical_not(given)))
        ended = ops.cast(ended, "int32")
        after = ops.cumsum(ended, axis=-1) - ended
        return {"decoder_token_ids": ids, "decoder_padding_mask": after == 0}

    def function(self, sampler=None):
        """Return the compiled function of `(inputs, stop_token_ids)` for a sampler.

        With TensorFlow and without XLA one trace serves all inputs and, where the sampler keeps
        rows, another single rows; with XLA every shape is compiled; under a tf.distribute strategy
        the rows are dealt out to the replicas.

        Args:
            sampler: a KerasHub sampler or its name. Default: the model's.
        """
        sampler = self.model.sampler if sampler is None else samplers.get(sampler)
        key = samplers.identity(sampler)
        if key not in self._functions:
            if len(self._functions) == _FUNCTIONS:
                del self._functions[next(iter(self._functions))]
            self._functions[key] = self._compile(sampler)
        return self._functions[key]

    def _compile(self, sampler):
        model = self.model
        step = functools.partial(self.step, sampler=sampler)
        backend = keras.config.backend()
        if model.run_eagerly or backend not in ("tensorflow", "jax"):
            compiled = step
        elif backend == "jax":
            compiled = _jax_function(step, model, sampler)
        elif model._distribute_strategy is not None:
            compiled = _replica_function(step, model)
        elif model.jit_compile:
            compiled = _xla_function(step)
        else:
            compiled = _one_trace_function(step, model, samplers.keeps_rows(sampler))

        def generate_function(inputs, stop_token_ids=None):
            # No stop token at all is what None says, too.
            stops = None if stop_token_ids is None else tuple(map(int, stop_token_ids)) or None
            batch = {key: ops.cast(inputs[key], "int32") for key in _keys(model)}
            if batch[INPUTS[2]].shape[1] < 2:
                rule = "must leave room behind the start token"
                raise invalid("decoder_token_ids", rule, f"shape={batch[INPUTS[2]].shape}")
            with model.soft_prompt.folded():
                return compiled(batch, stop_token_ids=stops)

        return generate_function


class _WithFunction:
    """A model as its base class' `generate` sees it, with the function of another sampler."""

    def __init__(self, model, function):
        self._model, self._function = model, function

    def __getattr__(self, name):
        return getattr(self._model, name)

    def make_generate_function(self):
        return self._function


def _check_stops(stop_token_ids):
    """Raise InvalidArgument for stop tokens that are neither "auto", None nor ids."""
    if stop_token_ids is None or (isinstance(stop_token_ids, str) and stop_token_ids == "auto"):
        return
    ids = None if isinstance(stop_token_ids, (str, bytes)) else stop_token_ids
    if not isinstance(ids, Iterable) or not all(isinstance(i, numbers.Integral) for i in ids):
        rule = "must be 'auto', None or a list of token ids"
        raise invalid("stop_token_ids", rule, f"{stop_token_ids=}")


def _as_texts(inputs):
    """Return a list of texts and whether it was one text, not a list of one.

    None for what KerasHub takes apart: data sets, and mappings of more than texts to answer.

    Raises:
        InvalidArgument: something in it that is no text, or what holds no texts at all.
    """
    if isinstance(inputs, Mapping) and set(inputs) == {"encoder_text"}:
        inputs = inputs["encoder_text"]
    if isinstance(inputs, Mapping) or hasattr(inputs, "element_spec"):
        return None
    if getattr(inputs, "shape", None) == ():  # an array or tensor of one text
        inputs = inputs.numpy() if hasattr(inputs, "numpy") else inputs.item()
    if isinstance(inputs, (str, bytes)):
        return [clean_text("inputs", inputs)], True
    if not isinstance(inputs, Iterable) or hasattr(inputs, "columns"):
        kind = type(inputs).__name__
        raise invalid("inputs", "must be a text or a list of texts", f"{shown(inputs)} ({kind})")
    return clean("inputs", inputs), False


def _hidden_states(next, ids, decoder):
    """Return what contrastive search wants: the states `[B, D, H]`, of the start token so far."""
    _, first, _ = next(ids, decoder.cache, 1)
    padding = [[0, 0], [0, ops.shape(ids)[1] - 1], [0, 0]]
    # No state is 0: the sampler divides by their lengths.
    return {"hidden_states": ops.pad(first[:, None], padding, constant_values=1.0)}


def _keys(model):
    return INPUTS if model.num_prompts is None else (*INPUTS, "prompt_index")


def _batch(ids, mask, length):
    """Return int32 arrays for `generate_step`, given padded rows."""
    start = np.zeros((len(ids), length + 1), "int32")
    given = start.copy()
    given[:, 0] = 1
    return dict(zip(INPUTS, (ids, mask, start, given)))


def _one_trace_function(step, model, keeps_rows):
    import tensorflow as tf

    keys = _keys(model)

    @functools.cache
    def traced(stops, rows, length):
        spec = {key: tf.TensorSpec([rows, None], "int32", name=key) for key in INPUTS[:2]}
        for key in INPUTS[2:]:
            spec[key] = tf.TensorSpec([rows, length], "int32", name=key)
        for key in keys[len(INPUTS) :]:
            spec[key] = tf.TensorSpec([rows], "int32", name=key)
        return tf.function(lambda batch: step(batch, stops), input_signature=[spec])

    def run(batch, stop_token_ids):
        rows, length = batch[INPUTS[2]].shape
        return traced(stop_token_ids, 1 if rows == 1 and keeps_rows else None, length)(batch)

    return run


def _xla_function(step):
    import tensorflow as tf

    @functools.cache
    def traced(stops):
        return tf.function(lambda batch: step(batch, stops), jit_compile=True)

    return lambda batch, stop_token_ids: traced(stop_token_ids)(batch)


def _jax_function(step, model, sampler):
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
        out, seeds = compiled(batch, state, stop_token_ids=stop_token_ids)
        for variable, seed in zip(sampler.variables, seeds):
            variable.assign(seed)
        return out

    return run


def _replica_function(step, model):
    import tensorflow as tf

    strategy = model._distribute_strategy
    replicas = strategy.num_replicas_in_sync

    @functools.cache
    def traced(stops):
        return tf.function(
            lambda batch: strategy.run(lambda part: step(part, stops), args=(batch,))
        )

    def run(batch, stop_token_ids):
        rows = len(batch[INPUTS[0]])
        shard = -(-rows // replicas)
        # A replica without rows would crash; the filling rows are cut off again.
        fill = np.minimum(np.arange(shard * replicas), rows - 1)
        dealt = {}
        for key, values in batch.items():
            parts = np.split(np.asarray(values, "int32")[fill], replicas)
            dealt[key] = strategy.experimental_distribute_values_from_function(
                lambda context, parts=parts: tf.constant(parts[context.replica_id_in_sync_group])
            )
        out = traced(stop_token_ids)(dealt)
        return {
            key: np.concatenate(list(map(np.asarray, strategy.experimental_local_results(value))))[
                :rows
            ]
            for key, value in out.items()
        }

    return run
