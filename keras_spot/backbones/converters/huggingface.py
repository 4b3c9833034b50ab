"""Hugging Face T5 folders: config.json, safetensors whole or sharded, spiece.model."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.backbones.converters.architecture import ACTIVATIONS, Architecture
from keras_spot.backbones.converters.fill import (
    build,
    check_coverage,
    check_depth,
    check_shapes,
)
from keras_spot.backbones.converters.names import (
    COPIES,
    HUGGING_FACE,
    TIED_COPIES,
    UNUSED_HUGGING_FACE,
)
from keras_spot.base import reading
from keras_spot.base.errors import damaged, invalid, shortened
from keras_spot.base.reading.tensors import SafeTensors as TensorFile

__all__ = [
    "CONFIG",
    "INDEX",
    "MODEL_TYPES",
    "PATTERNS",
    "VOCABULARY",
    "WEIGHTS",
    "SafeTensors",
    "architecture_of",
    "config_of",
    "has_weights",
    "load",
    "read_config",
]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
VOCABULARY = "spiece.model"
PATTERNS = (CONFIG, INDEX, "model*.safetensors", VOCABULARY)
_CONFIG_LIMIT = 1 << 20  # bytes
MODEL_TYPES = ("t5", "mt5")

# config.json's key, the attribute of `Architecture`, and what transformers takes where the
# key is absent (T5's, mT5's).
_KEYS = {
    "d_model": ("hidden_dim", 512, 512),
    "d_kv": ("head_dim", 64, 64),
    "d_ff": ("intermediate_dim", 2048, 1024),
    "num_layers": ("encoder_layers", 6, 8),
    "num_heads": ("num_heads", 8, 6),
    "vocab_size": ("vocabulary_size", 32128, 250112),
    "relative_attention_num_buckets": ("buckets", 32, 32),
    "relative_attention_max_distance": ("max_distance", 128, 128),
    "layer_norm_epsilon": ("epsilon", 1e-6, 1e-6),
    "dropout_rate": ("dropout", 0.1, 0.1),
    "feed_forward_proj": ("activation", "relu", "gated-gelu"),
}
_SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}


def load(folder: Path, dtype: Any = None, quantize: str | None = None) -> Any:
    """Return the `T5Backbone` of a folder.

    Args:
        folder: holds config.json and safetensors.
        dtype: dtype policy.
        quantize: as of `filling.filled`.

    Raises:
        InvalidArgument: another model, a missing or broken file, or weights that do not fit.
    """
    config = read_config(folder)
    with reading.naming(folder / CONFIG):
        architecture = architecture_of(config)
    tensors = SafeTensors(folder)
    tied_head = "lm_head.weight" not in tensors
    copies = TIED_COPIES if architecture.tied else COPIES
    # transformers from version 5 ties the matrices of models whose outputs it does not scale.
    sources = {} if architecture.tied or not tied_head else {"lm_head.weight": "shared.weight"}
    check_depth(architecture, tensors, folder)
    wanted = {sources.get(name, name) for name in HUGGING_FACE.expand(architecture)}
    known = wanted | UNUSED_HUGGING_FACE | set(copies)
    check_coverage(
        wanted, {name for name in tensors if name in wanted or name not in known}, folder
    )
    check_shapes(tensors, HUGGING_FACE, architecture, sources, folder)
    _check_copies(tensors, copies, folder)
    return build(tensors, HUGGING_FACE, architecture, sources, dtype, quantize)


def has_weights(folder: Path) -> bool:
    """Return whether a folder holds safetensors."""
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json of a T5, checked to be one.

    Raises:
        InvalidArgument: unreadable, another model, or other special tokens than T5's.
    """
    file = folder / CONFIG
    rule = f"must hold a readable {CONFIG}"
    config = reading.read_record(file, argument="backbone", rule=rule, limit=_CONFIG_LIMIT)
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        received = f"model_type={shortened(repr(model_type))} in {file}"
        raise invalid("backbone", "must be a T5 or mT5", received)
    for key, value in _SPECIAL.items():
        if config.get(key, value) not in (value, None):
            received = f"{shortened(repr(config[key]))} in {file}"
            raise invalid("backbone", f"must have {key}={value}", received)
    return config


def architecture_of(config: dict[str, Any]) -> Architecture:
    """Return what a T5's config.json says.

    `gated-gelu` means the tanh approximation, any other `gelu` the exact one. Outputs are scaled
    by H^-0.5 unless `tie_word_embeddings` was false; transformers from version 5 writes
    that as `scale_decoder_outputs`, since it ties every head by itself, and never scales mT5's.

    >>> architecture = architecture_of({"model_type": "t5", "feed_forward_proj": "gated-gelu"})
    >>> architecture.activation, architecture.gated, architecture.tied
    ('gelu_new', True, True)
    """
    mt5 = config["model_type"] == "mt5"
    values = {ours: config.get(key, row[mt5]) for key, (ours, *row) in _KEYS.items()}
    decoder_layers = config.get("num_decoder_layers")
    if decoder_layers is None:
        decoder_layers = values["encoder_layers"]
    prefix, _, activation = str(values.pop("activation")).rpartition("-")
    if prefix == "gated" and activation == "gelu":
        activation = "gelu_new"
    if prefix not in ("", "gated") or activation not in ACTIVATIONS:
        rule = f"must be one of {', '.join(ACTIVATIONS)}, perhaps after gated-"
        raise invalid("feed_forward_proj", rule, shortened(repr(config["feed_forward_proj"])))
    scaled = config.get("tie_word_embeddings")
    if scaled is None:
        scaled = not mt5
    major = str(config.get("transformers_version")).split(".")[0]
    if mt5 and major.isdecimal() and int(major) >= 5:
        scaled = False
    return Architecture(
        **values,
        decoder_layers=decoder_layers,
        activation=activation,
        gated=prefix == "gated",
        tied=bool(config.get("scale_decoder_outputs", scaled)),
    )


