"""Frozen T5 backbones by name, folder or address, and what tells one from another."""

from keras_spot.backbones.converters.shortcuts import SHORTCUTS
from keras_spot.backbones.named import (
    EMBEDDED,
    PRESET,
    check_fingerprint,
    fingerprint,
    freeze,
    is_backbone,
    load,
    quiet_masks,
    recipe_for,
    save,
    warn_of_span_corruption,
)

__all__ = [
    "EMBEDDED",
    "PRESET",
    "SHORTCUTS",
    "check_fingerprint",
    "fingerprint",
    "freeze",
    "is_backbone",
    "load",
    "quiet_masks",
    "recipe_for",
    "save",
    "warn_of_span_corruption",
]
