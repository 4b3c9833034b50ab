"""Samplers: KerasHub's, by name or as objects, and a greedy one without needless work."""

import json
from collections.abc import Hashable
from typing import Any

import keras
import keras_hub
from keras import ops

from keras_spot.base.errors import invalid, unknown
from keras_spot.base.types import Tensor

__all__ = ["NAMES", "GreedySampler", "get", "identity", "is_known", "keeps_rows"]

NAMES = ("greedy", "beam", "contrastive", "random", "top_k", "top_p")


@keras.saving.register_keras_serializable("keras_spot")
class GreedySampler(keras_hub.samplers.GreedySampler):
    """Take the likeliest token, from the logits themselves."""

    def compute_probabilities(self, logits: Tensor) -> Tensor:
        """Return the logits `[B, V]`: their order is that of the probabilities."""
        return logits

    def get_next_token(self, probabilities: Tensor) -> Tensor:
        """Return the numbers `[B]` of the largest."""
        # Keras' `argmax` tells negative zeros from zeros, in five passes over all logits.
        return ops.squeeze(ops.top_k(probabilities, 1)[1], -1)


def get(sampler: Any) -> Any:
    """Return a sampler by its name, an object as it is.

    Raises:
        InvalidArgument: an unknown name, or what is no sampler.
    """
    if sampler == "greedy":
        return GreedySampler()
    if isinstance(sampler, str) and sampler not in NAMES:
        raise unknown("sampler", sampler, NAMES)
    if not isinstance(sampler, (str, dict)) and not callable(sampler):
        raise invalid("sampler", "must be a KerasHub sampler or its name", f"{sampler=}")
    return keras_hub.samplers.get(sampler)


def is_known(sampler: Any) -> bool:
    """Return whether a sampler is KerasHub's or ours, not somebody's own.

    Theirs are written in `ops` alone and need no AutoGraph, whose conversions take seconds.
    """
    return type(sampler).__module__.partition(".")[0] in ("keras_hub", "keras_spot")


def keeps_rows(sampler: Any) -> bool:
    """Return whether a sampler decodes the rows that it is given and no more.

    Beam search and contrastive search repeat them, in a loop of their own.
    """
    return type(sampler).__call__ is keras_hub.samplers.Sampler.__call__


def identity(sampler: Any) -> Hashable:
    """Return what equal samplers have in common; one that draws numbers equals only itself."""
    if sampler.variables:
        return id(sampler)
    return type(sampler), json.dumps(sampler.get_config(), sort_keys=True, default=str)
