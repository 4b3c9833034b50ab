"""Fields of records: a meaning, a rule, and the command-line option that is made from them."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from keras_spot.base.errors import invalid, printable, shortened

__all__ = [
    "AMOUNT",
    "EXPONENT",
    "FLAG",
    "POSITIVE",
    "RATE",
    "SHARE",
    "TEXT",
    "WHOLE",
    "Rule",
    "about",
    "check",
    "check_text",
    "one_of",
]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value must be.

    Attributes:
        text: the rule as an error says it, "must be a positive integer".
        holds: whether a value keeps it.
    """

    text: str
    holds: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


POSITIVE = Rule("must be a positive integer", lambda value: type(value) is int and value >= 1)
WHOLE = Rule("must be an integer from 0 on", lambda value: type(value) is int and value >= 0)
RATE = Rule("must be a finite number above 0", lambda value: _is_number(value) and value > 0)
AMOUNT = Rule("must be a finite number from 0 on", lambda value: _is_number(value) and value >= 0)
SHARE = Rule("must be in [0, 1)", lambda value: _is_number(value) and 0 <= value < 1)
EXPONENT = Rule("must be in (0, 1]", lambda value: _is_number(value) and 0 < value <= 1)
FLAG = Rule("must be True or False", lambda value: isinstance(value, bool))
TEXT = Rule("must be a text", lambda value: isinstance(value, str))


def one_of(*choices: str) -> Rule:
    """Return the rule of a value out of a few."""
    known = [repr(choice) for choice in choices]
    text = f"must be {', '.join(known[:-1])} or {known[-1]}"
    return Rule(text, lambda value: isinstance(value, str) and value in choices)


def about(
    help: str,
    *,
    rule: Rule | None = None,
    option: Any = None,
    metavar: str | None = None,
    several: bool = False,
) -> dict[str, Any]:
    """Return the metadata of a record's field.

    Args:
        help: the meaning in one line, as the command line shows it.
        rule: what a value must be, checked by `check`; None passes where it is the default.
        option: the type of the command-line option, such as `int`, or its choices; `bool` is a
            flag. Default: it has none.
        metavar: what the option's value is called. Default: by the type.
        several: whether a bank may have one value for each prompt.
    """
    return {"help": help, "rule": rule, "option": option, "metavar": metavar, "several": several}


def check_text(record: Mapping[str, Any]) -> None:
    """Raise for a record that could not be read again: with half a character in a text.

    Names of files that are not UTF-8 have such.

    Raises:
        InvalidArgument: by the field's name.
    """
    for name, value in record.items():
        text = json.dumps(value, ensure_ascii=False, default=str)
        if printable(text) != text:
            raise invalid(name, "must be text in UTF-8, for it is recorded", shortened(text))


def check(record: Any) -> None:
    """Raise for the first field of a record that breaks its rule.

    Raises:
        InvalidArgument: such a field, by its name.
    """
    for field in dataclasses.fields(record):
        rule = field.metadata.get("rule")
        value = getattr(record, field.name)
        if rule is None or (value is None and field.default is None):
            continue
        values = (
            value if field.metadata["several"] and isinstance(value, (list, tuple)) else [value]
        )
        for one in values:
            if not rule.holds(one):
                raise invalid(field.name, rule.text, f"{field.name}={one!r}")
