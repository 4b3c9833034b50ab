"""The words of a layout, and which side of a T5's matrices lies along which axis of a mesh."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from keras_spot.base.errors import invalid, unsuitable

__all__ = [
    "DATA",
    "FSDP",
    "MODEL",
    "axes_of",
    "batch_axis",
    "check_sides",
    "matrices",
    "parse",
    "resolve",
    "uneven_heads",
]

# What the devices along an axis have of their own: rows of a batch; these and a part of every
# matrix, which is gathered where it is used (fully sharded data parallel); a part of every matrix.
DATA, FSDP, MODEL = "data", "fsdp", "model"
_WORDS = re.compile(r"(data|fsdp|model)(?::([1-9][0-9]{0,4}))?")

# Of each matrix, the axis of the mesh that its rows and its columns are spread over. A projection
# into heads or into the inner width is spread by columns, the one out of them by rows, so that only
# their sum is exchanged. Keras matches whole paths, and leaves what does not match on all devices.
_MATRICES = {
    "token_embedding/embeddings": (MODEL, None),
    "token_embedding/reverse_embeddings": (None, MODEL),
    ".*/(self|cross)_attention/(query|key|value)_projector/kernel": (None, MODEL),
    ".*/(self|cross)_attention/output_projector/kernel": (MODEL, None),
    "transformer_(en|de)coder_layer_[0-9]+/(input|gate)_projector/kernel": (None, MODEL),
    "transformer_(en|de)coder_layer_[0-9]+/output_projector/kernel": (MODEL, None),
}

_OF_BLOCKS = re.compile("kernel_(scale|zero)$")


def parse(choice: str) -> dict[str, int | None] | None:
    """Return the axes that a layout's words name with their sizes, None for other words.

    >>> parse("data:2,model:4"), parse("fsdp"), parse("mirrored")
    ({'data': 2, 'model': 4}, {'fsdp': None}, None)
    """
    axes: dict[str, int | None] = {}
    for word in choice.split(","):
        match = _WORDS.fullmatch(word)
        if match is None or match[1] in axes:
            return None
        axes[match[1]] = int(match[2]) if match[2] else None
    return axes


def resolve(choice: str, axes: Mapping[str, int | None], present: int) -> dict[str, int]:
    """Return the sizes of a mesh's two axes, that of batches first, then that of the model.

    At most one size may be open, and takes what is left.

    Raises:
        InvalidArgument: more devices than there are, two open sizes, or data beside fsdp.

    >>> resolve("fsdp,model:2", {"fsdp": None, "model": 2}, present=8)
    {'fsdp': 4, 'model': 2}
    """
    if DATA in axes and FSDP in axes:
        rule = "must deal out batches over one axis, data or fsdp"
        raise invalid("devices", rule, repr(choice))
    given = math.prod(size for size in axes.values() if size)
    open_axes = [name for name, size in axes.items() if size is None]
    if len(open_axes) > 1:
        rule = "must give the size of one axis at least, as in data:2,model:4"
        raise invalid("devices", rule, repr(choice))
    if given > present or (open_axes and present % given):
        raise invalid("devices", f"must suit the {present} devices there are", repr(choice))
    sizes = {name: size or present // given for name, size in axes.items()}
    over = batch_axis(sizes)
    return {over: sizes.get(over, 1), MODEL: sizes.get(MODEL, 1)}


def batch_axis(axes: Iterable[str]) -> str:
    """Return the axis of a mesh that the rows of a batch are dealt out over.

    >>> batch_axis({"fsdp": 4, "model": 2}), batch_axis({"model": 8})
    ('fsdp', 'data')
    """
    return FSDP if FSDP in axes else DATA


def matrices(axes: Iterable[str]) -> dict[str, tuple[str | None, str | None]]:
    """Return the patterns of the matrices' paths, and the axes that their sides are spread over.

    Over fsdp, where a mesh has it, goes the side that does not go over the model's axis.
    """
    other = FSDP if FSDP in axes else None
    return {path: (rows or other, columns or other) for path, (rows, columns) in _MATRICES.items()}


def axes_of(path: str, shape: Sequence[int], sizes: Mapping[str, int]) -> tuple[str | None, ...]:
    """Return the axes of a mesh that a variable is spread over, `()` for none.

    Scales and zeros of blocks of a quantised kernel go where the kernel goes, by the sides that can
    be dealt out evenly.

    Args:
        path: the variable's.
        shape: the variable's.
        sizes: of the mesh's axes.

    >>> path, sizes = "transformer_encoder_layer_0/input_projector/kernel", {"fsdp": 4, "model": 2}
    >>> axes_of(path, (64, 96), sizes), axes_of(path + "_scale", (2, 96), sizes)
    (('fsdp', 'model'), (None, 'model'))
    """
    kernel = _OF_BLOCKS.sub("kernel", path) if len(shape) == 2 else path
    known = matrices(sizes).items()
    axes = next((sides for pattern, sides in known if re.fullmatch(pattern, kernel)), ())
    if kernel == path:
        return axes
    return tuple(
        axis if axis is not None and side % sizes[axis] == 0 else None
        for axis, side in zip(axes, shape)
    )


def check_sides(sides: Mapping[str, tuple[str, int]], sizes: Mapping[str, int]) -> None:
    """Raise UnsuitableDevices where a side cannot be dealt out evenly along its axis.

    Args:
        sides: what a side is called -> its axis, which a mesh need not have, and its length.
        sizes: of the mesh's axes.

    >>> check_sides({"inner width": ("model", 60)}, {"data": 1, "model": 8})
    Traceback (most recent call last):
    keras_spot.base.errors.UnsuitableDevices: `devices` must deal out the inner width evenly over
    model. Received: model:8 for 60
    """
    for name, (axis, side) in sides.items():
        if side % sizes.get(axis, 1):
            rule = f"must deal out the {name} evenly over {axis}"
            raise unsuitable(rule, f"{axis}:{sizes[axis]} for {side}")


def uneven_heads(heads: int, sizes: Mapping[str, int]) -> str | None:
    """Return what to say where the heads of attention do not divide by a mesh's model axis.

    Args:
        heads: of the backbone.
        sizes: of the mesh's axes.

    >>> uneven_heads(6, {"data": 2, "model": 4})  # doctest: +ELLIPSIS
    '6 heads do not divide by model:4: ... slow; model:2, model:3 and model:6 divide them'
    >>> uneven_heads(6, {"data": 4, "model": 2})
    """
    over = sizes.get(MODEL, 1)
    if heads % over == 0:
        return None
    dividing = [f"{MODEL}:{size}" for size in range(2, heads + 1) if heads % size == 0]
    known = " and ".join([", ".join(dividing[:-1]), dividing[-1]] if dividing[1:] else dividing)
    return (
        f"{heads} heads do not divide by {MODEL}:{over}: results are the same, but each attention "
        f"deals them out anew, which is slow; {known or 'no other sizes'} divide them"
    )
