"""A `T5Backbone` of a checkpoint's tensors: one at a time, none missing, none left."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from keras_spot.backbones import filling
from keras_spot.backbones.converters.architecture import Architecture
from keras_spot.backbones.converters.names import Names
from keras_spot.backbones.converters.positions import in_32_buckets
from keras_spot.base.errors import invalid
from keras_spot.base.types import Sliceable

__all__ = ["Tensors", "build", "check_coverage", "check_depth", "check_shapes"]

_SHOWN = 3  # names in a complaint


class Tensors(Protocol):
    """A checkpoint's tensors, read when they are asked for."""

    def __iter__(self) -> Iterator[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(
        self, name: str, dtype: str, transposed: bool, part: Sequence[slice] | None = None
    ) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class _InFile:
    """A checkpoint's tensor as its weight has it, read as far as it is asked for.

    Attributes:
        shape: the weight's.
        read: returns a part of the numbers.
    """

    shape: tuple[int, ...]
    read: Callable[[Sequence[slice] | None], np.ndarray]

    def __getitem__(self, part: Any, /) -> np.ndarray:
        return self.read(None if part is ... else part)


def check_coverage(wanted: Collection[str], present: Collection[str], where: object) -> None:
    """Raise InvalidArgument unless the checkpoint holds exactly the wanted names."""
    missing = sorted(set(wanted) - set(present))
    extra = sorted(set(present) - set(wanted))
    if missing or extra:
        parts = [
            f"{what} {_some(names)}"
            for what, names in (("missing", missing), ("left over", extra))
            if names
        ]
        rule = "must hold every weight of a T5 and no others"
        raise invalid("backbone", rule, f"{'; '.join(parts)} in {where}")


def check_depth(architecture: Architecture, tensors: Tensors, where: object) -> None:
    """Raise InvalidArgument for more layers than there are tensors, before they are named."""
    layers = architecture.encoder_layers + architecture.decoder_layers
    present = sum(1 for _ in tensors)
    if layers > present:
        rule = "must hold every weight of a T5 and no others"
        raise invalid("backbone", rule, f"{layers} layers, {present} weights in {where}")


def check_shapes(
    tensors: Tensors,
    names: Names,
    architecture: Architecture,
    sources: Mapping[str, str],
    where: object,
) -> None:
    """Raise InvalidArgument for a tensor of another shape than its weight, before one is built.

    Args: as of `build`.
    """
    for name, path in names.expand(architecture).items():
        present = tensors.shape(sources.get(name, name))
        if path.rsplit(".", 1)[-1] in names.transposed:
            present = present[::-1]
        else:
            present = _flat_shape(present, architecture)
        shape = architecture.shape_of(path)
        if present != shape:
            rule = f"must hold {name} for a weight of shape {shape}"
            raise invalid("backbone", rule, f"shape={present} in {where}")


def build(
    tensors: Tensors,
    names: Names,
    architecture: Architecture,
    sources: Mapping[str, str],
    dtype: Any = None,
    quantize: str | None = None,
) -> Any:
    """Return a `T5Backbone` whose weights come straight from a checkpoint.

    One tensor at a time is held beside the backbone, the largest first: what reading one takes
    beside it is then least where the backbone is nearly whole. Of several hosts each reads what its
    own devices hold, as far as a file's rows or chunks tell that apart; of kernels that are to be
    quantised, and of T5X kernels with an axis for the heads, the whole.

    Args:
        tensors: the checkpoint.
        names: its name table.
        architecture: its shape; those of the tensors must have been checked, see `check_shapes`.
        sources: names whose tensors lie under another name.
        dtype: dtype policy.
        quantize: as of `filling.filled`.

    Raises:
        InvalidArgument: a tensor that cannot be read.
    """
    with filling.blank():
        backbone = architecture.build(dtype)
    paths = names.expand(architecture)
    with filling.filled(backbone, quantize) as put:
        for name in sorted(paths, key=lambda name: -math.prod(architecture.shape_of(paths[name]))):
            path = paths[name]
            weight = functools.reduce(_step, path.split("."), backbone)
            attribute = path.rsplit(".", 1)[-1]
            source, transposed = sources.get(name, name), attribute in names.transposed
            read = functools.partial(tensors.read, source, weight.dtype, transposed)
            values: Sliceable
            if attribute == "relative_attention_bias":
                two_way = path.startswith("encoder")
                values = in_32_buckets(read(), two_way, architecture.max_distance)
            elif len(tensors.shape(source)) == len(weight.shape):
                values = _InFile(tuple(weight.shape), read)
            else:  # which heads a part belongs to is not told by it
                values = read().reshape(_flat_shape(tensors.shape(source), architecture))
            put(weight, values)
            del values
        _pass_through(backbone.encoder_transformer_layers[architecture.encoder_layers :], put)
        _pass_through(backbone.decoder_transformer_layers[architecture.decoder_layers :], put)
    return backbone


def _step(owner: Any, attribute: str) -> Any:
    return owner[int(attribute)] if attribute.isdecimal() else getattr(owner, attribute)


def _flat_shape(shape: tuple[int, ...], architecture: Architecture) -> tuple[int, ...]:
    """Return a matrix's shape for a T5X kernel that keeps the heads as an axis of their own."""
    heads, width = architecture.num_heads, architecture.head_dim
    if shape == (architecture.hidden_dim, heads, width):
        return shape[0], heads * width
    if shape == (heads, width, architecture.hidden_dim):
        return heads * width, shape[2]
    return shape


def _pass_through(layers: Any, put: filling.Put) -> None:
    """Make layers return their input: every branch of a residual layer then adds 0."""
    for layer in layers:
        for weight in layer.weights:
            if weight.name == "kernel":
                put(weight, np.zeros(weight.shape, "float32"))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
