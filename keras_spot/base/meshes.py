"""The words of a layout, and which side of a T5's matrices lies along which axis of a mesh."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from keras_spot.base.errors import invalid

__all__ = ["DATA", "LAYOUTS", "MODEL", "axes_of", "check_sides", "parse", "resolve"]

DATA, MODEL = "data", "model"
_WORDS = re.compile(r"(data|model)(?::([1-9][0-9]{0,4}))?")

# Of each matrix, the axis of the mesh that its rows and its columns are spread over. A projection
# into heads or into the inner width is spread by columns, the one out of them by rows, so that only
# their sum is exchanged. Keras matches whole paths, and leaves what does not match on all devices.
LAYOUTS = {
    "token_embedding/embeddings": (MODEL, None),
    "token_embedding/reverse_embeddings": (None, MODEL),
    ".*/(self|cross)_attention/(query|key|value)_projector/kernel": (None, MODEL),
    ".*/(self|cross)_attention/output_projector/kernel": (MODEL, None),
    "transformer_(en|de)coder_layer_[0-9]+/(input|gate)_projector/kernel": (None, MODEL),
    "transformer_(en|de)coder_layer_[0-9]+/output_projector/kernel": (MODEL, None),
}


def parse(choice: str) -> dict[str, int | None] | None:
    """Return the axes that a layout's words name with their sizes, None for other words.

    >>> parse("data:2,model:4"), parse("data"), parse("mirrored")
    ({'data': 2, 'model': 4}, {'data': None}, None)
    """
    axes: dict[str, int | None] = {}
    for word in choice.split(","):
        match = _WORDS.fullmatch(word)
        if match is None or match[1] in axes:
            return None
        axes[match[1]] = int(match[2]) if match[2] else None
    return axes


def resolve(choice: str, axes: Mapping[str, int | None], present: int) -> dict[str, int]:
    """Return the sizes of both axes; at most one size may be open, and takes what is left.

    Raises:
        InvalidArgument: more devices than there are, or two open sizes.
    """
    given = math.prod(size for size in axes.values() if size)
    open_axes = [name for name, size in axes.items() if size is None]
    if len(open_axes) > 1:
        rule = "must give the size of one axis at least, as in data:2,model:4"
        raise invalid("devices", rule, repr(choice))
    if given > present or (open_axes and present % given):
        raise invalid("devices", f"must suit the {present} devices there are", repr(choice))
    sizes = {name: size or present // given for name, size in axes.items()}
    return {DATA: sizes.get(DATA, 1), MODEL: sizes.get(MODEL, 1)}


def axes_of(path: str) -> tuple[str | None, ...]:
    """Return the axes that the variable of that path is spread over, `()` for none.

    >>> axes_of("transformer_encoder_layer_0/self_attention/query_projector/kernel")
    (None, 'model')
    """
    matches = (axes for pattern, axes in LAYOUTS.items() if re.fullmatch(pattern, path))
    return next(matches, ())


def check_sides(sides: Mapping[str, int], sizes: Mapping[str, int]) -> None:
    """Raise InvalidArgument where a side cannot be dealt out evenly along the model axis.

    >>> check_sides({"inner width": 60}, {"data": 1, "model": 8})
    Traceback (most recent call last):
    keras_spot.base.errors.InvalidArgument: `devices` must deal out the inner width evenly over
    model. Received: model:8 for 60
    """
    for name, side in sides.items():
        if side % sizes[MODEL]:
            rule = f"must deal out the {name} evenly over {MODEL}"
            raise invalid("devices", rule, f"{MODEL}:{sizes[MODEL]} for {side}")
