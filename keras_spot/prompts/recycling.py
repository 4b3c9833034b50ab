"""A prompt of one backbone for another, by maps between their embedding tables.

Lester et al. 2022 (arXiv 2208.05577), section 3: the tokens that two backbones' vocabularies have
in common are the pairs that a map is learned from; no prompt is trained and no task is seen. What
works between sizes and checkpoints of one family often fails between others, so every map
tells how well it fits.

Letters: P prompt tokens, H and G the widths of the source and the target, N tokens in common.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_spot import backbones
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.types import Backbone, PathLike, Tokenizer
from keras_spot.prompts import store
from keras_spot.prompts.prompt import Prompt

__all__ = ["METHODS", "Recycled", "matched", "recycle", "recycle_prompt"]

GOOD = 0.5
"""R^2 below which a recycled prompt is warned of."""
_HELD_OUT = 10
"""Of so many pairs one is held out to tell how well a map fits."""
LEAST = 2 * _HELD_OUT
"""Tokens in common that a map is learned from, at least."""
_EPOCHS, _BATCH, _RATE, _WIDER = 25, 50, 3e-4, 4
_LEAST_STEPS = 4000


@dataclasses.dataclass(frozen=True)
class Recycled:
    """A recycled prompt.

    Attributes:
        values: float32 `[P, G]`.
        method: how it was made.
        tokens: N, the tokens in common.
        r2: share of the variance of the target's embeddings that the map explains, of tokens that
            were held out: 1 is perfect, 0 no better than the mean.
    """

    values: np.ndarray
    method: str
    tokens: int
    r2: float


Map = Callable[[np.ndarray, np.ndarray, int], Callable[[np.ndarray], np.ndarray]]


def recycle_prompt(
    prompt: PathLike | Prompt,
    to: PathLike | Backbone,
    *,
    source: PathLike | Backbone | None = None,
    method: str = "v2v-lin",
    tokenizer: PathLike | Tokenizer | None = None,
    source_tokenizer: PathLike | Tokenizer | None = None,
) -> Prompt:
    """Return a prompt for another backbone than its own.

    Both vocabularies are matched by their pieces. A recycled prompt is a start at best: train it
    on. A poor fit is warned of.

    Args:
        prompt: a prompt, or what `prompts.read` takes.
        to: the backbone it shall be for, see `backbones.load`.
        source: its own backbone. Default: the one that its run recorded.
        method: `"v2v-lin"` (default), `"v2v-nn"` or `"lin-comb"`, see `recycle`.
        tokenizer: of `to`. Default: the backbone's own.
        source_tokenizer: of `source`. Default: the backbone's own.

    Raises:
        InvalidArgument: an unknown method, a prompt whose backbone is not known or another, a
            backbone without a tokenizer, or vocabularies with too little in common.
        MissingFile: a path where nothing is.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    given = prompt if isinstance(prompt, Prompt) else store.read(prompt)
    if source is None:
        source = given.provenance.get("backbone_name")
    if source is None:
        raise invalid("source", "must be given where no run recorded it", f"{given.path}")
    old, old_tokenizer = backbones.load(source, source_tokenizer)
    backbones.check_fingerprint(given, backbones.fingerprint(old))
    new, new_tokenizer = backbones.load(to, tokenizer)
    for name, one in (("source_tokenizer", old_tokenizer), ("tokenizer", new_tokenizer)):
        if one is None:
            raise invalid(name, "must be given for a backbone without one", f"{name}=None")
    ids = matched(_pieces(old_tokenizer), _pieces(new_tokenizer))
    if len(ids[0]) < LEAST:
        rule = f"must be a backbone with {LEAST} pieces of the vocabulary of the prompt's own"
        raise invalid("to", rule, f"{len(ids[0])} in common")
    tables = [
        np.asarray(one.token_embedding.embeddings, "float32")[rows]
        for one, rows in zip((old, new), ids)
    ]
    recycled = recycle(given.values, tables[0], tables[1], method)
    if not recycled.r2 >= GOOD:
        warnings.warn(
            f"{method} explains R^2 = {recycled.r2:.2f} of the target's embeddings of tokens it "
            f"did not see ({recycled.tokens} in common): the recycled prompt may be no better than "
            "a random one",
            stacklevel=2,
        )
    about = {"method": method, "r2": round(recycled.r2, 4), "tokens": recycled.tokens}
    about |= {"backbone": given.provenance.get("backbone"), "backbone_name": _name(source)}
    if "recycled" in given.provenance:
        about["before"] = given.provenance["recycled"]
    own = ("task", "step", "seed", "prompt_attention")
    provenance: dict[str, Any] = {k: v for k, v in given.provenance.items() if k in own}
    provenance |= {"backbone": backbones.fingerprint(new), "recycled": about}
    if _name(to) is not None:
        provenance["backbone_name"] = _name(to)
    return Prompt(recycled.values, provenance)


