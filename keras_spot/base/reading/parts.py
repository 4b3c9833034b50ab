"""Parts of arrays: a slice of each side."""

from collections.abc import Sequence

__all__ = ["shifted", "within"]


def within(part: Sequence[slice] | None, shape: Sequence[int]) -> tuple[slice, ...]:
    """Return a part of an array with each slice's ends as numbers, the whole of it for None.

    >>> within([slice(None), slice(2, 4)], (3, 8)), within(None, (3,))
    ((slice(0, 3, None), slice(2, 4, None)), (slice(0, 3, None),))
    """
    asked = [slice(None)] * len(shape) if part is None else part
    ends = (side.indices(length) for side, length in zip(asked, shape, strict=True))
    return tuple(slice(begin, end) for begin, end, _ in ends)


def shifted(part: Sequence[slice], origin: Sequence[int]) -> tuple[slice, ...]:
    """Return where a part lies in what begins elsewhere.

    >>> shifted([slice(4, 6)], [4])
    (slice(0, 2, None),)
    """
    return tuple(
        slice(side.start - begin, side.stop - begin)
        for side, begin in zip(part, origin, strict=True)
    )
