"""A SavedModel that answers texts."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_spot.base import remote
from keras_spot.base.atomic import atomic_folder
from keras_spot.base.errors import invalid
from keras_spot.base.ownership import Kind
from keras_spot.base.quiet import quiet_logger
from keras_spot.base.reading.files import reason
from keras_spot.model.export import described, elsewhere
from keras_spot.tasks.card import TASK_FILE, read_cards, write_cards

__all__ = ["FORM", "SAVED_MODEL", "export_text", "save_module"]

SAVED_MODEL = Kind("SavedModel", is_folder=True)
FORM = "savedmodel"


def export_text(
    model: Any,
    path: str | os.PathLike,
    max_length: int | None = None,
    overwrite: bool = False,
    *,
    tasks: Any = None,
    version: int | None = None,
    buckets: Sequence[int] | None = None,
) -> None:
    """Write a SavedModel that takes texts; `signatures` has the table of what it gives.

    The tokeniser and the decoding loop with the compiled sampler are inside; a process that
    imports only tensorflow and tensorflow_text (for its ops) can run it, and so can TensorFlow
    Serving, which finds requests to warm up with. What the prompts were trained on stands in
    `task.json`.

    Args:
        model: a `PromptedT5` with a preprocessor.
        path: folder to write; may be an address like `gs://...`.
        max_length: target tokens at most. Default: the preprocessor's.
        overwrite: also replace an earlier SavedModel of ours whose files have changed since. A
            folder with files of another stays.
        tasks: what the prompts were trained on, for `classify` and for callers, see
            `described.cards_of`. Default: not known.
        version: write into a folder of this number inside `path`, as TensorFlow Serving wants it.
            Default: into `path` itself.
        buckets: pad every input to the narrowest of these widths that holds it (the input length
            is always one), for accelerators and `compile(jit_compile=True)`. Default: to the next
            multiple of 8 of the longest of its batch.

    Raises:
        InvalidArgument: a model without a preprocessor, an argument that breaks its rule, or a
            folder that holds anything but our own earlier work.
        OSError: the folder cannot be written; an older one stays as it was.
    """
    if model.preprocessor is None:
        raise invalid("model", "must have a preprocessor to take texts", "preprocessor=None")
    if version is not None:
        if type(version) is not int or version < 0:
            raise invalid("version", "must be an integer from 0 on", f"{version=}")
        path = f"{os.fspath(path)}/{version}"
    longest = model.preprocessor.encoder_sequence_length
    for width in buckets or ():
        if type(width) is not int or not 1 <= width <= longest:
            raise invalid("buckets", f"must be integers from 1 to {longest}", f"{buckets=}")
    cards = described.cards_of(model, tasks)
    remote.may_write(path, SAVED_MODEL, overwrite)
    with (
        remote.writing(path, SAVED_MODEL, overwrite) as local,
        atomic_folder(local, SAVED_MODEL, overwrite) as folder,
    ):
        _write(model, folder, str(path), cards, max_length, buckets and (*buckets, longest))


def _write(
    model: Any,
    folder: Path,
    shown: str,
    cards: Any,
    max_length: int | None,
    buckets: Sequence[int] | None,
) -> None:
    import keras

    length = max_length or model.preprocessor.decoder_sequence_length
    write_cards(folder / TASK_FILE, cards, form=FORM, **described.facts_of(model, length))
    save = save_module if keras.config.backend() == "tensorflow" else elsewhere.save_module
    save(model, folder, shown, length, buckets)


def save_module(
    model: Any, folder: Path, shown: str, length: int, buckets: Sequence[int] | None
) -> None:
    """Write a model beside the cards that are in the folder already, by TensorFlow alone.

    Args:
        model: a `PromptedT5`.
        folder: with a `task.json`.
        shown: what errors call the folder.
        length: target tokens at most.
        buckets: see `export_text`, the input length among them.
    """
    import tensorflow as tf

    from keras_spot.model.export import warmup
    from keras_spot.model.export.signatures import Signatures

    cards, _ = read_cards(folder / TASK_FILE)
    description = (folder / TASK_FILE).read_text(encoding="utf-8")
    module = Signatures(model, cards, description, length, buckets)
    signatures = module.signatures()
    try:
        with quiet_logger("tensorflow"):  # it says where the tokenizer went
            tf.saved_model.save(module, str(folder), signatures=signatures)
        warmup.write(folder, _requests(signatures, next(iter(cards))))
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, reason(error), shown) from error


def _requests(signatures: Any, prompt: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield requests that make every function that texts go through ready: one row, then more."""
    given = {"text": "a short text", "prompt": prompt}
    for name in ("serving_default", "classify"):
        if name in signatures:
            inputs = [spec.name for spec in signatures[name].input_signature]
            for rows in (1, 2):
                yield name, {key: [given[key]] * rows for key in inputs}
