"""Which library Keras computes with, and whether it is there."""

import importlib.util
import json
import os
from pathlib import Path

from keras_spot.base.errors import MissingExtra, complaint, unknown

__all__ = ["check_backend"]

# Keras' name of a backend -> the package that it needs.
PACKAGES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch", "openvino": "openvino"}


def check_backend() -> None:
    """Look for Keras' backend before it is imported, which would say less.

    Raises:
        InvalidArgument: `KERAS_BACKEND` or Keras' own file names no backend.
        MissingExtra: the backend's package is not installed.
    """
    name = os.environ.get("KERAS_BACKEND") or _configured() or "tensorflow"
    if name not in PACKAGES:
        raise unknown("KERAS_BACKEND", name, PACKAGES)
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
