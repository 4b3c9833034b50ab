"""A SavedModel that answers texts."""

import errno
import os
from typing import Any

from keras_spot.base import remote
from keras_spot.base.atomic import atomic_folder
from keras_spot.base.errors import invalid
from keras_spot.base.ownership import Kind

SAVED_MODEL = Kind("SavedModel", is_folder=True)


def export_text(
    model: Any,
    path: str | os.PathLike,
    max_length: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write a SavedModel with the signature `text [B] -> outputs [B], output_ids [B, D]`.

    That of a bank of prompts also takes `prompt` [B], the name of each text's prompt.

    The tokeniser and the greedy (or otherwise compiled) decoding loop are inside; a process that
    imports only tensorflow and tensorflow_text (for its ops) can run it. A second
    signature `generate_ids` takes token ids, of a bank with `prompt_index` [B].

    Args:
        model: a `PromptedT5` with a preprocessor.
        path: folder to write; may be an address like `gs://...`.
        max_length: target tokens at most. Default: the preprocessor's.
        overwrite: also replace an earlier SavedModel of ours whose files have changed since. A
            folder with files of another stays.

    Raises:
        InvalidArgument: a model without a preprocessor, another backend than TensorFlow, or a
            folder that holds anything but our own earlier work.
        OSError: the folder cannot be written; an older one stays as it was.
    """
    import keras
    import tensorflow as tf
    import tensorflow_text

    if keras.config.backend() != "tensorflow":
        raise invalid("model", "must run on the tensorflow backend", keras.config.backend())
    if model.preprocessor is None:
        raise invalid("model", "must have a preprocessor to take texts", "preprocessor=None")
    remote.may_write(path, SAVED_MODEL, overwrite)
    tokenizer = model.preprocessor.tokenizer
    end, pad = tokenizer.end_token_id, tokenizer.pad_token_id
    known = tokenizer.vocabulary_size()
    limit = model.preprocessor.encoder_sequence_length - 1
    length = (max_length or model.preprocessor.decoder_sequence_length) + 1
    pieces = tensorflow_text.SentencepieceTokenizer(model=tokenizer.proto)

    # A prompt that does not see the tokens is encoded now, once for all.
    states = model.forward_pass.prompt_states()
    names = model.prompt_names
    by_name, by_number = (
        [] if names is None else [tf.TensorSpec([None], dtype, name)]
        for name, dtype in (("prompt", tf.string), ("prompt_index", tf.int32))
    )

    def decode(ids, mask, *prompt_index):
        batch = tf.shape(ids)[0]
        given = tf.concat(
            [tf.ones((batch, 1), "int32"), tf.zeros((batch, length - 1), "int32")], axis=1
        )
        inputs = {
            "encoder_token_ids": ids,
            "encoder_padding_mask": mask,
            "decoder_token_ids": tf.zeros_like(given),
            "decoder_padding_mask": given,
            **dict(zip(["prompt_index"], prompt_index)),
        }
        out = model.generate_step(inputs, (end,), states)
        return out["decoder_token_ids"][:, 1:], out["decoder_padding_mask"][:, 1:]

    def number(prompt):
        same = prompt[:, None] == tf.constant(names)
        known_names = tf.debugging.Assert(
            tf.reduce_all(tf.reduce_any(same, axis=1)),
            [f"`prompt` must be one of {', '.join(names)}. Received:", prompt],
        )
        with tf.control_dependencies([known_names]):
            return tf.argmax(same, axis=1, output_type=tf.int32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, "encoder_token_ids"),
            tf.TensorSpec([None, None], tf.int32, "encoder_padding_mask"),
            *by_number,
        ]
    )
    def generate_ids(encoder_token_ids, encoder_padding_mask, *prompt_index):
        ids, mask = decode(encoder_token_ids, encoder_padding_mask, *prompt_index)
        return {"output_ids": ids, "output_mask": tf.cast(mask, tf.int32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text"), *by_name])
    def serve(text, *prompt):
        rows = pieces.tokenize(text)[:, :limit]
        ends = tf.fill([tf.shape(text)[0], 1], end)
        rows = tf.concat([rows, tf.RaggedTensor.from_tensor(ends)], axis=1)
        mask = tf.sequence_mask(rows.row_lengths(), dtype=tf.int32)
        ids, kept = decode(rows.to_tensor(pad), mask, *map(number, prompt))
        # Ids past the vocabulary pad the embedding table; the detokeniser would fail on them.
        kept = kept & (ids != end) & (ids != pad) & (ids < known)
        return {"outputs": pieces.detokenize(tf.ragged.boolean_mask(ids, kept)), "output_ids": ids}

    module = tf.Module()
    # A SavedModel only holds the variables and resources that hang from its root.
    variables = [*model.weights, *model.sampler.variables]
    module.variables_ = [variable.value for variable in variables]
    module.pieces = pieces
    signatures = {"serving_default": serve, "generate_ids": generate_ids}
    with (
        remote.writing(path, SAVED_MODEL, overwrite) as local,
        atomic_folder(local, SAVED_MODEL, overwrite) as folder,
    ):
        try:
            tf.saved_model.save(module, str(folder), signatures=signatures)
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, error.message, str(path)) from error
