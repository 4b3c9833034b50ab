"""Which library Keras computes with, and whether it is there."""

import importlib.util
import json
import os
from collections.abc import Collection
from pathlib import Path

from keras_spot.base.errors import MissingExtra, complaint, invalid, unknown

__all__ = ["COMPLETE", "check_backend"]

# Keras' name of a backend -> the package that it needs.
PACKAGES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch", "openvino": "openvino"}
COMPLETE = ("tensorflow", "jax")
"""Those with which the whole package runs, not models alone."""


def check_backend(known: Collection[str] = tuple(PACKAGES)) -> None:
    """Look for Keras' backend before it is imported, which would say less.

    Args:
        known: those that will do. Default: all of Keras'.

    Raises:
        InvalidArgument: `KERAS_BACKEND` or Keras' own file names no such backend.
        MissingExtra: the backend's package is not installed.
    """
    name = os.environ.get("KERAS_BACKEND") or _configured() or "tensorflow"
    if name not in PACKAGES:
        raise unknown("KERAS_BACKEND", name, known)
    if name not in known:
        raise invalid("KERAS_BACKEND", f"must be {' or '.join(known)} for this", name)
    if importlib.util.find_spec(PACKAGES[name]) is None:
        rule = f"must be a backend that is installed (pip install {PACKAGES[name]})"
        raise MissingExtra(complaint("KERAS_BACKEND", rule, name))


def _configured() -> str | None:
    """Return the backend of Keras' own file, None where there is none or it says nothing."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        record = json.loads((Path(home) / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    backend = record.get("backend") if isinstance(record, dict) else None
    return backend if isinstance(backend, str) else None
