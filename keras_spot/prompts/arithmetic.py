"""Sums and differences of prompts."""

from collections.abc import Sequence

import numpy as np

from keras_spot.base.errors import invalid

__all__ = ["add_task_vectors", "average", "task_vector"]


def average(prompts: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Return the (weighted) mean of prompts, the weights normalised to sum 1.

    The weighted average of Vu et al. 2022, section 3.3.

    Args:
        prompts: arrays `[P, H]` of one shape.
        weights: one non-negative number a prompt. Default: equal ones.

    Raises:
        InvalidArgument: no prompts, different shapes, or weights that cannot be normalised.

    >>> average([np.zeros((1, 2)), np.full((1, 2), 4.0)], [1, 3])
    array([[3., 3.]], dtype=float32)
    """
    _check_one_shape("prompts", prompts)
    share = np.ones(len(prompts)) if weights is None else np.asarray(weights, "float64")
    if share.shape != (len(prompts),) or (share < 0).any() or not np.isfinite(share).all():
        rule = "must be one non-negative number a prompt"
        raise invalid("weights", rule, f"weights={weights}")
    if share.sum() == 0:
        raise invalid("weights", "must not all be zero", f"weights={weights}")
    mean = np.tensordot(share / share.sum(), np.asarray(prompts, "float64"), axes=1)
    return mean.astype("float32")


def task_vector(trained: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """Return what training added to a prompt, `trained - initial`, float32 `[P, H]`.

    The task prompt vector of Belanec et al. 2024 (arXiv 2408.01119). Experimental.

    Raises:
        InvalidArgument: different shapes.

    >>> task_vector(np.array([[3.0, 1.0]]), np.array([[1.0, 1.0]]))
    array([[2., 0.]], dtype=float32)
    """
    _check_one_shape("trained", [trained, initial])
    return (np.asarray(trained, "float64") - np.asarray(initial, "float64")).astype("float32")


def add_task_vectors(
    initial: np.ndarray, vectors: Sequence[np.ndarray], weights: Sequence[float] | None = None
) -> np.ndarray:
    """Return `initial` plus the weighted sum of task vectors, float32 `[P, H]`. Experimental.

    Args:
        initial: `[P, H]` numbers, such as a sampled initial prompt.
        vectors: task vectors `[P, H]`.
        weights: one number a vector, of any sign. Default: 1 each, plain addition.

    Raises:
        InvalidArgument: no vectors, different shapes, or other weights.

    >>> add_task_vectors(np.zeros((1, 2)), [np.ones((1, 2)), np.eye(2)[:1]], [0.5, -1])
    array([[-0.5,  0.5]], dtype=float32)
    """
    _check_one_shape("vectors", vectors)
    _check_one_shape("initial", [initial, vectors[0]])
    factors = np.ones(len(vectors)) if weights is None else np.asarray(weights, "float64")
    if factors.shape != (len(vectors),) or not np.isfinite(factors).all():
        raise invalid("weights", "must be one finite number a vector", f"weights={weights}")
    added = np.tensordot(factors, np.asarray(vectors, "float64"), axes=1)
    return (np.asarray(initial, "float64") + added).astype("float32")


def _check_one_shape(argument: str, arrays: Sequence[np.ndarray]) -> None:
    if not len(arrays):
        raise invalid(argument, "must hold at least one prompt", "none")
    shapes = {np.shape(array) for array in arrays}
    if len(shapes) > 1:
        raise invalid(argument, "must have one shape", ", ".join(map(str, sorted(shapes))))
