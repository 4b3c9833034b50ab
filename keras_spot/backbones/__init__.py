"""Frozen T5 backbones by name, folder or address, and what tells one from another."""

from keras_spot.backbones import quantized
from keras_spot.backbones.converters.shortcuts import SHORTCUTS
from keras_spot.backbones.fingerprints import check_fingerprint, fingerprint
from keras_spot.backbones.named import (
    EMBEDDED,
    PRESET,
    freeze,
    is_backbone,
    load,
    quiet_masks,
    recipe_for,
    save,
    warn_of_span_corruption,
)
from keras_spot.backbones.quantized import ANOTHER_WAY, quantization

__all__ = [
    "ANOTHER_WAY",
    "EMBEDDED",
    "PRESET",
    "SHORTCUTS",
    "check_fingerprint",
    "fingerprint",
    "freeze",
    "is_backbone",
    "load",
    "quantization",
    "quantized",
    "quiet_masks",
    "recipe_for",
    "save",
    "warn_of_span_corruption",
]
