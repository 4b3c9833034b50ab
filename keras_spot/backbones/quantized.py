"""Backbones whose kernels are whole numbers of 8 or 4 bits.

Only the kernels of the projections are quantised, and only they: activations stay as they are, so
that the gradient of what is computed is exact, and the token embedding with the head stays in
float, since Keras quantises its inputs without a gradient.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_spot.backbones import blanks, rounding
from keras_spot.base import reading
from keras_spot.base.choices import QUANTIZE
from keras_spot.base.errors import damaged, invalid, unknown
from keras_spot.base.reading.arrays import plain_dtype
from keras_spot.base.types import Sliceable

if TYPE_CHECKING:
    from keras_hub.models import T5Backbone

__all__ = [
    "ANOTHER_WAY",
    "BLOCK",
    "RECORD",
    "build",
    "configure",
    "megabytes",
    "one_by_one",
    "quantization",
    "quantize",
    "read",
    "record",
    "write",
]

ANOTHER_WAY = "another way"
RECORD = "quantization.json"
BLOCK = 32  # rows of a kernel that share a scale in int4
_LIMIT = 1 << 16  # bytes


def quantize(backbone: T5Backbone, mode: str) -> None:
    """Quantise the projections of a backbone in place, and print what that saves.

    Args:
        backbone: `T5Backbone`.
        mode: `"int8"`, a scale for each column, or `"int4"`, one for 32 rows of each column.

    Raises:
        InvalidArgument: an unknown mode, or a backbone that is quantised otherwise already.
    """
    if mode not in QUANTIZE:
        raise unknown("quantize", mode, QUANTIZE)
    present = quantization(backbone)
    if present == mode:
        return
    if present is not None:
        rule = "must be None for a backbone that is quantised already"
        raise invalid("quantize", rule, f"{mode} of one in {present}")
    before = megabytes(backbone)
    configure(backbone, mode)
    print(f"quantize: {mode}, {before:.1f} -> {megabytes(backbone):.1f} MB of weights")


def configure(backbone: T5Backbone, mode: str) -> None:
    """Quantise the projections of a backbone in place, those without numbers in shape alone."""
    config = _config(mode)
    for layer in _projections(backbone):
        _quantize(layer, mode, config)


@contextlib.contextmanager
def one_by_one(
    backbone: Any, mode: str | None
) -> Iterator[Callable[[Any, Sliceable], None] | None]:
    """Quantise the projections of a blank backbone while its weights get their numbers.

    Args:
        backbone: `T5Backbone`; one that is quantised already stays as it is.
        mode: as of `quantize`, None for nothing at all.

    Returns:
        What gives a weight its numbers in place of `blanks.put`, and quantises those of a
        projection's kernel before; None where nothing is to be quantised.
    """
    if mode is None or quantization(backbone) is not None:
        yield None
        return
    before, config = megabytes(backbone), _config(mode)
    owners = {id(layer.kernel): layer for layer in _projections(backbone)}

    def put_quantized(weight: Any, values: Sliceable) -> None:
        layer = owners.pop(id(weight), None)
        if layer is None:
            blanks.put(weight, values)
            return
        _reshape(layer, mode, config)
        _fill(layer, np.asarray(values[...], plain_dtype(weight.dtype)), mode)

    yield put_quantized
    print(f"quantize: {mode}, {before:.1f} -> {megabytes(backbone):.1f} MB of weights")


def _quantize(layer: Any, mode: str, config: Any) -> None:
    from keras_spot.base import layouts

    kernel = layer.kernel
    if kernel._value is None:
        _reshape(layer, mode, config)
        return
    values = layouts.fetched(kernel)
    del kernel
    _reshape(layer, mode, config)
    _fill(layer, values, mode)


def _reshape(layer: Any, mode: str, config: Any) -> None:
    """Let a projection have blank variables of a mode in place of its kernel."""
    shape = layer._kernel.shape
    # `del` would search for garbage after each, for longer than all of the rest takes.
    layer._untrack_variable(layer._kernel)
    layer._tracker.unlock()
    layer.quantization_config = config
    with blanks.without_numbers():
        layer.quantized_build(shape, mode, config)
    layer._tracker.lock()
    policy = mode if mode == "int8" else f"{mode}/{BLOCK}"
    layer.dtype_policy = f"{policy}_from_{layer.dtype_policy.name}"


def _fill(layer: Any, values: np.ndarray, mode: str) -> None:
    """Give a projection the numbers of its mode that stand for a kernel's values `[in, out]`."""
    for name, numbers in rounding.rounded(values, mode, BLOCK).items():
        blanks.put(getattr(layer, name), numbers)
    for weight in blanks.blank_weights(layer):
        weight._deferred_initialize()  # which rows share a scale


