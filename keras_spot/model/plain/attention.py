"""T5's attention: over each row's own keys, over keys that all rows share, and absorbed.

Letters: B rows, Q queries, K keys, P prompt positions that all rows share, H hidden width, n heads
of width d. Heads come before rows, `[n, B, Q, d]`: for shared keys `[n, P, d]` all rows' queries
of a head are then one matrix.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_spot.base.types import Tensor

__all__ = [
    "MASKED",
    "absorbed_is_cheaper",
    "attend",
    "attend_absorbed",
    "attention_scores",
    "by_head",
    "heads_first",
    "kernels_by_head",
    "keys_and_values",
    "masked",
    "merge_heads",
    "position_bias",
    "rows_first",
    "split_heads",
    "swap_last",
    "weighted_values",
]

MASKED = -1e9


def split_heads(attention: Any, x: Tensor) -> Tensor:
    """`[B, S, n d]` -> `[n, B, S, d]`, given the `T5MultiHeadAttention` that projected it."""
    shape = (-1, ops.shape(x)[1], attention.num_heads, attention.key_value_dim)
    return ops.transpose(ops.reshape(x, shape), (2, 0, 1, 3))


def merge_heads(x: Tensor) -> Tensor:
    """`[n, B, S, d]` -> `[B, S, n d]`."""
    heads, _, _, width = x.shape
    x = ops.transpose(x, (1, 2, 0, 3))
    return ops.reshape(x, (-1, ops.shape(x)[1], heads * width))


def keys_and_values(attention: Any, states: Tensor) -> list[Tensor]:
    """Return the keys and values `[n, B, K, d]` of states `[B, K, H]`."""
    projectors = attention.key_projector, attention.value_projector
    return [split_heads(attention, project(states)) for project in projectors]


def position_bias(attention: Any, queries: Any, keys: Any, first: int = 0) -> Tensor:
    """Return the relative position bias `[n, 1, Q, K]`; the first query stands at `first`."""
    return ops.transpose(attention.compute_bias(queries, keys, first), (1, 0, 2, 3))


def masked(visible: Tensor, dtype: str) -> Tensor:
    """Return what is added to scores: 0 where `visible`, else a large negative number."""
    return (1.0 - ops.cast(visible, dtype)) * MASKED


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    dropout: Callable[[Tensor], Tensor],
    shared: Sequence[Tensor] | None = None,
) -> Tensor:
    """Return `softmax(query key^T + bias) value`, `[n, B, Q, d]`. T5 scales no scores.

    Args:
        query: `[n, B, Q, d]`.
        key: `[n, B, K, d]`.
        value: `[n, B, K, d]`.
        bias: `[1 or n, 1 or B, Q, K]`, with shared keys `[.., Q, P + K]`.
        dropout: a layer for the weights.
        shared: keys and values `[n, P, d]` that all rows have before their own. Default: none.
    """
    scores = attention_scores(query, key, shared and shared[0])
    weights = dropout(ops.softmax(scores + ops.cast(bias, scores.dtype), axis=-1))
    return weighted_values(weights, value, shared and shared[1])


def attention_scores(query: Tensor, key: Tensor, shared_key: Tensor | None = None) -> Tensor:
    """Return `query key^T`, `[n, B, Q, K]`; with shared keys theirs come first."""
    scores = ops.matmul(query, swap_last(key))
    if shared_key is None:
        return scores
    return ops.concatenate([by_head(query, swap_last(shared_key)), scores], axis=-1)


def weighted_values(weights: Tensor, value: Tensor, shared_value: Tensor | None = None) -> Tensor:
    """Return `weights value`, `[n, B, Q, d]`; with shared values theirs come first."""
    if shared_value is None:
        return ops.matmul(weights, value)
    length = shared_value.shape[1]
    own = ops.matmul(weights[..., length:], value)
    return own + by_head(weights[..., :length], shared_value)


def attend_absorbed(
    query: Tensor,
    states: Tensor,
    kernels: Sequence[Tensor],
    bias: Tensor,
    dropout: Callable[[Tensor], Tensor],
    shared: Sequence[Tensor] | None = None,
) -> Tensor:
    """Return cross-attention `[n, B, Q, d]` over encoder states that are never projected.

    With the kernels `W_k` and `W_v` of a head,
    `query (states W_k)^T = (query W_k^T) states^T` and
    `weights (states W_v) = (weights states) W_v`.

    Args:
        query: `[n, B, Q, d]`.
        states: `[B, K, H]`.
        kernels: `W_k` and `W_v`, `[n, H, d]`, see `kernels_by_head`.
        bias: `[1, B, 1, K]`, with shared keys `[1, B, 1, P + K]`.
        dropout: a layer for the weights.
        shared: keys and values `[n, P, d]` that all rows have before their states. Default: none.
    """
    key_kernel, value_kernel = kernels
    heads, length = query.shape[0], 0
    # All heads of a row look at the same states: their queries are one matrix, [B, n Q, H].
    scores = ops.matmul(rows_first(by_head(query, swap_last(key_kernel))), swap_last(states))
    if shared is not None:
        length = shared[0].shape[1]
        first = rows_first(by_head(query, swap_last(shared[0])))
        scores = ops.concatenate([first, scores], axis=-1)
    weights = dropout(ops.softmax(scores + ops.cast(bias[0], scores.dtype), axis=-1))
    mixed = heads_first(ops.matmul(weights[..., length:], states), heads)
    mixed = by_head(mixed, value_kernel)
    if shared is None:
        return mixed
    return mixed + by_head(heads_first(weights[..., :length], heads), shared[1])


def absorbed_is_cheaper(
    queries: int | None, keys: int | None, width: int, heads: int, head_width: int
) -> bool:
    """Return whether absorbed cross-attention takes fewer multiplications than projecting.

    Projecting: `2 K H I + 2 Q K I`; absorbed: `2 Q H I + 2 Q n K H`, for Q queries, K keys, width
    H, n heads, I = n times their width. An unknown number of queries counts as many.

    >>> absorbed_is_cheaper(8, 164, 512, 6, 64), absorbed_is_cheaper(64, 164, 512, 6, 64)
    (True, False)
    """
    if queries is None:
        return False
    inner = heads * head_width
    keys = keys or 100
    absorbed = queries * (width * inner + heads * keys * width)
    return absorbed < keys * inner * (width + queries)


def kernels_by_head(attention: Any, dtype: str) -> list[Tensor]:
    """Return the kernels of a layer's key and value projections by heads, `[n, H, d]`."""
    shape = (-1, attention.num_heads, attention.key_value_dim)
    return [
        ops.transpose(ops.reshape(_kernel(projector, dtype), shape), (1, 0, 2))
        for projector in (attention.key_projector, attention.value_projector)
    ]


