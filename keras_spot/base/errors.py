"""One shape for every complaint: the argument, the rule it broke, what came instead."""

import difflib
from collections.abc import Iterable


def invalid(argument: str, rule: str, received: object) -> ValueError:
    """Return the error for a value that breaks a rule.

    >>> raise invalid("length", "must be a positive integer", "length=0")
    Traceback (most recent call last):
    ValueError: `length` must be a positive integer. Received: length=0
    """
    return ValueError(f"`{argument}` {rule}. Received: {received}")


def unknown(argument: str, value: object, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not among `known`, with the closest ones.

    >>> raise unknown("task", "mprc", ["mrpc", "rte"])
    Traceback (most recent call last):
    ValueError: `task` must be a known name. Received: task='mprc' (did you mean 'mrpc'?)
    """
    known = list(known)
    close = difflib.get_close_matches(str(value), known, n=2)
    if close:
        hint = "did you mean " + " or ".join(repr(name) for name in close) + "?"
    else:
        hint = "known: " + ", ".join(sorted(known)[:20]) + (", …" if len(known) > 20 else "")
    return invalid(argument, "must be a known name", f"{argument}={value!r} ({hint})")
