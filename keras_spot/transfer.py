"""Arithmetic on prompts as task embeddings: similarity, gain, averages, task vectors (NumPy alone).

A similarity is a function of a query `[P, H]` and prompts `[N, Q, H]` that gives float64 `[N]`,
larger for what is more alike. `by` takes the name of one of `SIMILARITIES` or any such function;
there is nothing to register.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_spot.errors import invalid, unknown

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]

_BLOCK = 2**22  # numbers of the prompts that are worked on at once, 32 MB as float64


# === Similarities ===


def unit_mean(prompts: np.ndarray) -> np.ndarray:
    """Return the direction of every prompt's mean token, float64 `[N, H]` of length 1."""
    return np.concatenate([_unit(block.mean(axis=1)) for block in _blocks(prompts)])


def mean_unit(prompts: np.ndarray) -> np.ndarray:
    """Return the mean of the directions of every prompt's tokens, float64 `[N, H]`."""
    return np.concatenate([_unit(block).mean(axis=1) for block in _blocks(prompts)])


def average_token_cosine(query: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Return the cosine of the mean tokens of `query` and of each prompt.

    The "cosine similarity of average tokens" of Vu et al. 2022 (arXiv 2110.07904), section 4.1.
    A mean token of zeros has the cosine 0 with everything.

    Args:
        query: `[P, H]` numbers.
        prompts: `[N, Q, H]` numbers.

    Returns:
        float64 `[N]`, from -1 to 1.

    Raises:
        ValueError: other shapes or different widths H.

    >>> average_token_cosine(np.eye(2), np.array([[[3.0, 3.0]], [[1.0, 0.0]]])).round(3)
    array([1.   , 0.707])
    """
    query, prompts = _pair(query, prompts)
    return unit_mean(prompts) @ unit_mean(query[None])[0]


def per_token_cosine(query: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Return the mean cosine over all P x Q pairs of tokens of `query` and of each prompt.

    The "per-token average cosine similarity" of Vu et al. 2022, section 4.1, which takes every
    pair, whatever the positions. As a mean of dot products of unit vectors is the dot product
    of their means, no pair is formed: PH + QH products a prompt instead of PQH. Arguments,
    result and errors as in `average_token_cosine`.

    >>> per_token_cosine(np.eye(2), np.array([[[3.0, 3.0]], [[1.0, 0.0]]])).round(3)
    array([0.707, 0.5  ])
    """
    query, prompts = _pair(query, prompts)
    return mean_unit(prompts) @ mean_unit(query[None])[0]


def max_inner_product(query: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Return the mean over a prompt's tokens of the largest inner product with one of `query`'s.

    The token-wise similarity by maximum inner product search of Lin et al. 2024 (arXiv
    2407.16245), as the authors' code has it: tokens are scaled to length 1, and it is the
    source's tokens that look for a partner, so swapping the two prompts changes the value.
    Computed in float32. Arguments, result and errors as in `average_token_cosine`.

    >>> max_inner_product(np.eye(2), np.array([[[3.0, 3.0]], [[1.0, 0.0]]])).round(3)
    array([0.707, 1.   ])
    """
    query, prompts = _pair(query, prompts)
    partners = _unit(query).astype("float32").T
    found = []
    for block in _blocks(prompts, "float32"):
        best = (block.reshape(-1, block.shape[2]) @ partners).max(axis=1)
        best = best.reshape(block.shape[:2]).astype("float64")
        found.append((best / _lengths(block)).mean(axis=1))
    return np.concatenate(found)


SIMILARITIES: Mapping[str, Similarity] = {
    "average_token_cosine": average_token_cosine,
    "per_token_cosine": per_token_cosine,
    "max_inner_product": max_inner_product,
}
# These two are the dot product of what the function here makes of either prompt, `[H]` numbers.
SUMMARIES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "average_token_cosine": unit_mean,
    "per_token_cosine": mean_unit,
}


def similarity(by: str | Similarity) -> Similarity:
    """Return a built-in similarity by its name; a function comes back as it is.

    Raises:
        ValueError: an unknown name, with the closest ones.

    >>> similarity("per_token_cosin")
    Traceback (most recent call last):
    ValueError: `by` must be a known name. Received: by='per_token_cosin' (did you mean ...
    """
    if callable(by):
        return by
    if by not in SIMILARITIES:
        raise unknown("by", by, SIMILARITIES)
    return SIMILARITIES[by]


def similarities(
    query: np.ndarray, prompts: np.ndarray, by: str | Similarity = "per_token_cosine"
) -> np.ndarray:
    """Return the similarity of `query` `[P, H]` with each of `prompts` `[N, Q, H]`, float64 `[N]`.

    Raises:
        ValueError: an unknown name, shapes that do not go together, or a function of one's
            own that does not give one finite number a prompt.
    """
    query, prompts = _pair(query, prompts)
    found = np.asarray(similarity(by)(query, prompts), "float64")
    if found.shape != (len(prompts),) or not np.isfinite(found).all():
        rule = f"must give one finite number for each of the {len(prompts)} prompts"
        raise invalid("by", rule, f"shape={found.shape}, {found}")
    return found


def rank(
    query: np.ndarray,
    prompts: Mapping[Any, np.ndarray] | Sequence[np.ndarray] | np.ndarray,
    by: str | Similarity = "per_token_cosine",
) -> list[tuple[Any, float]]:
    """Return the prompts from the most to the least similar to `query`.

    Args:
        query: `[P, H]` numbers.
        prompts: name -> `[Q, H]`, or a sequence of those; their lengths Q may differ.
        by: a name in `SIMILARITIES` or a similarity of one's own.

    Returns:
        Pairs of name (position in a sequence) and similarity; what is equal stays in order.

    Raises:
        ValueError: see `similarities`.

    >>> rank(np.eye(2), {"a": np.array([[1.0, -1.0]]), "b": np.ones((3, 2))})
    [('b', 0.707...), ('a', 0.0)]
    """
    named: Mapping[Hashable, np.ndarray]
    named = prompts if isinstance(prompts, Mapping) else dict(enumerate(prompts))
    found = [(name, similarities(query, _one(p), by)[0].item()) for name, p in named.items()]
    return sorted(found, key=lambda pair: -pair[1])


# === Averages and task vectors ===


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
        ValueError: different shapes.

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
        ValueError: no vectors, different shapes, or other weights.

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


# === Gain ===


def relative_error_reduction(score: Any, baseline: Any) -> Any:
    """Return which share of the baseline's error is gone: (score - baseline) / (100 - baseline).

    Vu et al. 2022, figure 3. Scores are percentages; the result is a fraction, negative where
    transfer hurts. Numbers or arrays.

    Raises:
        ValueError: a baseline of 100 or more, which leaves no error.

    >>> round(relative_error_reduction(97.0, 92.7), 3)
    0.589
    """
    error = 100 - np.asarray(baseline, "float64")
    if not (error > 0).all():
        raise invalid("baseline", "must be below 100", f"baseline={baseline}")
    reduced = (np.asarray(score, "float64") - np.asarray(baseline, "float64")) / error
    return reduced if reduced.ndim else reduced.item()


@dataclasses.dataclass(frozen=True)
class GainPrediction:
    """Gains that a straight line through known ones predicts, and how sure it is.

    Attributes:
        gain: float64, one predicted gain for each new similarity.
        standard_error: of a single new gain around its prediction.
        low: lower end of the prediction interval.
        high: upper end.
        slope: of the line.
        intercept: of the line.
    """

    gain: np.ndarray
    standard_error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    slope: float
    intercept: float


def predict_gain(
    similarities: Sequence[float], gains: Sequence[float], new: Any, level: float = 0.95
) -> GainPrediction:
    """Predict gains from similarities by ordinary least squares.

    The standard error is `s * sqrt(1 + 1/n + (x - mean)^2 / Sxx)` with `s^2` the residual sum of
    squares over n - 2; the interval is that times Student's t of n - 2 degrees of freedom (any
    textbook on regression, e.g. Draper & Smith 1998, section 3.1). It is wide for few points,
    and so should it be.

    Args:
        similarities: `[n]` numbers, n at least 3, not all equal.
        gains: `[n]` numbers, in any unit.
        new: similarities to predict for, one or an array.
        level: probability that a new gain lies in the interval.

    Raises:
        ValueError: fewer than 3 points, different lengths, NaN or infinity, similarities that
            are all equal, or a level outside (0, 1).

    >>> found = predict_gain([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 2.0, 3.0], 0.5)
    >>> [round(float(number), 3) for number in (found.gain, found.low, found.high)]
    [3.5, 1.349, 5.651]
    """
    from scipy import stats

    x, y = _points(similarities, gains)
    if np.ptp(x) == 0:
        raise invalid("similarities", "must not all be equal", f"similarities={similarities}")
    if not 0 < level < 1:
        raise invalid("level", "must lie between 0 and 1", f"{level=}")
    new = np.asarray(new, "float64")
    distance = x - x.mean()
    spread = distance @ distance
    slope = (distance @ y) / spread
    intercept = y.mean() - slope * x.mean()
    residuals = y - intercept - slope * x
    deviation = np.sqrt(residuals @ residuals / (len(x) - 2))
    error = deviation * np.sqrt(1 + 1 / len(x) + (new - x.mean()) ** 2 / spread)
    gain = intercept + slope * new
    reach = error * stats.t.ppf((1 + level) / 2, len(x) - 2)
    return GainPrediction(gain, error, gain - reach, gain + reach, float(slope), float(intercept))


def correlation(similarities: Sequence[float], gains: Sequence[float]) -> tuple[float, float]:
    """Return Pearson's r of similarity with gain and its two-sided p-value.

    As in Vu et al. 2022, figure 5, over the sources of one target. Both are NaN where all
    similarities or all gains are equal: there is no correlation to speak of.

    Args:
        similarities: `[n]` numbers, n at least 3.
        gains: `[n]` numbers.

    Raises:
        ValueError: fewer than 3 points, different lengths, NaN or infinity.

    >>> r, p = correlation([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 2.0, 3.0])
    >>> round(r, 3), round(p, 3)
    (0.949, 0.051)
    """
    from scipy import stats

    x, y = _points(similarities, gains)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan"), float("nan")
    found = stats.pearsonr(x, y)
    return float(found.statistic), float(found.pvalue)


def _points(similarities, gains):
    x, y = np.asarray(similarities, "float64"), np.asarray(gains, "float64")
    if x.ndim != 1 or x.shape != y.shape or len(x) < 3:
        rule = "must be at least 3 numbers, as many as `gains`"
        raise invalid("similarities", rule, f"shapes {x.shape} and {y.shape}")
    for name, values in (("similarities", x), ("gains", y)):
        if not np.isfinite(values).all():
            raise invalid(name, "must be finite", f"{name}={values}")
    return x, y


def _pair(query: Any, prompts: Any) -> tuple[np.ndarray, np.ndarray]:
    query, prompts = np.asarray(query), np.asarray(prompts)
    if query.ndim != 2 or 0 in query.shape:
        raise invalid("query", "must have the shape [P, H]", f"shape={query.shape}")
    if prompts.ndim != 3 or 0 in prompts.shape:
        raise invalid("prompts", "must have the shape [N, Q, H]", f"shape={prompts.shape}")
    if query.shape[1] != prompts.shape[2]:
        rule = f"must have the query's width {query.shape[1]}"
        raise invalid("prompts", rule, f"shape={prompts.shape}")
    return query, prompts


def _one(prompt: Any) -> np.ndarray:
    prompt = np.asarray(prompt)
    if prompt.ndim != 2:
        raise invalid("prompts", "must have the shape [Q, H] each", f"shape={prompt.shape}")
    return prompt[None]


def _blocks(prompts: np.ndarray, dtype: str = "float64") -> Iterator[np.ndarray]:
    size = max(1, _BLOCK // (prompts.shape[1] * prompts.shape[2]))
    for start in range(0, len(prompts), size):
        yield prompts[start : start + size].astype(dtype, copy=False)


def _lengths(rows: np.ndarray) -> np.ndarray:
    """Return the lengths of vectors `[..., H]`, 1 for a vector of zeros."""
    lengths = np.sqrt(np.einsum("...h,...h->...", rows, rows))
    return np.where(lengths == 0, 1, lengths)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, "float64")
    return rows / _lengths(rows)[..., None]


def _check_one_shape(argument: str, arrays: Sequence[np.ndarray]) -> None:
    if not len(arrays):
        raise invalid(argument, "must hold at least one prompt", "none")
    shapes = {np.shape(array) for array in arrays}
    if len(shapes) > 1:
        raise invalid(argument, "must have one shape", ", ".join(map(str, sorted(shapes))))