def _pieces(tokenizer: Any) -> list[str]:
    return [str(tokenizer.id_to_token(number)) for number in range(tokenizer.vocabulary_size())]


def _name(backbone: Any) -> str | None:
    return None if hasattr(backbone, "weights") else str(backbone)


def recycle(
    prompt: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    method: str = "v2v-lin",
    seed: int = 0,
) -> Recycled:
    """Return a prompt of the source's backbone as one of the target's.

    Args:
        prompt: `[P, H]` numbers.
        source: `[N, H]`, the source backbone's embeddings of the tokens in common, see `matched`.
        target: `[N, G]`, the target backbone's embeddings of the same tokens.
        method: `"v2v-lin"` (default): the linear map of least squares from source to target
            embeddings; `"v2v-nn"`: a network with one hidden layer of 4 G ReLUs, trained by Adam on
            the squared error; `"lin-comb"`: the smallest weights that make the prompt of source
            embeddings, applied to the target's. On the same tokens `"v2v-lin"` gives the same but
            for rounding: both are `P S^+ T`, `S^+` the pseudo-inverse of the source embeddings.
        seed: of the network and of the held-out tokens. Default 0.

    Raises:
        InvalidArgument: an unknown method, arrays of other shapes, or fewer than 20 tokens.

    >>> rng = np.random.default_rng(0)
    >>> source, turn = rng.normal(size=(50, 4)), rng.normal(size=(4, 3))
    >>> recycled = recycle(np.ones((2, 4)), source, source @ turn)
    >>> bool(np.allclose(recycled.values, np.ones((2, 4)) @ turn)), round(recycled.r2, 3)
    (True, 1.0)
    """
    prompt, source, target = (np.asarray(x, "float64") for x in (prompt, source, target))
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if prompt.ndim != 2 or source.ndim != 2 or prompt.shape[1] != source.shape[1]:
        rule = "must have the source embeddings' width"
        raise invalid("prompt", rule, f"shapes {prompt.shape} and {source.shape}")
    if target.ndim != 2 or len(target) != len(source) or len(source) < LEAST:
        rule = f"must be the embeddings of the same tokens, at least {LEAST}"
        raise invalid("source", rule, f"shapes {source.shape} and {target.shape}")
    held_out = np.random.default_rng(seed).permutation(len(source)) < len(source) // _HELD_OUT
    fitted = METHODS[method](source[~held_out], target[~held_out], seed)
    r2 = _explained(target[held_out], fitted(source[held_out]))
    values = METHODS[method](source, target, seed)(prompt)
    return Recycled(values.astype("float32"), method, len(source), r2)


