"""What a value of a row means: one rule for every reader, TFDS, files and rows in memory alike."""

import decimal
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = [
    "Row",
    "is_missing",
    "label_number",
    "plain",
    "shown",
    "shown_names",
    "unicode_reason",
    "unique",
]

Row = Mapping[str, Any]

_ATOMS = (str, int, float, type(None))
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{0,15})?")
_TRUTH = ("true", "false")
_SHOWN = 80  # characters of a value, or names of a list, in a message


def plain(value: Any) -> Any:
    """Return bytes as text and NumPy values as Python ones, through lists and dicts.

    Raises:
        UnicodeError: bytes that are not UTF-8, or a text with half a character in it (a lone
            surrogate), which no tokenizer takes.

    >>> plain({"text": b"good", "idx": [1, 2]})
    {'text': 'good', 'idx': [1, 2]}
    """
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, str):
        if not value.isascii():
            value.encode("utf-8")
        return str(value)
    if isinstance(value, _ATOMS):
        return value
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if is_missing(value):
        return None
    return str(value)  # a date, a decimal number


def is_missing(value: Any) -> bool:
    """Say whether a value is none: null, NaN or a blank text.

    >>> [is_missing(value) for value in (None, float("nan"), " ", b"", 0, False, "nan")]
    [True, True, True, True, False, False, False]
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, (str, bytes)):
        return not value.strip()
    return isinstance(value, (float, decimal.Decimal)) and math.isnan(value)


def label_number(value: Any, labels: Sequence[str], indices: bool | None) -> int | None:
    """Return the number of the label that a value names, None where the value is missing.

    A value whose text is a label's name is that label: `1`, `1.0`, `"1"` and `"1.0"` are all the
    label "1", `True`, `"true"` and `"TRUE"` the label "True". Only where the task's labels are
    indices is a whole number the label at that place, and -1 no label.

    Args:
        value: a plain Python value (`plain`).
        labels: the label names, in the order of their numbers.
        indices: True: whole numbers are places in `labels`. False: they are texts like any
            other. None: they are places, and one that is another label's name is refused.

    Raises:
        InvalidArgument: no such label, or more than one that it may be; the message has the rule.

    >>> label_number(1, ("1", "2"), False), label_number("true", ("False", "True"), False)
    (0, 1)
    >>> label_number(1, ("1", "2"), True), label_number(-1, ("bad", "good"), True)
    (1, None)
    """
    if is_missing(value):
        return None
    named = _named(value, labels)
    place = None if indices is False else _whole(value)
    if place is None or (named and isinstance(value, bool)):
        if len(named) == 1:
            return named[0]
    elif indices is None and any(number != place for number in named):
        named = [*named, place]
    elif place == -1:
        return None
    elif 0 <= place < len(labels):
        return place
    else:
        named = []
    names = shown_names(labels)
    if named:
        raise ValueError(f"must be one label of {names}, not several (`label_indices` says which)")
    if indices is False:
        numbers = " (a place among them only with `label_indices`)" * (_whole(value) is not None)
        raise ValueError(f"must be one of {names}{numbers}")
    raise ValueError(f"must be one of {names} or a number from -1 to {len(labels) - 1}")


def _named(value: Any, labels: Sequence[str]) -> list[int]:
    """Return the numbers of the labels that the value's text names: exactly, else as a value."""
    text = str(value).strip()
    if text in labels:
        return [labels.index(text)]
    if text.lower() in _TRUTH:
        return [i for i, label in enumerate(labels) if label.lower() == text.lower()]
    if not isinstance(value, bool) and _NUMBER.fullmatch(text):
        return [
            i
            for i, label in enumerate(labels)
            if _NUMBER.fullmatch(label) and float(label) == float(text)
        ]
    return []


def _whole(value: Any) -> int | None:
    """Return the whole number that a value is, None for another value."""
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return None
        value = float(text)
    if isinstance(value, int):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


def unicode_reason(error: UnicodeError) -> str:
    """Return what is wrong with a text or its bytes, without the text itself."""
    if isinstance(error, UnicodeEncodeError):
        return f"half a character (a lone surrogate) at position {error.start}"
    return str(error)


def shown(value: Any) -> str:
    """Return a value for a message, cut to a line; anchors of YAML may nest without end.

    >>> shown(["a"] * 1000)
    "['a', 'a', 'a', 'a', 'a', 'a', ...]"
    """
    import reprlib

    short = reprlib.Repr()
    short.maxlevel = 2
    short.maxstring = short.maxother = _SHOWN
    text = short.repr(value)
    return text if len(text) <= 3 * _SHOWN else text[: 3 * _SHOWN] + "..."


def shown_names(names: Sequence[str], most: int = 20) -> str:
    """Return a list of names for a message, the first of them where they are many."""
    listed = ", ".join(repr(name) for name in itertools.islice(names, most))
    return f"[{listed}, … ({len(names)})]" if len(names) > most else f"[{listed}]"


def unique(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return a mapping of the pairs; a name that stands twice is refused."""
    mapping: dict[Any, Any] = {}
    for name, value in pairs:
        if name in mapping:
            raise ValueError(f"{shown(name)} stands twice")
        mapping[name] = value
    return mapping
