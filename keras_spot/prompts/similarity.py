"""How alike two prompts are, and which of many is most alike."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

import numpy as np

from keras_spot.base.errors import invalid, unknown

__all__ = [
    "SIMILARITIES",
    "SUMMARIES",
    "Name",
    "Similarity",
    "average_token_cosine",
    "max_inner_product",
    "mean_unit",
    "per_token_cosine",
    "rank",
    "similarities",
    "similarity",
    "unit_mean",
]

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]

_BLOCK = 2**22  # numbers of the prompts that are worked on at once, 32 MB as float64


def unit_mean(prompts: np.ndarray) -> np.ndarray:
    """Return the direction of every prompt's mean token, float64 `[N, H]` of length 1."""
    return np.concatenate([_unit(block.mean(axis=1)) for block in _blocks(prompts)])


def mean_unit(prompts: np.ndarray) -> np.ndarray:
    """Return the mean of the directions of every prompt's tokens, float64 `[N, H]`."""
    return np.concatenate([_unit(block).mean(axis=1) for block in _blocks(prompts)])


def average_token_cosine(query: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Return the cosine of the mean tokens of `query` and of each prompt.

    The "cosine similarity of average tokens" of Vu et al. 2022 (arXiv 2110.07904), section 3.
    A mean token of zeros has the cosine 0 with everything.

    Args:
        query: `[P, H]` numbers.
        prompts: `[N, Q, H]` numbers.

    Returns:
        float64 `[N]`, from -1 to 1.

    Raises:
        InvalidArgument: other shapes or different widths H.

    >>> average_token_cosine(np.eye(2), np.array([[[3.0, 3.0]], [[1.0, 0.0]]])).round(3)
    array([1.   , 0.707])
    """
    query, prompts = _pair(query, prompts)
    return unit_mean(prompts) @ unit_mean(query[None])[0]


def per_token_cosine(query: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Return the mean cosine over all P x Q pairs of tokens of `query` and of each prompt.

    The "per-token average cosine similarity" of Vu et al. 2022, section 3, which takes every
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
    blocks = []
    for block in _blocks(prompts, "float32"):
        best = (block.reshape(-1, block.shape[2]) @ partners).max(axis=1)
        best = best.reshape(block.shape[:2]).astype("float64")
        blocks.append((best / _lengths(block)).mean(axis=1))
    return np.concatenate(blocks)


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
        InvalidArgument: an unknown name, with the closest ones.

    >>> similarity("per_token_cosin")
    Traceback (most recent call last):
    InvalidArgument: `by` must be a known name. Received: by='per_token_cosin' (did you mean ...
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
        InvalidArgument: an unknown name, shapes that do not go together, or a function of one's
            own that does not give one finite number a prompt.
    """
    query, prompts = _pair(query, prompts)
    similarities = np.asarray(similarity(by)(query, prompts), "float64")
    if similarities.shape != (len(prompts),) or not np.isfinite(similarities).all():
        rule = f"must give one finite number for each of the {len(prompts)} prompts"
        raise invalid("by", rule, f"shape={similarities.shape}, {similarities}")
    return similarities


Name = TypeVar("Name", bound=Hashable)


@overload
def rank(
    query: np.ndarray,
    prompts: Mapping[Name, np.ndarray],
    by: str | Similarity = "per_token_cosine",
) -> list[tuple[Name, float]]: ...


@overload
def rank(
    query: np.ndarray,
    prompts: Sequence[np.ndarray] | np.ndarray,
    by: str | Similarity = "per_token_cosine",
) -> list[tuple[int, float]]: ...


def rank(
    query: np.ndarray,
    prompts: Mapping[Name, np.ndarray] | Sequence[np.ndarray] | np.ndarray,
    by: str | Similarity = "per_token_cosine",
) -> list[tuple[Name, float]] | list[tuple[int, float]]:
    """Return the prompts from the most to the least similar to `query`.

    Args:
        query: `[P, H]` numbers.
        prompts: name -> `[Q, H]`, or a sequence of those; their lengths Q may differ.
        by: a name in `SIMILARITIES` or a similarity of one's own.

    Returns:
        Pairs of name (position in a sequence) and similarity; what is equal stays in order.

    Raises:
        InvalidArgument: see `similarities`.

    >>> rank(np.eye(2), {"a": np.array([[1.0, -1.0]]), "b": np.ones((3, 2))})
    [('b', 0.707...), ('a', 0.0)]
    """
    named: Mapping[Any, np.ndarray]
    named = prompts if isinstance(prompts, Mapping) else dict(enumerate(prompts))
    scores = [(name, similarities(query, _one(p), by)[0].item()) for name, p in named.items()]
    return sorted(scores, key=lambda pair: -pair[1])


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