def matched(source: Sequence[str], target: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of the pieces that two vocabularies have in common, in both of them.

    Args:
        source: the pieces of the source's vocabulary, by id.
        target: those of the target's.

    Returns:
        Two int64 `[N]`: ids of the source and of the target, in the source's order.

    >>> [ids.tolist() for ids in matched(["a", "b", "c"], ["c", "a"])]
    [[0, 2], [1, 0]]
    """
    place = {piece: number for number, piece in enumerate(target)}
    pairs = [(number, place[piece]) for number, piece in enumerate(source) if piece in place]
    ids = np.array(pairs, "int64").reshape(-1, 2)
    return ids[:, 0], ids[:, 1]


def _linear(source: np.ndarray, target: np.ndarray, seed: int) -> Callable[..., np.ndarray]:
    """Return `x W` with the `W` `[H, G]` of least squares (section 3.1)."""
    matrix = _least_squares(source, target)
    return lambda x: x @ matrix


def _combination(source: np.ndarray, target: np.ndarray, seed: int) -> Callable[..., np.ndarray]:
    """Return `X T` with the smallest `X` `[P, N]` that makes `X S` nearest to the prompt (3.2)."""
    return lambda x: _least_squares(source.T, x.T).T @ target


def _network(source: np.ndarray, target: np.ndarray, seed: int) -> Callable[..., np.ndarray]:
    """Return `relu(x A + a) B + b`, trained by Adam (section 3.1; rates of the authors' code).

    25 epochs as there, but at least 4,000 steps, which few tokens would not make. Inputs and
    targets are scaled to a mean square of 1, which their code does not do: tables of other
    sizes need no other rate.
    """
    rng = np.random.default_rng(seed)
    hidden, size = _WIDER * target.shape[1], source.shape[1]
    scales = [float(np.sqrt(np.mean(np.square(x)))) or 1.0 for x in (source, target)]
    x, y = ((a / scale).astype("float32") for a, scale in zip((source, target), scales))
    weights = [
        rng.normal(0, size**-0.5, (size, hidden)),
        np.zeros(hidden),
        rng.normal(0, hidden**-0.5, (hidden, target.shape[1])),
        np.zeros(target.shape[1]),
    ]
    weights = [weight.astype("float32") for weight in weights]
    means = [np.zeros_like(weight) for weight in weights]
    squares = [np.zeros_like(weight) for weight in weights]
    step = 0
    for _ in range(max(_EPOCHS, math.ceil(_LEAST_STEPS * _BATCH / len(x)))):
        order = rng.permutation(len(x))
        for rows in np.split(order, range(_BATCH, len(order), _BATCH)):
            step += 1
            for k, gradient in enumerate(_gradients(weights, x[rows], y[rows])):
                means[k] += 0.1 * (gradient - means[k])
                squares[k] += 0.001 * (np.square(gradient) - squares[k])
                mean, square = means[k] / (1 - 0.9**step), squares[k] / (1 - 0.999**step)
                weights[k] -= np.float32(_RATE) * mean / (np.sqrt(square) + np.float32(1e-8))
    return lambda rows: scales[1] * _forward(weights, rows / scales[0])[1]


def _forward(weights: Sequence[np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hidden layer and the output of a network."""
    hidden = np.maximum(x @ weights[0] + weights[1], 0)
    return hidden, hidden @ weights[2] + weights[3]


def _gradients(weights: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Return the gradients of half the mean squared error."""
    hidden, output = _forward(weights, x)
    of_output = (output - y) / output.size
    of_hidden = (of_output @ weights[2].T) * (hidden > 0)
    return [x.T @ of_hidden, of_hidden.sum(0), hidden.T @ of_output, of_output.sum(0)]


METHODS: dict[str, Map] = {"v2v-lin": _linear, "v2v-nn": _network, "lin-comb": _combination}


def _least_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the smallest x that makes `a x` nearest to `b`."""
    return np.linalg.lstsq(a, b, rcond=None)[0]


def _explained(y: np.ndarray, estimate: np.ndarray) -> float:
    """Return R^2: one less the share of the variance of `y` that is missed."""
    total = np.square(y - y.mean(axis=0)).sum()
    return float(1 - np.square(y - estimate).sum() / total) if total else float("nan")
