"""Cached decoding of texts and token ids."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras_hub
import numpy as np
from keras import ops

from keras_spot.base import layouts
from keras_spot.base.errors import invalid
from keras_spot.base.fields import POSITIVE
from keras_spot.base.types import Tensor
from keras_spot.data.texts import clean, clean_text
from keras_spot.model import feeding, samplers
from keras_spot.model.generate_functions import INPUTS, Answers, Batch, Function, Stops, compiled
from keras_spot.model.texts import pad_rows, static_rows, token_rows
from keras_spot.tasks.values import shown

if TYPE_CHECKING:
    from keras_spot.model.prompt_tuning import WhichPrompt
    from keras_spot.model.prompted_t5 import PromptedT5

__all__ = ["Generator"]

_FUNCTIONS = 8  # compiled functions that are remembered


class Generator:
    """What answers texts and token ids with a `PromptedT5`, and the functions compiled for that.

    Args:
        model: `PromptedT5`.
    """

    def __init__(self, model: PromptedT5) -> None:
        self.model = model
        self._functions: dict[Any, Function] = {}

    def forget(self) -> None:
        """Forget the compiled functions, as the model is compiled anew."""
        self._functions.clear()

    def generate(
        self,
        inputs: Any,
        max_length: int | None,
        stop_token_ids: Sequence[int] | str | None,
        strip_prompt: bool,
        batch_size: int,
        prompt: WhichPrompt,
        sampler: keras_hub.samplers.Sampler | str | None,
        answered: Callable[[int], object] | None = None,
        warns: bool = False,
    ) -> Any:
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
            if isinstance(inputs, Mapping):
                feeding.check_numbers(self.model, inputs)
            view = _WithFunction(self.model, self.function(sampler))
            return keras_hub.models.Seq2SeqLM.generate(
                view, inputs, max_length, stop_token_ids, strip_prompt
            )
        texts, is_one = given
        options = max_length, stop_token_ids, batch_size, prompt, sampler, answered, warns
        answers = self._answers(texts, *options)
        return answers[0] if is_one else answers

    def _answers(
        self,
        texts: list[str],
        max_length: int | None,
        stop_token_ids: Sequence[int] | str | None,
        batch_size: int,
        prompt: WhichPrompt,
        sampler: keras_hub.samplers.Sampler | str | None,
        answered: Callable[[int], object] | None,
        warns: bool,
    ) -> list[str]:
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

    def step(
        self,
        inputs: Batch,
        stop_token_ids: Stops = None,
        prompt_states: Any = None,
        sampler: keras_hub.samplers.Sampler | None = None,
    ) -> Answers:
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

    def decode(
        self,
        states: Tensor,
        mask: Tensor,
        ids: Tensor,
        given: Tensor,
        stop_token_ids: Stops = None,
        sampler: keras_hub.samplers.Sampler | None = None,
    ) -> Answers:
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

    def function(self, sampler: keras_hub.samplers.Sampler | str | None = None) -> Function:
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
            step = functools.partial(self.step, sampler=sampler)
            self._functions[key] = compiled(step, self.model, sampler)
        return self._functions[key]


class _WithFunction:
    """A model as its base class' `generate` sees it, with the function of another sampler."""

    def __init__(self, model: PromptedT5, function: Function) -> None:
        self._model, self._function = model, function

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def make_generate_function(self) -> Function:
        return self._function


def _check_stops(stop_token_ids: Any) -> None:
    """Raise InvalidArgument for stop tokens that are neither "auto", None nor ids."""
    if stop_token_ids is None or (isinstance(stop_token_ids, str) and stop_token_ids == "auto"):
        return
    ids = None if isinstance(stop_token_ids, (str, bytes)) else stop_token_ids
    if not isinstance(ids, Iterable) or not all(isinstance(i, numbers.Integral) for i in ids):
        rule = "must be 'auto', None or a list of token ids"
        raise invalid("stop_token_ids", rule, f"{stop_token_ids=}")


def _as_texts(inputs: Any) -> tuple[list[str], bool] | None:
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


def _hidden_states(next: Callable[..., Any], ids: Tensor, decoder: Any) -> dict[str, Tensor]:
    """Return what contrastive search wants: the states `[B, D, H]`, of the start token so far."""
    _, first, _ = next(ids, decoder.cache, 1)
    padding = [[0, 0], [0, ops.shape(ids)[1] - 1], [0, 0]]
    # No state is 0: the sampler divides by their lengths.
    return {"hidden_states": ops.pad(first[:, None], padding, constant_values=1.0)}


def _batch(ids: np.ndarray, mask: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """Return int32 arrays for `generate_step`, given padded rows."""
    start = np.zeros((len(ids), length + 1), "int32")
    given = start.copy()
    given[:, 0] = 1
    return dict(zip(INPUTS, (ids, mask, start, given)))
