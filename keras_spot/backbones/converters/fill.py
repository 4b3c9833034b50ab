"""Put a checkpoint's tensors into a `T5Backbone`: one at a time, none missing, none left."""

import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from keras_spot.backbones.converters.architecture import Architecture
from keras_spot.backbones.converters.names import Names
from keras_spot.backbones.converters.positions import in_32_buckets
from keras_spot.base.errors import invalid

__all__ = ["Tensors", "check_coverage", "check_depth", "check_shapes", "fill"]

_SHOWN = 3  # names in a complaint


class Tensors(Protocol):
    """A checkpoint's tensors, read when they are asked for."""

    def __iter__(self) -> Iterator[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str) -> np.ndarray: ...


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

    Args: as of `fill`.
    """
    for name, path in names.expand(architecture).items():
        stored = tensors.shape(sources.get(name, name))
        present = _flat_shape(stored, architecture)
        if path.rsplit(".", 1)[-1] in names.transposed:
            present = present[::-1]
        shape = architecture.shape_of(path)
        if present != shape:
            rule = f"must hold {name} for a weight of shape {shape}"
            raise invalid("backbone", rule, f"shape={present} in {where}")


def fill(
    backbone: Any,
    tensors: Tensors,
    names: Names,
    architecture: Architecture,
    sources: Mapping[str, str],
    where: object,
) -> None:
    """Assign every weight of a backbone that `architecture.build` made.

    One tensor at a time is held beside the backbone, as it is stored and as Keras wants it.

    Args:
        backbone: a `T5Backbone`.
        tensors: the checkpoint.
        names: its name table.
        architecture: what the backbone was built from.
        sources: names whose tensors lie under another name.
        where: the checkpoint, for errors.

    The shapes must have been checked, see `check_shapes`.

    Raises:
        InvalidArgument: a tensor that cannot be read.
    """
    for name, path in names.expand(architecture).items():
        variable = functools.reduce(_step, path.split("."), backbone)
        attribute = path.rsplit(".", 1)[-1]
        values = tensors.read(sources.get(name, name))
        values = values.reshape(_flat_shape(values.shape, architecture))
        if attribute in names.transposed:
            values = values.T
        if attribute == "relative_attention_bias":
            values = in_32_buckets(values, path.startswith("encoder"), architecture.max_distance)
        variable.assign(values)
        del values
    _pass_through(backbone.encoder_transformer_layers[architecture.encoder_layers :])
    _pass_through(backbone.decoder_transformer_layers[architecture.decoder_layers :])


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


def _pass_through(layers: Any) -> None:
    """Make layers return their input: every branch of a residual layer then adds 0."""
    for layer in layers:
        for weight in layer.weights:
            if weight.name == "kernel":
                weight.assign(np.zeros(weight.shape, "float32"))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
