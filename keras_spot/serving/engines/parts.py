"""A batch dealt out to the processor's cores."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Parts"]

_T = TypeVar("_T")


class Parts:
    """Computes a batch in several parts at once, each in a thread of its own.

    Args:
        count: parts at most.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, "part") if count > 1 else None

    def __call__(
        self, compute: Callable[[Sequence[int]], _T], places: Sequence[int]
    ) -> list[tuple[Sequence[int], _T]]:
        """Return each part of `places`, neighbours together, and what `compute` gives for it."""
        size = max(1, -(-len(places) // self.count))
        parts = [places[start : start + size] for start in range(0, len(places), size)]
        if self._pool is None or len(parts) < 2:
            return [(part, compute(part)) for part in parts]
        return list(zip(parts, self._pool.map(compute, parts)))
