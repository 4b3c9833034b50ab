"""What `fit` and `evaluate` take: texts with their targets, token ids, batches of either.

All of it becomes a `tf.data.Dataset` of `(x, y, sample_weight)` as `keras_spot.load_task` makes it,
so that weights, shuffling and strategies work the same for everything.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.base.fields import POSITIVE, SHARE
from keras_spot.data.batches import Encoded
from keras_spot.data.survey import measure
from keras_spot.data.texts import (
    are_texts,
    check_weights,
    clean,
    encode_texts,
    row_weights,
    texts_dataset,
)
from keras_spot.model.texts import WITHOUT_TARGETS, as_mapping
from keras_spot.tasks import Example, Task
from keras_spot.tasks.values import is_missing, shown

__all__ = ["check_numbers", "dataset_of", "split_off", "validation_of"]

_IDS = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids", "decoder_padding_mask")
_TEXTS = Task("texts", input="{encoder_text}", target="{decoder_text}")  # a name for warnings


def dataset_of(
    model: Any,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    shuffle: bool = False,
    class_weight: Mapping[str, float] | None = None,
    steps: int | None = None,
) -> Any:
    """Return a dataset of batches of token ids.

    Args:
        model: a `PromptedT5`.
        x: texts (a list, an array, a column, a generator's batches, a `PyDataset`), KerasHub's
            mapping of `encoder_text` and `decoder_text`, or a mapping of token ids; a
            `tf.data.Dataset` comes back as it is.
        y: target texts, or token ids `[N, D]`.
        sample_weight: `[N]`, a weight for each row; for token ids also `[N, D]`. Default: 1 for all
            targets but padding.
        batch_size: rows in a batch. Default 32.
        shuffle: draw the order of every epoch anew.
        class_weight: with texts: target text to the weight of its rows.
        steps: how many batches of a generator to read, all of them beforehand. Default: all.

    Raises:
        InvalidArgument: what cannot be trained on as it is: rows of features without a task,
            targets that are no texts, weights of another shape, an argument that would be lost.
    """
    is_dataset = hasattr(x, "element_spec") or _is_grain(x)
    if is_dataset or isinstance(x, (keras.utils.PyDataset, Iterator)):
        _refuse_class_weight(class_weight)
        given = {"y": y, "sample_weight": sample_weight, "batch_size": batch_size}
        for name, value in given.items():
            if value is not None:
                rule = "must be in the batches that `x` gives"
                raise invalid(name, rule, f"{name} beside a {type(x).__name__}")
        if hasattr(x, "element_spec"):
            _check_batches(x.element_spec)
        return x if is_dataset else _stream(model, x, shuffle, steps)
    size = 32 if batch_size is None else batch_size
    if not POSITIVE.holds(size):
        raise invalid("batch_size", POSITIVE.text, f"{batch_size=}")
    if isinstance(x, Mapping) and "encoder_token_ids" in x:
        _refuse_class_weight(class_weight)
        return _arrays_dataset(_arrays(model, x, y, sample_weight), size, shuffle)
    rows, index = _rows(model, x, y, sample_weight, class_weight)
    if index is not None:
        return _arrays_dataset(_padded(rows, index), size, shuffle)
    return texts_dataset(rows, size, _lengths(model), shuffle)


def validation_of(
    model: Any,
    data: Any,
    batch_size: int | None = None,
    own_batch_size: int | None = None,
    steps: int | None = None,
) -> Any:
    """Return the dataset of what `fit` takes as `validation_data`: `(x, y)`, three, or batches.

    Args:
        batch_size: rows in a batch, unless `data` are batches.
        own_batch_size: the same by `fit`'s `validation_batch_size`, which counts before it.
        steps: how many batches of a generator to read. Default: all.
    """
    size = batch_size if own_batch_size is None else own_batch_size
    if isinstance(data, Mapping):
        return dataset_of(model, data, batch_size=size)
    if not isinstance(data, (tuple, list)):
        return dataset_of(model, data, batch_size=own_batch_size, steps=steps)
    if len(data) not in (1, 2, 3):
        rule = "must be (x, y), (x, y, sample_weight) or batches"
        raise invalid("validation_data", rule, f"{len(data)} parts")
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(tuple(data))
    return dataset_of(model, x, y, sample_weight, size)


def targets_of(model: Any, x: Any, steps: int | None = None) -> Any:
    """Return what `predict` takes: batches, token ids, or texts with the targets to score.

    Args:
        steps: how many batches of a generator to read. Default: all.

    Raises:
        InvalidArgument: texts without targets, which have no logits.
    """
    if isinstance(x, (keras.utils.PyDataset, Iterator)):
        return _stream(model, x, False, steps)
    if hasattr(x, "element_spec"):
        _check_batches(x.element_spec)
    elif not (isinstance(x, Mapping) or _is_grain(x)):
        rule = (
            "must be {'encoder_text': …, 'decoder_text': …}, token ids or batches, whose logits "
            "these are; `generate` answers texts"
        )
        raise invalid("x", rule, shown(x))
    elif isinstance(x, Mapping) and "encoder_token_ids" not in x:
        as_mapping(dict(x), None)
    elif isinstance(x, Mapping):
        check_numbers(model, x)
    return x


def split_off(
    x: Any, y: Any, sample_weight: Any, share: float
) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """Return the first rows and the last ones, `share` of them, as Keras' `validation_split`."""
    if isinstance(x, (keras.utils.PyDataset, Iterator)) or hasattr(x, "element_spec"):
        rule = "must be 0 where `x` gives batches"
        raise invalid("validation_split", rule, f"validation_split={share}")
    if not SHARE.holds(share):
        raise invalid("validation_split", SHARE.text, f"validation_split={share!r}")
    first = next(iter(x.values())) if isinstance(x, Mapping) else x
    number = len(first)
    at = int(number * (1.0 - share))
    if not 0 < at < number:
        raise invalid("validation_split", f"must split {number} rows in two", f"{share}")

    def cut(value: Any, start: int, end: int) -> Any:
        if isinstance(value, Mapping):
            return {name: item[start:end] for name, item in value.items()}
        return None if value is None else value[start:end]

    parts = x, y, sample_weight
    train, validation = (
        tuple(cut(part, *ends) for part in parts) for ends in ((0, at), (at, number))
    )
    return train, validation


# === Texts ===


def _rows(
    model: Any, x: Any, y: Any, sample_weight: Any, class_weight: Mapping[str, float] | None
) -> tuple[list[Encoded], np.ndarray | None]:
    """Return the token ids of texts, and of a bank which prompt each row is of."""
    index = None
    if isinstance(x, Mapping) and "encoder_text" in x:
        if y is not None:
            raise invalid("y", "must be None beside `decoder_text`", f"y={shown(y)}")
        y, index = x.get("decoder_text"), x.get("prompt_index")
        x = x["encoder_text"]
    elif not are_texts(x):
        rule = (
            "must be texts or batches; rows of features need a task that says how they read: "
            'keras_spot.tasks.Task("mine", input="{text}", labels=…, rows={"train": x}) for '
            "`load_task`"
        )
        raise invalid("x", rule, type(x).__name__)
    if y is None:
        rule = f"must be a target text for each input ({WITHOUT_TARGETS})"
        raise invalid("y", rule, "y=None")
    inputs, targets = clean("x", x), clean("y", y)
    for argument, texts in (("x", inputs), ("y", targets)):
        for place, text in enumerate(texts):
            if is_missing(text):
                raise invalid(argument, "must be texts, none blank", f"{text!r} at place {place}")
    if not inputs or len(targets) != len(inputs):
        rule = f"must be one text for each of the {len(inputs)} inputs, at least one"
        raise invalid("y", rule, f"{len(targets)} texts")
    if (index is None) != (model.num_prompts is None):
        rule = "must be in x for a bank of prompts, and only there"
        raise invalid("prompt_index", rule, f"num_prompts={model.num_prompts}")
    if index is not None and np.shape(index) != (len(inputs),):
        rule = f"must be {len(inputs)} numbers of prompts"
        raise invalid("prompt_index", rule, f"shape={np.shape(index)}")
    if index is not None:
        check_numbers(model, {"prompt_index": index})
    weights = row_weights(len(inputs), sample_weight, class_weight, targets)
    _warn_of_cut(model, inputs, targets)
    return encode_texts(_tokenizer(model), inputs, targets, weights, _lengths(model)), index


def _tokenizer(model: Any) -> Any:
    if model.preprocessor is None:
        raise invalid("x", "must be token ids for a model without a preprocessor", "texts")
    return model.preprocessor.tokenizer


def _lengths(model: Any) -> tuple[int, int]:
    preprocessor = model.preprocessor
    return preprocessor.encoder_sequence_length, preprocessor.decoder_sequence_length


def _warn_of_cut(model: Any, inputs: Sequence[str], targets: Sequence[str]) -> None:
    tokenizer = _tokenizer(model)
    examples = (Example(*pair, place) for place, pair in enumerate(zip(inputs, targets)))
    measure(_TEXTS, "given", examples, tokenizer, *_lengths(model)).warn()


def _padded(rows: Sequence[Encoded], index: Any = None) -> tuple[Any, ...]:
    """Return `(x, y, sample_weight)` of token rows, padded to the longest of them."""
    inputs, targets = (
        keras.utils.pad_sequences([row[part] for row in rows], padding="post", dtype="int32")
        for part in (0, 1)
    )
    mask = (targets != 0).astype("int32")
    shifted = np.pad(targets[:, :-1], [(0, 0), (1, 0)]) * mask
    x = dict(zip(_IDS, (inputs, (inputs != 0).astype("int32"), shifted, mask)))
    if index is not None:
        x["prompt_index"] = np.asarray(index, "int32")
    weights = np.array([row.weight for row in rows], "float32")
    return x, targets, mask * weights[:, None]


# === Token ids ===


def check_numbers(model: Any, x: Mapping[str, Any]) -> None:
    """Refuse token ids and numbers of prompts that are none: JAX would gather NaN, or the last.

    Args:
        model: a `PromptedT5`.
        x: arrays by their names; of others than these nothing is asked.

    Raises:
        InvalidArgument: an id that the vocabulary has not, or a prompt that the bank has not.
    """
    limits = dict.fromkeys((_IDS[0], _IDS[2], "y"), (model.backbone.vocabulary_size, "token ids"))
    limits["prompt_index"] = model.num_prompts or 1, "numbers of prompts"
    for name in limits.keys() & x.keys():
        (limit, what), values = limits[name], np.asarray(x[name])
        wrong = values[(values < 0) | (values >= limit)]
        if len(wrong):
            raise invalid(name, f"must be {what} from 0 to {limit - 1}", str(wrong[0]))


def _arrays(model: Any, x: Mapping[str, Any], y: Any, sample_weight: Any) -> tuple[Any, ...]:
    """Return `(x, y, sample_weight)` of token ids, a weight for each target token."""
    if y is None:
        raise invalid("y", "must be target ids [N, D] beside token ids", "y=None")
    x = {name: np.asarray(values, "int32") for name, values in x.items()}
    y = np.asarray(y)
    if y.ndim != 2 or y.dtype.kind not in "iu":
        rule = "must be target ids [N, D] beside token ids"
        raise invalid("y", rule, f"{y.dtype} of shape {y.shape}")
    check_numbers(model, {**x, "y": y})
    if sample_weight is None:
        return x, y.astype("int32"), (y != 0).astype("float32")
    check_weights(np.asarray(sample_weight))
    weights = np.asarray(sample_weight, "float32")
    if weights.shape == y.shape[:1]:  # of rows: their target tokens have it, their padding none
        weights = weights[:, None] * (y != 0)
    if weights.shape != y.shape:
        rule = f"must be of shape {y.shape[:1]} or {y.shape}"
        raise invalid("sample_weight", rule, f"shape={weights.shape}")
    return x, y.astype("int32"), weights


def _arrays_dataset(arrays: tuple[Any, ...], batch_size: int, shuffle: bool) -> Any:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(arrays)
    if shuffle:
        number = len(arrays[1])
        dataset = dataset.shuffle(number, random.randrange(2**31), reshuffle_each_iteration=True)
    return _dealt_by_rows(dataset.batch(batch_size))


# === Batches of either ===


def _is_grain(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "grain"


def _check_batches(spec: Any) -> None:
    """Raise for a `tf.data.Dataset` of texts without their targets, before it is traced."""
    x, y, _ = keras.utils.unpack_x_y_sample_weight(spec)
    if isinstance(x, Mapping) and "encoder_token_ids" in x:
        return
    is_none = type(y).__name__ == "NoneTensorSpec"
    for value in as_mapping(x, None if is_none else y).values():
        if getattr(value, "shape", None) == ():
            raise invalid("x", "must give batches: dataset.batch(32)", "single texts")


def _stream(model: Any, source: Any, shuffle: bool, steps: int | None) -> Any:
    """Return the dataset of the batches that a generator or a `PyDataset` gives."""
    import tensorflow as tf

    def convert(batch: Any) -> tuple[Any, ...]:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        if isinstance(x, Mapping) and "encoder_token_ids" in x:
            return _arrays(model, x, y, weights)
        return _padded(*_rows(model, x, y, weights, None))

    if isinstance(source, keras.utils.PyDataset):
        count = source.num_batches

        def batches() -> Iterable[Any]:
            order: Iterable[int] = itertools.count() if count is None else range(count)
            if shuffle and count is not None:
                order = random.sample(range(count), count)
            for number in order:
                yield convert(source[number])
            source.on_epoch_end()
    else:
        read = [convert(batch) for batch in itertools.islice(source, steps)]
        count = len(read)

        def batches() -> Iterable[Any]:
            return iter(read)

    ids = tf.TensorSpec([None, None], tf.int32)
    x = dict.fromkeys(_IDS, ids)
    if model.num_prompts is not None:
        x["prompt_index"] = tf.TensorSpec([None], tf.int32)
    signature = (x, ids, tf.TensorSpec([None, None], tf.float32))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    number = tf.data.INFINITE_CARDINALITY if count is None else count
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(number))
    return _dealt_by_rows(dataset)


def _dealt_by_rows(dataset: Any) -> Any:
    """Return the dataset with its rows, not files, dealt out to a strategy's workers."""
    import tensorflow as tf

    options = tf.data.Options()
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    return dataset.with_options(options)


def _refuse_class_weight(class_weight: Any) -> None:
    if class_weight is not None:
        rule = (
            "must be given with texts, as {target: weight}; data of a task take it from the "
            "task's `label_weights`"
        )
        raise invalid("class_weight", rule, f"class_weight={shown(class_weight)}")
