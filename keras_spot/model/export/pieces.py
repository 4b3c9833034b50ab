"""Texts to token ids and back, inside a TensorFlow graph."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_text

from keras_spot.model.texts import label_length

__all__ = ["Pieces"]

_STEP = 8  # tokens


class Pieces(tf.Module):
    """A SentencePiece model as TensorFlow operations.

    Args:
        preprocessor: KerasHub's, with tokenizer and input length.
        target_length: tokens of a target at most; the input length, where that is more.
        buckets: widths to which inputs are padded. Default: to the next multiple of 8 of their
            longest, since TensorFlow keeps something for every shape that it has met.
    """

    def __init__(
        self, preprocessor: Any, target_length: int, buckets: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        tokenizer = preprocessor.tokenizer
        self.limit = preprocessor.encoder_sequence_length
        self._target_limit = label_length(self.limit, target_length)
        self._buckets = buckets and tf.constant(sorted(buckets), tf.int64)
        self._end, self._pad = tokenizer.end_token_id, tokenizer.pad_token_id
        self._known = tokenizer.vocabulary_size()
        self._pieces = tensorflow_text.SentencepieceTokenizer(model=tokenizer.proto)

    def inputs(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return ids and mask `[B, T]` of texts `[B]`: cut to the input length, end token last."""
        rows = self._with_end(self._pieces.tokenize(texts)[:, : self.limit - 1])
        width = tf.maximum(tf.reduce_max(rows.row_lengths()), 1)
        if self._buckets is None:
            width = tf.minimum(-(-width // _STEP) * _STEP, self.limit)
        else:
            width = self._buckets[tf.reduce_sum(tf.cast(self._buckets < width, tf.int32))]
        mask = tf.sequence_mask(rows.row_lengths(), width, tf.int32)
        return rows.to_tensor(self._pad, shape=tf.stack([-1, width])), mask

    def targets(self, texts: tf.Tensor) -> tf.Tensor:
        """Return ids `[N, D]` of texts `[N]`, end token last, padded with 0; of "" only padding.

        Without a limit a long one of a request would take memory by the square of its length.
        """
        rows = self._pieces.tokenize(texts)[:, : self._target_limit - 1]
        ids = self._with_end(rows).to_tensor(self._pad)
        return tf.where(texts[:, None] == "", 0, ids)

    def texts(self, ids: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
        """Return texts `[B]` of ids `[B, D]` where `kept`, without special and unknown ids."""
        # Ids past the vocabulary pad the embedding table; the detokeniser would fail on them.
        kept = kept & (ids != self._end) & (ids != self._pad) & (ids < self._known)
        return self._pieces.detokenize(tf.ragged.boolean_mask(ids, kept))

    def _with_end(self, rows: tf.RaggedTensor) -> tf.RaggedTensor:
        ends = tf.fill([rows.nrows(), 1], self._end)
        return tf.concat([rows, tf.RaggedTensor.from_tensor(ends)], axis=1)
