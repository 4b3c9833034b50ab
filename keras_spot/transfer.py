"""Arithmetic on prompts as task embeddings (NumPy alone)."""

from collections.abc import Sequence

import numpy as np

from keras_spot.errors import invalid


def average(prompts: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Return the (weighted) mean of prompts, the weights normalised to sum 1.

    The weighted average of Vu et al. 2022, section 3.3.

    Args:
        prompts: arrays `[P, H]` of one shape.
        weights: one non-negative number a prompt. Default: equal ones.

    Raises:
        ValueError: no prompts, different shapes, or weights that cannot be normalised.

    >>> average([np.zeros((1, 2)), np.full((1, 2), 4.0)], [1, 3])
    array([[3., 3.]], dtype=float32)
    """
    if not len(prompts):
        raise invalid("prompts", "must hold at least one prompt", "none")
    shapes = {np.shape(prompt) for prompt in prompts}
    if len(shapes) > 1:
        raise invalid("prompts", "must have one shape", ", ".join(map(str, sorted(shapes))))
    share = np.ones(len(prompts)) if weights is None else np.asarray(weights, "float64")
    if share.shape != (len(prompts),) or (share < 0).any() or not np.isfinite(share).all():
        rule = "must be one non-negative number a prompt"
        raise invalid("weights", rule, f"weights={weights}")
    if share.sum() == 0:
        raise invalid("weights", "must not all be zero", f"weights={weights}")
    mean = np.tensordot(share / share.sum(), np.asarray(prompts, "float64"), axes=1)
    return mean.astype("float32")
