"""What a soft prompt looks like: its size, its length against the tokens', its nearest words.

And what the backbone is that it may belong to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_spot import backbones
from keras_spot.base.errors import invalid
from keras_spot.base.types import Array, Record, Table
from keras_spot.prompts import Prompt

if TYPE_CHECKING:
    from keras_hub.models import T5Backbone

__all__ = ["inspect_backbone", "inspect_prompt", "nearest_tokens"]

_BLOCK = 8192  # rows of the embedding table at once
_SHOWN = (
    "vocabulary_size",
    "hidden_dim",
    "num_layers",
    "num_heads",
    "key_value_dim",
    "intermediate_dim",
    "activation",
    "use_gated_activation",
    "tie_embedding_weights",
)


def inspect_prompt(
    prompt: Prompt,
    embeddings: Table | None = None,
    *,
    pieces: Sequence[str] | None = None,
    fingerprint: str | None = None,
    top: int = 5,
) -> Record:
    """Return a JSON-able report on a prompt, and on how it suits a backbone.

    Args:
        prompt: a `Prompt` with values `[P, H]`.
        embeddings: the backbone's token embeddings `[V, H]`, anything sliceable; read in blocks.
        pieces: the V tokens' texts. Default: their numbers.
        fingerprint: the backbone's, see `backbones.fingerprint`.
        top: nearest tokens of each position. Default 5.

    Returns:
        `shape` (P, H), `norms` (Euclidean, of the rows: min, median, max) and `provenance`; with
        embeddings also `token_norms`, `fits_width` (H is the backbone's), `fits_backbone` (the
        fingerprint is the recorded one; None where none is recorded or given) and, if the width
        fits, `nearest`: for every position a list of `{token, id, cosine}`, nearest first.

    >>> report = inspect_prompt(Prompt(np.float32([[0, 3]])), np.eye(2), pieces="ab", top=1)
    >>> report["norms"]["max"], report["nearest"]
    (3.0, [[{'token': 'b', 'id': 1, 'cosine': 1.0}]])
    """
    length, width = prompt.values.shape
    report: Record = {
        "shape": [length, width],
        "norms": _spread(np.linalg.norm(prompt.values.astype(np.float64), axis=1)),
        "provenance": dict(prompt.provenance),
    }
    if embeddings is None:
        return report
    recorded = prompt.provenance.get("backbone")
    report["token_norms"] = _spread(_row_norms(embeddings))
    report["fits_width"] = width == embeddings.shape[1]
    report["fits_backbone"] = recorded == fingerprint if recorded and fingerprint else None
    if report["fits_width"]:
        ids, cosines = nearest_tokens(prompt.values, embeddings, top)
        report["nearest"] = [
            [
                {"token": str(pieces[i] if pieces is not None else i), "id": i, "cosine": cosine}
                for i, cosine in zip(row.tolist(), near.tolist())
            ]
            for row, near in zip(ids, cosines)
        ]
    return report


def inspect_backbone(backbone: T5Backbone) -> Record:
    """Return a JSON-able report on a `T5Backbone`.

    Returns:
        `fingerprint` (what a prompt's provenance records as `backbone`), `parameters`,
        `token_norms` (Euclidean, of the embeddings: min, median, max) and its architecture.
    """
    config = backbone.get_config()
    return {
        "fingerprint": backbones.fingerprint(backbone),
        "parameters": backbone.count_params(),
        "token_norms": _spread(_row_norms(backbone.token_embedding.embeddings)),
        **{key: config[key] for key in _SHOWN},
    }


def nearest_tokens(
    values: Array | Sequence[Sequence[float]], embeddings: Table, top: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens whose embeddings point most nearly where a prompt's vectors point.

    Nearness is the cosine `x . e / (|x| |e|)`, 0 where either vector is 0; of equally near
    tokens the lower id comes first. Memory beside the arguments: P x 8192 numbers, whatever V.

    Args:
        values: prompt `[P, H]`.
        embeddings: `[V, H]`, anything sliceable.
        top: K, how many for each position.

    Returns:
        ids, int64 `[P, K]`, and their cosines, float32 `[P, K]`, nearest first.

    Raises:
        InvalidArgument: another width, or `top` not in 1 .. V.

    >>> nearest_tokens([[2.0, 0.1]], np.eye(2), top=2)[0].tolist()
    [[0, 1]]
    """
    rows = _units(np.asarray(values))
    if rows.shape[1] != embeddings.shape[1]:
        rule = f"must have the embeddings' width {embeddings.shape[1]}"
        raise invalid("values", rule, f"shape={rows.shape}")
    if not 1 <= top <= embeddings.shape[0]:
        rule = f"must be from 1 to the {embeddings.shape[0]} tokens there are"
        raise invalid("top", rule, f"{top=}")
    ids = np.empty((len(rows), 0), np.int64)
    cosines = np.empty((len(rows), 0), np.float32)
    for start, block in _blocks(embeddings):
        block_cosines = rows @ _units(block).T
        numbers = np.broadcast_to(np.arange(start, start + len(block)), block_cosines.shape)
        ids, cosines = np.hstack([ids, numbers]), np.hstack([cosines, block_cosines])
        # Stable, and the lower ids stand first.
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :top]
        ids = np.take_along_axis(ids, order, axis=1)
        cosines = np.take_along_axis(cosines, order, axis=1)
    return ids, cosines


def _blocks(embeddings: Table) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, embeddings.shape[0], _BLOCK):
        yield start, np.asarray(embeddings[start : start + _BLOCK]).astype(np.float32)


def _units(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


def _row_norms(embeddings: Table) -> np.ndarray:
    blocks = [np.linalg.norm(block, axis=1) for _, block in _blocks(embeddings)]
    return np.concatenate(blocks).astype(np.float64)


def _spread(norms: np.ndarray) -> Mapping[str, float]:
    return {
        "min": float(norms.min()),
        "median": float(np.median(norms)),
        "max": float(norms.max()),
    }