def config_of(architecture: Architecture) -> dict[str, Any]:
    """Return a config.json of T5 that says what `architecture` is; the inverse of the above.

    >>> shape = Architecture(40, 12, 1, 1, 3, 5, 20, "gelu", gated=True, tied=False)
    >>> config_of(shape)["feed_forward_proj"], architecture_of(config_of(shape)).gated
    ('gated-gelu_python', True)
    """
    activation = architecture.activation
    if architecture.gated:
        # "gated-gelu" has the tanh approximation, whatever "gelu" is elsewhere.
        activation = f"gated-{'gelu_python' if activation == 'gelu' else activation}"
    values = {**dataclasses.asdict(architecture), "activation": activation}
    return {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        **{key: values[ours] for key, (ours, *_) in _KEYS.items()},
        "num_decoder_layers": architecture.decoder_layers,
        # Whether outputs are scaled by H^-0.5. From version 5 on transformers goes by the second
        # key, and ties the head unless the weights hold another matrix for it.
        "tie_word_embeddings": architecture.tied,
        "scale_decoder_outputs": architecture.tied,
        "is_encoder_decoder": True,
        "use_cache": True,
        **_SPECIAL,
    }


class SafeTensors:
    """The tensors of a folder with safetensors, whole or sharded.

    Headers are read and checked at once, numbers when they are asked for.

    Raises:
        InvalidArgument: no safetensors, a missing shard, a truncated file.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._shards: dict[str, TensorFile] = {}
        if (folder / INDEX).is_file():
            self._files = self._read_index()
        elif (folder / WEIGHTS).is_file():
            self._files = dict.fromkeys(self._open(WEIGHTS).tensors, WEIGHTS)
        else:
            rule = f"must hold {WEIGHTS} or {INDEX} (pickled weights are never read)"
            names = ", ".join(sorted(f.name for f in folder.iterdir())[:8])
            raise invalid("backbone", rule, f"{names or 'nothing'} in {folder}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return self._shards[self._files[name]].tensors[name].shape

    def read(
        self, name: str, dtype: str, transposed: bool, part: Sequence[slice] | None = None
    ) -> np.ndarray:
        """Return a tensor or a part of it, see `TensorFile.read`."""
        return self._shards[self._files[name]].read(name, dtype, transposed, part)

    def parts(self, name: str) -> Iterator[np.ndarray]:
        """Yield the numbers of a tensor, see `TensorFile.parts`."""
        return self._shards[self._files[name]].parts(name)

    def _read_index(self) -> dict[str, str]:
        rule = f"must hold a readable {INDEX}"
        index = reading.read_record(self.folder / INDEX, argument="backbone", rule=rule)
        names = index.get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(f, str) for f in names.values()):
            received = "no weight_map of names to files"
            raise damaged(self.folder / INDEX, rule, received, argument="backbone")
        for file in sorted(set(names.values())):
            named = len(file) <= 255 and file == Path(file).name and file not in ("", "..")
            if not named or not (self.folder / file).is_file():
                rule = f"must hold every shard that {INDEX} names"
                raise invalid("backbone", rule, f"missing {shortened(file)} in {self.folder}")
            absent = {n for n, f in names.items() if f == file} - set(self._open(file).tensors)
            if absent:
                rule = f"must hold in {file} what {INDEX} says"
                received = f"missing {shortened(min(absent))} in {self.folder}"
                raise invalid("backbone", rule, received)
        return names

    def _open(self, file: str) -> TensorFile:
        if file not in self._shards:
            rule = f"must hold a whole {Path(file).name}"
            place = self.folder / file
            self._shards[file] = TensorFile(place, argument="backbone", rule=rule)
        return self._shards[file]


def _check_copies(tensors: SafeTensors, copies: dict[str, str], folder: Path) -> None:
    """Raise InvalidArgument where a tensor that stands for the embedding table differs from it."""
    for name, table in copies.items():
        if name in tensors and not (
            tensors.shape(name) == tensors.shape(table)
            and all(
                np.array_equal(copied.astype("float32"), values.astype("float32"))
                for copied, values in zip(tensors.parts(name), tensors.parts(table), strict=True)
            )
        ):
            rule = f"must hold {table} and {name} with equal values"
            raise invalid("backbone", rule, f"two different ones in {folder}")
