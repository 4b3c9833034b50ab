"""What tells one frozen backbone from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.base.types import Backbone

__all__ = ["HasProvenance", "check_fingerprint", "fingerprint"]

_SAMPLE = 256  # values a weight contributes


class HasProvenance(Protocol):
    """What is used of a `prompts.Prompt`."""

    @property
    def provenance(self) -> Mapping[str, Any]: ...

    @property
    def path(self) -> Path | None: ...


def fingerprint(backbone: Backbone) -> str:
    """Return 16 hexadecimal digits that tell frozen backbones apart.

    A hash of the architecture and of up to 256 evenly spaced values of every weight, rounded to
    bfloat16, so that a backbone has one fingerprint in either storage precision. A prompt
    is only good for the backbone it was trained with; files and runs record this.
    """
    digest = hashlib.sha256()
    config = backbone.get_config()
    for key in sorted(set(config) - {"name", "dtype", "dropout", "trainable"}):
        digest.update(f"{key}={config[key]!r};".encode())
    for weight in backbone.weights:
        if "seed" in weight.path.rsplit("/", 1)[-1]:
            continue
        size = int(np.prod(weight.shape))
        sample = _numbers(weight, range(0, size, max(1, size // _SAMPLE))[:_SAMPLE])
        digest.update(f"{tuple(weight.shape)}".encode())
        digest.update(_bfloat16_bits(sample).tobytes())
    return digest.hexdigest()[:16]


def check_fingerprint(prompt: HasProvenance, expected: str, argument: str = "prompt_init") -> None:
    """Raise InvalidArgument for a `prompts.Prompt` that was trained on another backbone."""
    recorded = prompt.provenance.get("backbone")
    if recorded and recorded != expected:
        rule = (
            f"must come from this backbone ({expected}); "
            "to use its numbers all the same, pass the array"
        )
        raise invalid(argument, rule, f"backbone={recorded} in {prompt.path}")


def _numbers(weight: Any, places: range) -> np.ndarray:
    """Return some of a weight's numbers by their places in it, without a copy of the rest."""
    import keras
    from keras import ops

    from keras_spot.base import layouts

    if keras.config.backend() == "jax":
        place = np.unravel_index(np.array(places), weight.shape)
        return np.asarray(layouts.picked(weight.value, place), "float32")
    values = ops.reshape(weight, (-1,))[:: places.step][: len(places)]
    return ops.convert_to_numpy(ops.cast(values, "float32"))


def _bfloat16_bits(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
