"""Relative position biases of other sizes, said in KerasHub's 32 buckets."""

import numpy as np

from keras_spot.base.errors import invalid

__all__ = ["bucket", "in_32_buckets"]

BUCKETS, MAX_DISTANCE = 32, 128  # fixed inside KerasHub's `T5MultiHeadAttention`


def bucket(relative: np.ndarray, two_way: bool, buckets: int, max_distance: int) -> np.ndarray:
    """Return the bucket of each relative position, key index minus query index.

    Half of the buckets of each direction hold one distance each, the rest grow
    logarithmically up to `max_distance`; the last one holds everything beyond (Raffel et
    al. 2020, section 2.1). An encoder looks both ways with half of the buckets for each, a
    decoder only back.

    >>> bucket(np.array([-200, -2, 0, 1]), False, 32, 128).tolist()
    [31, 2, 0, 0]
    >>> bucket(np.array([-200, -2, 0, 1]), True, 32, 128).tolist()
    [15, 2, 0, 17]
    """
    offset = np.zeros_like(relative)
    if two_way:
        buckets //= 2
        offset = buckets * (relative > 0)
        distance = np.abs(relative)
    else:
        distance = np.maximum(-relative, 0)
    exact = buckets // 2
    # In float32, as models do: the rounding decides where a bucket ends.
    ratio = np.maximum(distance, 1).astype("float32") / np.float32(exact)
    growth = np.log(ratio) / np.log(np.float32(max_distance) / np.float32(exact))
    far = np.minimum(exact + (growth * (buckets - exact)).astype(int), buckets - 1)
    return offset + np.where(distance < exact, distance, far)


def in_32_buckets(table: np.ndarray, two_way: bool, max_distance: int) -> np.ndarray:
    """Return the table `[32, heads]` that gives every distance the bias `table` gives it.

    Args:
        table: `[buckets, heads]`.
        two_way: whether it is an encoder's.
        max_distance: that of `table`.

    Raises:
        InvalidArgument: distances that KerasHub's 32 buckets up to 128 do not tell apart.
    """
    buckets = len(table)
    if (buckets, max_distance) == (BUCKETS, MAX_DISTANCE):
        return table
    reach = 2 * max(max_distance, MAX_DISTANCE)
    relative = np.arange(-reach, reach + 1)
    ours = bucket(relative, two_way, BUCKETS, MAX_DISTANCE)
    theirs = bucket(relative, two_way, buckets, max_distance)
    spread = np.zeros((BUCKETS, *table.shape[1:]), table.dtype)
    for cell in np.unique(ours):
        inside = np.unique(theirs[ours == cell])
        if len(inside) > 1:
            rule = "must have relative positions that 32 buckets up to a distance of 128 tell apart"
            raise invalid("backbone", rule, f"{buckets} buckets up to {max_distance}")
        spread[cell] = table[inside[0]]
    return spread
