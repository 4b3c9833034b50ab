"""Cached decoding of texts and token ids."""

import functools

import keras
import numpy as np
from keras import ops

from keras_spot.base.errors import invalid
from keras_spot.model.fast.decoding import CachedDecoder

INPUTS = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids", "decoder_padding_mask")


class TextGeneration:
    """Generation for a `Seq2SeqLM` that has `encode` and `_logits` (see `PromptedT5`).

    The cache is sized from what `encode` returns, prompt positions included.
    """

    def generate(
        self,
        inputs,
        max_length=None,
        stop_token_ids="auto",
        strip_prompt=False,
        batch_size=32,
        prompt=None,
    ):
        """Answer texts (or token ids) with the compiled sampler, greedy by default.

        Texts are sorted by length and padded only to the longest of their batch; the order
        of the answers is that of the inputs.

        Args:
            inputs: a text, a list of texts, or whatever `Seq2SeqLM.generate` takes
                (dictionaries of texts or token ids, a `tf.data.Dataset`).
            max_length: target tokens at most. Default: the preprocessor's.
            stop_token_ids: as in `Seq2SeqLM.generate`.
            strip_prompt: as in `Seq2SeqLM.generate`.
            batch_size: texts decoded at once. Default 32.
            prompt: of a bank, the prompt by name or number: one for all texts, or a list with one
                for each.

        Returns:
            A text for a text, a list of texts for a list.
        """
        single = isinstance(inputs, str)
        texts = [inputs] if single else inputs
        if self.preprocessor is None or not _all_text(texts):
            return super().generate(inputs, max_length, stop_token_ids, strip_prompt)
        if batch_size < 1:
            raise invalid("batch_size", "must be a positive integer", f"{batch_size=}")
        tokenizer = self.preprocessor.tokenizer
        if stop_token_ids == "auto":
            stop_token_ids = (tokenizer.end_token_id,)
        length = max_length or self.preprocessor.decoder_sequence_length
        rows = self.token_rows(list(texts))
        index = self.prompt_numbers(prompt, len(rows))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        answers = [""] * len(rows)
        step = self.make_generate_function()
        static = self.jit_compile or self._distribute_strategy is not None
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            batch = _batch([rows[i] for i in chunk], length, batch_size if static else None)
            if index is not None:
                fill = len(batch[INPUTS[0]]) - len(chunk)
                batch["prompt_index"] = np.pad(index[chunk], (0, fill), "edge")
            out = step(batch, stop_token_ids=stop_token_ids)
            ids = ops.convert_to_numpy(out["decoder_token_ids"])[:, 1:]
            mask = ops.convert_to_numpy(out["decoder_padding_mask"])[:, 1:]
            for i, answer in zip(chunk, self.detokenize(ids, mask)):
                answers[i] = answer
        return answers[0] if single else answers

    def generate_step(self, inputs, stop_token_ids=None, prompt_states=None):
        """Decode one batch of token ids with cached keys and values.

        Args:
            inputs: the model's call arguments; `decoder_padding_mask` marks given tokens,
                at least the start token.
            stop_token_ids: ids that end a row, `None` to fill all D positions.
            prompt_states: see `PromptedT5.prompt_states`. Default: computed anew.

        Returns:
            `decoder_token_ids` `[B, D]` and the boolean `decoder_padding_mask` `[B, D]`.
        """
        texts = inputs["encoder_token_ids"], inputs["encoder_padding_mask"]
        states, mask = self.encode(*texts, inputs.get("prompt_index"), prompt_states)
        ids = inputs["decoder_token_ids"]
        given = ops.cast(inputs["decoder_padding_mask"], "bool")
        embed = self.backbone.token_embedding
        length, xla = ops.shape(ids)[1], bool(self.jit_compile)
        decoder = CachedDecoder(self.backbone, states, mask, length, self.compute_dtype, xla)

        def next(tokens, cache, index):
            token = ops.slice(tokens, [0, index - 1], [ops.shape(tokens)[0], 1])
            x, cache = decoder.step(embed(token), cache, index - 1)
            logits = self._logits(x)[:, 0, :]
            return logits, logits, cache

        # Starting at 1 needs no warm-up pass: the sampler keeps every given token.
        ids = self.sampler(
            next=next,
            prompt=ids,
            cache=decoder.cache,
            index=1,
            mask=given,
            stop_token_ids=stop_token_ids,
            model=self,
        )
        if stop_token_ids is None:
            return {"decoder_token_ids": ids, "decoder_padding_mask": ops.ones_like(ids, "bool")}
        ended = ops.zeros_like(given)
        for stop in stop_token_ids:
            ended = ops.logical_or(ended, ops.logical_and(ids == stop, ops.logical_not(given)))
        ended = ops.cast(ended, "int32")
        after = ops.cumsum(ended, axis=-1) - ended
        return {"decoder_token_ids": ids, "decoder_padding_mask": after == 0}

    def make_generate_function(self):
        """Return the compiled generation function.

        Without XLA one trace serves all inputs and another single rows, with it every shape is
        compiled; under a tf.distribute strategy the rows are dealt out to the replicas.
        """
        tensorflow = keras.config.backend() == "tensorflow" and not self.run_eagerly
        if self.generate_function is None and tensorflow:
            if self._distribute_strategy is not None:
                self.generate_function = _replica_function(self)
            elif not self.jit_compile:
                self.generate_function = _one_trace_function(self)
        return super().make_generate_function()

    def token_rows(self, texts):
        """Return a list of token ids for each text: cut to the input length, end token last."""
        tokenizer = self.preprocessor.tokenizer
        limit = self.preprocessor.encoder_sequence_length - 1
        rows = tokenizer(texts) if texts else []
        rows = rows.to_list() if hasattr(rows, "to_list") else [list(map(int, r)) for r in rows]
        return [[*row[:limit], tokenizer.end_token_id] for row in rows]

    def detokenize(self, ids, mask):
        """Return texts of `ids` `[B, D]` where `mask` `[B, D]`, without special or unknown ids."""
        tokenizer = self.preprocessor.tokenizer
        known = tokenizer.vocabulary_size()
        special = (tokenizer.pad_token_id, tokenizer.end_token_id)
        keep = mask.astype(bool) & ~np.isin(ids, special) & (ids < known)
        return [
            tokenizer.detokenize([row[k].tolist()])[0] if k.any() else ""
            for row, k in zip(ids, keep)
        ]


