"""Where an endless run stands after some steps, without doing those steps again.

Every epoch puts the same rows into the same buckets, in another order. So the numbers of rows
by bucket, counted once, tell how many batches any number of epochs has filled and how many rows
each bucket then holds. A run starts late by filling the buckets with that many empty rows at
the start of an earlier epoch, early enough that every batch with an empty row in it is left out.
"""

import bisect
import collections
from collections.abc import Iterable, Sequence

from keras_spot.data.batches import Encoded, fitting

__all__ = ["seek"]


def seek(
    epoch: Iterable[Encoded], lengths: Sequence[int], batch_size: int, step: int
) -> tuple[int, dict[int, int], int]:
    """Return where to start to see the batches from number `step` on.

    Args:
        epoch: the rows of any one epoch; read to its end, or to the step if that comes first.
        lengths: the bucket lengths.
        batch_size: rows in a batch.
        step: the number of batches already seen.

    Returns:
        The number of the epoch to start with, the empty rows to start each bucket with
        (length to number), and the number of batches to leave out then.
    """
    counts: collections.Counter[int] = collections.Counter()
    filled = 0
    for row in epoch:
        if filled >= step:
            return 0, {}, step
        length = fitting(lengths, row)
        counts[length] += 1
        filled += counts[length] % batch_size == 0
    if not counts:
        return 0, {}, step

    def steps(epochs: int) -> int:
        return sum(epochs * count // batch_size for count in counts.values())

    beyond = step * batch_size // counts.total() + batch_size * len(counts) + 2
    last = bisect.bisect_right(range(beyond), step, key=steps) - 1
    first = max(0, min(_ceil(last * n // batch_size * batch_size, n) for n in counts.values()) - 1)
    waiting = {length: first * count % batch_size for length, count in counts.items()}
    return first, waiting, step - steps(first)


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
