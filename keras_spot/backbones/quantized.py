"""Backbones whose kernels are whole numbers of 8 or 4 bits.

Only the kernels of the projections are quantised, and only they: activations stay as they are, so
that the gradient of what is computed is exact, and the token embedding with the head stays in
float, since Keras quantises its inputs without a gradient.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_spot.base import reading
from keras_spot.base.choices import QUANTIZE
from keras_spot.base.errors import damaged, invalid, unknown

if TYPE_CHECKING:
    from keras_hub.models import T5Backbone

__all__ = [
    "ANOTHER_WAY",
    "BLOCK",
    "RECORD",
    "build",
    "configure",
    "configure_shapes",
    "empty",
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
    """Quantise the projections of a backbone in place, whatever their numbers are."""
    config = _config(mode)
    with _out_of_sight():
        for layer in _projections(backbone):
            _quantize(layer, mode, config)


@contextlib.contextmanager
def one_by_one(backbone: Any, mode: str | None) -> Iterator[Callable[[Any], None]]:
    """Quantise the projections of a backbone while its weights get their numbers.

    Args:
        backbone: `T5Backbone`; one that is quantised already stays as it is.
        mode: as of `quantize`, None for nothing at all.

    Returns:
        A function to call with each weight before it gets its numbers. It quantises the projection
        whose kernel got them before.
    """
    if mode is None or quantization(backbone) is not None:
        yield lambda weight: None
        return
    before, config = megabytes(backbone), _config(mode)
    owners = {id(layer.kernel): layer for layer in _projections(backbone)}
    waiting: list[Any] = []

    def begin(weight: Any) -> None:
        while waiting:
            _quantize(waiting.pop(), mode, config)
        if id(weight) in owners:
            waiting.append(owners.pop(id(weight)))

    with _out_of_sight():
        yield begin
        begin(None)
    print(f"quantize: {mode}, {before:.1f} -> {megabytes(backbone):.1f} MB of weights")


def empty(backbone: Any, mode: str, put: Callable[[Any, Any], None]) -> None:
    """Quantise the projections of a backbone without numbers; what they are is to be loaded.

    Args:
        backbone: `T5Backbone`, made in `filling.blank`.
        mode: as of `quantize`.
        put: gives a weight its values.
    """
    import numpy as np

    config = _config(mode)
    with _out_of_sight():
        for layer in _projections(backbone):
            put(layer.kernel, np.zeros(layer.kernel.shape, "float32"))
            _quantize(layer, mode, config)


def _quantize(layer: Any, mode: str, config: Any) -> None:
    """Quantise a projection, from the whole of its kernel where other hosts have parts of it."""
    from keras_spot.base import layouts

    kernel = layer.kernel
    if layouts.spans_hosts(kernel.value):
        import keras

        kernel._value = keras.ops.convert_to_tensor(layouts.fetched(kernel), dtype=kernel.dtype)
    layer.quantize(mode, config=config)


def _config(mode: str) -> Any:
    import keras

    if mode == "int8":
        return keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    return keras.quantizers.Int4QuantizationConfig(activation_quantizer=None, block_size=BLOCK)


@contextlib.contextmanager
def _out_of_sight() -> Iterator[None]:
    """Leave what Python holds out of the search for garbage.

    Keras collects it after each kernel that it deletes, and looks at all there is. The kernels are
    no garbage, they go at once: there is nothing to look at.
    """
    is_ours = not gc.get_freeze_count()
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()


def configure_shapes(backbone: T5Backbone, mode: str) -> None:
    """Give the projections of a backbone quantised kernels without a look at their numbers.

    For a backbone whose weights have no values, see `keras.StatelessScope`.
    """
    config = _config(mode)
    policy = mode if mode == "int8" else f"{mode}/{BLOCK}"
    for layer in _projections(backbone):
        shape = layer._kernel.shape
        layer._tracker.unlock()
        del layer._kernel
        layer.quantization_config = config
        layer.quantized_build(shape, mode, config)
        layer._tracker.lock()
        layer.dtype_policy = f"{policy}_from_{layer.dtype_policy.name}"


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
    """Return a quantised backbone whose numbers are random.

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
