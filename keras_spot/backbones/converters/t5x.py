"""T5X native checkpoints: the parameters under `target`; the architecture is in their shapes."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
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
from keras_spot.backbones.converters.names import T5X, UNUSED_T5X
from keras_spot.base import reading, t5x_store
from keras_spot.base.errors import invalid, unknown

__all__ = ["PATTERNS", "Target", "architecture_of", "load"]

PATTERNS = (t5x_store.INDEX, "target.*")
_PREFIX = "target."


def load(
    folder: Path,
    dtype: Any = None,
    activation: str | None = None,
    max_distance: int = 128,
    quantize: str | None = None,
) -> Any:
    """Return the `T5Backbone` of a T5X checkpoint folder.

    Args:
        folder: holds `checkpoint` and the folders `target.*`; the optimiser's state is not read.
        dtype: dtype policy.
        activation: which a checkpoint does not record. Default: `gelu_new` for gated layers
            (T5 1.1), `relu` for others (T5 1.0).
        max_distance: of the relative position bias, not recorded either. Default 128.
        quantize: as of `filling.filled`.

    Raises:
        MissingExtra: msgpack is not installed.
        InvalidArgument: a missing or broken file, or weights that are not a T5's.
    """
    if activation is not None and activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    tensors = Target(folder)
    with reading.naming(folder):
        architecture = architecture_of(tensors, activation, max_distance)
    check_depth(architecture, tensors, folder)
    wanted = set(T5X.expand(architecture))
    check_coverage(wanted, set(tensors) - UNUSED_T5X, folder)
    check_shapes(tensors, T5X, architecture, {}, folder)
    tensors.check(wanted)
    return build(tensors, T5X, architecture, {}, dtype, quantize)


def architecture_of(
    tensors: "Target", activation: str | None = None, max_distance: int = 128
) -> Architecture:
    """Return what the shapes of a checkpoint's tensors tell of its T5."""
    gated = "encoder.layers_0.mlp.wi_0.kernel" in tensors
    wi = "wi_0" if gated else "wi"
    needed = [
        "token_embedder.embedding",
        "encoder.relpos_bias.rel_embedding",
        "encoder.layers_0.attention.query.kernel",
        f"encoder.layers_0.mlp.{wi}.kernel",
        "decoder.layers_0.self_attention.query.kernel",
    ]
    check_coverage(needed, [name for name in tensors if name in needed], tensors.folder)
    table, bias, query, dense, _ = shapes = [tensors.shape(name) for name in needed]
    if [len(table), len(bias), len(dense)] != [2, 2, 2] or 0 in sum(shapes, ()):
        rule = "must hold matrices where a T5 has them"
        raise invalid("backbone", rule, f"shapes {table}, {bias}, {dense} in {tensors.folder}")
    heads = bias[0]
    return Architecture(
        vocabulary_size=table[0],
        hidden_dim=table[1],
        encoder_layers=_depth(tensors, "encoder"),
        decoder_layers=_depth(tensors, "decoder"),
        num_heads=heads,
        head_dim=math.prod(query[1:]) // heads,
        intermediate_dim=dense[1],
        activation=activation or ("gelu_new" if gated else "relu"),
        gated=gated,
        tied="decoder.logits_dense.kernel" not in tensors,
        buckets=bias[1],
        max_distance=max_distance,
    )


def _depth(tensors: "Target", stack: str) -> int:
    """Return the number of layers of a stack; coverage shows later whether any is missing."""
    matches = (re.match(rf"{stack}\.layers_(\d{{1,9}})\.", name) for name in tensors)
    return 1 + max(int(match[1]) for match in matches if match)


class Target:
    """The parameters of a T5X checkpoint, by their names under `target`.

    Raises:
        MissingExtra: msgpack is not installed.
        InvalidArgument: no whole index; later, an array that is missing or cut short.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._index = t5x_store.read_index(folder)

    def __iter__(self) -> Iterator[str]:
        return (n.removeprefix(_PREFIX) for n in self._index if n.startswith(_PREFIX))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return self._index[_PREFIX + name].shape

    def check(self, names: Iterable[str]) -> None:
        """Raise DamagedFile unless the arrays beside the index are there in its shapes."""
        for name in names:
            leaf = self._index[_PREFIX + name]
            if isinstance(leaf, t5x_store.Stored):
                t5x_store.open_stored(self.folder, leaf)

    def read(
        self, name: str, dtype: str, transposed: bool, part: Sequence[slice] | None = None
    ) -> np.ndarray:
        """Return a tensor or a part of it in a dtype, perhaps with rows and columns exchanged."""
        if transposed and part is not None:
            part = part[::-1]
        values = t5x_store.read_array(self.folder, _PREFIX + name, self._index, dtype, part)
        return values.T if transposed else values