def _all_text(texts):
    return isinstance(texts, (list, tuple)) and all(isinstance(text, str) for text in texts)


def pad_rows(rows, width=None):
    """Return int32 `ids` and `mask` `[len(rows), width]` of token rows, by default the tightest."""
    ids = np.zeros((len(rows), width or max(map(len, rows))), "int32")
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def _keys(model):
    return INPUTS if model.num_prompts is None else (*INPUTS, "prompt_index")


def _batch(rows, length, batch_size):
    """Return padded int32 arrays for `generate_step`.

    With a `batch_size` the shapes are static ones: that many rows, a width from powers of two.
    """
    width = max(map(len, rows))
    if batch_size:
        # Filling rows are copies: they end no later than the rows that count.
        rows = [*rows, *[rows[-1]] * (batch_size - len(rows))]
        width = 1 << max(4, (width - 1).bit_length())
    ids, mask = pad_rows(rows, width)
    start = np.zeros((len(rows), length + 1), "int32")
    given = start.copy()
    given[:, 0] = 1
    return dict(zip(INPUTS, (ids, mask, start, given)))


def _one_trace_function(model):
    import tensorflow as tf

    keys = _keys(model)

    @functools.cache
    def traced(stops, rows, length):
        spec = {key: tf.TensorSpec([rows, None], "int32", name=key) for key in INPUTS[:2]}
        for key in INPUTS[2:]:
            spec[key] = tf.TensorSpec([rows, length], "int32", name=key)
        for key in keys[len(INPUTS) :]:
            spec[key] = tf.TensorSpec([rows], "int32", name=key)
        return tf.function(lambda batch: model.generate_step(batch, stops), input_signature=[spec])

    def generate_function(inputs, stop_token_ids=None):
        stops = None if stop_token_ids is None else tuple(stop_token_ids)
        batch = {key: ops.cast(inputs[key], "int32") for key in keys}
        rows, length = batch[INPUTS[2]].shape
        return traced(stops, 1 if rows == 1 else None, length)(batch)

    return generate_function


def _replica_function(model):
    import tensorflow as tf

    strategy = model._distribute_strategy
    replicas = strategy.num_replicas_in_sync

    @functools.cache
    def traced(stops):
        step = functools.partial(model.generate_step, stop_token_ids=stops)
        return tf.function(lambda batch: strategy.run(step, args=(batch,)))

    def generate_function(inputs, stop_token_ids=None):
        stops = None if stop_token_ids is None else tuple(stop_token_ids)
        rows = len(inputs[INPUTS[0]])
        shard = -(-rows // replicas)
        # A replica without rows would crash; the filling rows are cut off again.
        fill = np.minimum(np.arange(shard * replicas), rows - 1)
        batch = {}
        for key in _keys(model):
            parts = np.split(np.asarray(inputs[key], "int32")[fill], replicas)
            batch[key] = strategy.experimental_distribute_values_from_function(
                lambda context, parts=parts: tf.constant(parts[context.replica_id_in_sync_group])
            )
        out = traced(stops)(batch)
        return {
            key: np.concatenate(list(map(np.asarray, strategy.experimental_local_results(value))))[
                :rows
            ]
            for key, value in out.items()
        }

    return generate_function
