"""Slices of a split by TFDS' rules, for rows that TFDS does not hold: "train[:50%]+dev[-100:]"."""

import dataclasses
import re
from collections.abc import Callable

from keras_spot.base.errors import invalid

__all__ = ["Slice", "parse"]

_BOUND = r"(-?\d{1,12})(%?)"
_PART = re.compile(rf"\s*([^\[\]+\s]+)(?:\[\s*(?:{_BOUND})?\s*:\s*(?:{_BOUND})?\s*\])?\s*")


@dataclasses.dataclass(frozen=True)
class Slice:
    """Some rows of one split.

    Attributes:
        name: the split.
        first, last: bounds as they were written, each a number and whether it is of percent; None
            for the split's own ends.
    """

    name: str
    first: tuple[int, bool] | None = None
    last: tuple[int, bool] | None = None

    def bounds(self, count: Callable[[], int]) -> tuple[int, int | None]:
        """Return the first row and the one behind the last (None: to the end).

        Args:
            count: gives the number of the split's rows, asked for only where the bounds need it.

        >>> Slice("train", (50, True)).bounds(lambda: 7)
        (4, None)
        """
        first = 0 if self.first is None else _place(self.first, count)
        last = None if self.last is None else _place(self.last, count)
        return first, last


def parse(split: str) -> list[Slice]:
    """Return the parts of a split.

    Raises:
        InvalidArgument: no split or slice.

    >>> parse("train[:50%]+dev")
    [Slice(name='train', first=None, last=(50, True)), Slice(name='dev', first=None, last=None)]
    """
    parts = []
    for text in split.split("+"):
        match = _PART.fullmatch(text)
        if not match:
            rule = "must be a name, or a slice such as name[first:last] or name[:50%]"
            raise invalid("split", rule, f"split={split!r}")
        first, last = _bound(split, match[2], match[3]), _bound(split, match[4], match[5])
        parts.append(Slice(match[1], first, last))
    return parts


def _bound(split: str, number: str | None, percent: str | None) -> tuple[int, bool] | None:
    if number is None:
        return None
    if percent and not -100 <= int(number) <= 100:
        raise invalid("split", "must have percents up to 100", f"split={split!r}")
    return int(number), bool(percent)


def _place(bound: tuple[int, bool], count: Callable[[], int]) -> int:
    number, percent = bound
    if percent:
        number = round(number * count() / 100)
    if number < 0 or (percent and bound[0] < 0):
        number = max(0, number + count())
    return number