def _config(mode: str) -> Any:
    import keras

    if mode == "int8":
        return keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    return keras.quantizers.Int4QuantizationConfig(activation_quantizer=None, block_size=BLOCK)


def quantization(backbone: T5Backbone) -> str | None:
    """Return the mode that a backbone is quantised in, `ANOTHER_WAY` unless by `quantize`.

    None for a backbone of plain numbers.
    """
    modes = set()
    for layer in backbone._flatten_layers(include_self=False):
        if len(list(layer._flatten_layers())) > 1:
            continue
        mode = layer.quantization_mode
        exact = _is_projection(layer) and getattr(layer, "inputs_quantizer", None) is None
        if exact != _is_projection(layer) or (mode and not exact):
            return ANOTHER_WAY
        if exact:
            modes.add(mode)
    if len(modes) > 1 or not modes <= {None, *QUANTIZE}:
        return ANOTHER_WAY
    return modes.pop() if modes else None


def megabytes(backbone: Any) -> float:
    """Return the size of a backbone's weights in megabytes."""
    return sum(math.prod(w.shape) * _width(w.dtype) for w in backbone.weights) / 1e6


def record(backbone: Any) -> dict[str, str] | None:
    """Return how a backbone is quantised and the dtype policy of the rest, None if it is not."""
    mode = quantization(backbone)
    if mode not in QUANTIZE:
        return None
    return {"mode": mode, "dtype": backbone.dtype_policy.name}


def build(config: dict[str, Any], facts: dict[str, str], dtype: Any = None) -> T5Backbone:
    """Return a quantised backbone whose numbers are random; none inside `filling.blank`.

    Args:
        config: of a `T5Backbone`; KerasHub's own does not tell all of the dtypes.
        facts: of `record`.
        dtype: dtype policy of what is not quantised. Default: the recorded one.
    """
    from keras_hub.models import T5Backbone

    made = T5Backbone.from_config({**config, "dtype": dtype or facts["dtype"]})
    configure(made, facts["mode"])
    return made


def write(backbone: Any, folder: Path) -> None:
    """Write a backbone's record beside its preset; nothing for one that is not quantised."""
    facts = record(backbone)
    if facts is not None:
        (folder / RECORD).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, str] | None:
    """Return the record beside a preset, None where there is none.

    Raises:
        DamagedFile: a record that is none.
    """
    file = folder / RECORD
    if not file.is_file():
        return None
    rule = f"must hold a mode ({', '.join(QUANTIZE)}) and a dtype"
    facts = reading.read_record(file, argument="backbone", rule=rule, limit=_LIMIT)
    if facts.get("mode") not in QUANTIZE or not isinstance(facts.get("dtype"), str):
        raise damaged(file, rule, repr(facts), argument="backbone")
    return facts


def _projections(backbone: Any) -> list[Any]:
    return [layer for layer in backbone._flatten_layers() if _is_projection(layer)]


def _is_projection(layer: Any) -> bool:
    import keras

    return isinstance(layer, keras.layers.Dense)


def _width(dtype: Any) -> float:
    """Return the bytes of a number.

    >>> _width("bfloat16"), _width("int8")
    (2.0, 1.0)
    """
    return int("".join(filter(str.isdigit, str(dtype))) or 8) / 8
