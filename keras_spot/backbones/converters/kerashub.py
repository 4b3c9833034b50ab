"""KerasHub preset folders: what they declare, checked before KerasHub builds anything of it."""

import math
import os
from pathlib import Path
from typing import Any

from keras_spot.backbones.converters import vocabulary
from keras_spot.backbones.converters.architecture import Architecture
from keras_spot.backbones.converters.names import T5X
from keras_spot.base import reading
from keras_spot.base.errors import damaged
from keras_spot.base.reading.hdf5 import declared_shapes

__all__ = ["CONFIG", "TOKENIZER", "VOCABULARY", "VOCABULARY_RULE", "check"]

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
VOCABULARY = "assets/tokenizer/vocabulary.spm"
VOCABULARY_RULE = "must hold a SentencePiece model that its tokenizer.json suits"
_RULE = "must hold the readable config.json of a T5Backbone"
_LIMIT = 1 << 20  # bytes of a description
_CLASSES = {"T5Backbone", "T5Tokenizer", "DTypePolicy", "DTypePolicyMap", "QuantizedDTypePolicy"}
_CLASSES |= {"function", "FloatDTypePolicy", "Int4DTypePolicy", "GPTQDTypePolicy"}
_CLASSES |= {"AWQDTypePolicy"}
_SPARE, _PACKED = 1_000_000, 4  # weights of quantization; numbers that one stored one may stand for


def check(folder: Path) -> None:
    """Raise InvalidArgument unless a preset's weights can be those of its description.

    Raises:
        OSError: a file that cannot be read.
        DamagedFile: a description that is none, names other classes than a T5's, or asks for more
            weights than the files of weights hold; files of weights that are damaged.
    """
    file = folder / CONFIG
    record = reading.read_record(file, argument="backbone", rule=_RULE, limit=_LIMIT)
    config = record.get("config")
    if record.get("class_name") != "T5Backbone" or not isinstance(config, dict):
        raise damaged(file, _RULE, f"class_name={record.get('class_name')!r}", argument="backbone")
    _check_classes(record, file)
    with reading.naming(file):
        declared = _declared(config)
    weights = sorted(folder.glob("*.h5"))
    if not weights:
        raise damaged(folder, "must hold weights, model.weights.h5", argument="backbone")
    stored = sum(
        math.prod(shape) for part in weights for shape in declared_shapes(part, "backbone").values()
    )
    if declared > _PACKED * stored + _SPARE:
        rule = "must ask for as many weights as its files hold"
        raise damaged(file, rule, f"{declared} weights, {stored} held", argument="backbone")
    if os.path.lexists(folder / TOKENIZER):
        rule = f"must hold the readable {TOKENIZER} of a T5Tokenizer"
        place = folder / TOKENIZER
        record = reading.read_record(place, argument="backbone", rule=rule, limit=_LIMIT)
        if record.get("class_name") != "T5Tokenizer":
            received = f"class_name={record.get('class_name')!r}"
            raise damaged(place, rule, received, argument="backbone")
        _check_classes(record, place)
        if os.path.lexists(folder / VOCABULARY):  # which KerasHub reads to its end
            reading.read_bytes(folder / VOCABULARY, vocabulary.LIMIT, "backbone")


def _declared(config: dict[str, Any]) -> int:
    """Return how many numbers the weights of a `T5Backbone` of that description have."""
    heads, width = config.get("num_heads"), config.get("hidden_dim")
    head_dim = config.get("key_value_dim")
    if head_dim is None and type(heads) is type(width) is int and heads:
        head_dim = width // heads
    shape = Architecture(
        vocabulary_size=config.get("vocabulary_size"),  # type: ignore[arg-type]
        hidden_dim=width,  # type: ignore[arg-type]
        encoder_layers=config.get("num_layers"),  # type: ignore[arg-type]
        decoder_layers=config.get("num_layers"),  # type: ignore[arg-type]
        num_heads=heads,  # type: ignore[arg-type]
        head_dim=head_dim,  # type: ignore[arg-type]
        intermediate_dim=config.get("intermediate_dim"),  # type: ignore[arg-type]
        activation="relu",
        gated=bool(config.get("use_gated_activation", True)),
        tied=bool(config.get("tie_embedding_weights", True)),
        epsilon=config.get("layer_norm_epsilon", 1e-6),
        dropout=config.get("dropout", 0.1),
    )
    return sum(math.prod(shape.shape_of(path)) for path in T5X.expand(shape).values())


def _check_classes(record: dict[str, Any], file: Path) -> None:
    """Raise DamagedFile where a description would make Keras look for other classes."""
    waiting: list[Any] = [record]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
            name = item.get("class_name", "function")
            if not isinstance(name, str) or name not in _CLASSES:
                rule = "must name the classes of a T5 alone"
                raise damaged(file, rule, f"class_name={name!r}", argument="backbone")
        elif isinstance(item, list):
            waiting += item