def _kernel(projector: Any, dtype: str) -> Tensor:
    if projector.quantization_mode is None:
        return ops.cast(projector.kernel, dtype)
    # A quantised kernel is stored in the quantiser's own form; applied to the identity it is plain.
    return projector(ops.eye(projector.kernel.shape[0], dtype=dtype))


def by_head(x: Tensor, y: Tensor) -> Tensor:
    """Return the product of `[n, B, Q, a]` and one matrix a head `[n, a, c]`, `[n, B, Q, c]`."""
    heads, width, columns = y.shape
    product = ops.matmul(ops.reshape(x, (heads, -1, width)), y)
    return ops.reshape(product, (heads, -1, ops.shape(x)[2], columns))


def rows_first(x: Tensor) -> Tensor:
    """`[n, B, Q, W]` -> `[B, n Q, W]`."""
    heads, queries, width = x.shape[0], ops.shape(x)[2], ops.shape(x)[3]
    return ops.reshape(ops.transpose(x, (1, 0, 2, 3)), (-1, heads * queries, width))


def heads_first(x: Tensor, heads: int) -> Tensor:
    """`[B, n Q, W]` -> `[n, B, Q, W]`."""
    queries, width = ops.shape(x)[1] // heads, ops.shape(x)[2]
    return ops.transpose(ops.reshape(x, (-1, heads, queries, width)), (1, 0, 2, 3))


def swap_last(x: Tensor) -> Tensor:
    """`[.., Q, W]` -> `[.., W, Q]`."""
    return ops.swapaxes(x, -1, -2)
