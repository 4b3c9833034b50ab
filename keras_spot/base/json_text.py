"""JSON as others read it: numbers that are not finite, which it does not know, are null."""

import json
import math
import numbers
from collections.abc import Mapping
from typing import Any

__all__ = ["finite", "to_json"]


def to_json(value: Any, **options: Any) -> str:
    """Return a value as JSON.

    Args:
        value: what `json.dumps` takes.
        **options: of `json.dumps`.

    >>> to_json({"score": float("nan"), "curve": [(1, 0.5)]})
    '{"score": null, "curve": [[1, 0.5]]}'
    """
    return json.dumps(finite(value), allow_nan=False, **options)


def finite(value: Any) -> Any:
    """Return a value with None for every number in it that is not finite."""
    if isinstance(value, numbers.Real) and not isinstance(value, int):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value
