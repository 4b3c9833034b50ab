"""From what `build` takes as an initial prompt to an initialiser."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import keras
import numpy as np

from keras_spot.base import remote
from keras_spot.base.errors import invalid, missing_file
from keras_spot.base.types import Array, Initializer, PathLike, Record
from keras_spot.prompts.initializers.base import PromptInitializer
from keras_spot.prompts.initializers.embeddings import ClassLabels, SampledVocab
from keras_spot.prompts.initializers.values import FromNumpy
from keras_spot.prompts.prompt import Prompt, as_prompt

__all__ = ["NAMES", "PromptInit", "describe", "get", "reseeded", "uniform"]

PromptInit: TypeAlias = PathLike | Array | Prompt | Initializer
"""What an initial prompt is given as, see `get`."""

NAMES = ("sampled_vocab", "class_labels", "uniform")
_KNOWN = "'sampled_vocab', 'class_labels' or 'uniform'"


def uniform(scale: float = 0.5, seed: int | None = None) -> keras.initializers.RandomUniform:
    """Return U(-scale, scale), the reference's plain default.

    >>> uniform(seed=1).get_config()["minval"]
    -0.5
    """
    if not scale > 0:
        raise invalid("scale", "must be positive", f"{scale=}")
    return keras.initializers.RandomUniform(-scale, scale, seed=seed)


def get(prompt_init: PromptInit, labels: Sequence[str] | None = None, seed: int = 0) -> Initializer:
    """Return the initialiser that a `prompt_init` stands for, see `keras_spot.build`.

    Args:
        prompt_init: one of `NAMES`, the path or address of a prompt, an array `[P, H]`, a `Prompt`
            or an initialiser.
        labels: of `"class_labels"`.
        seed: of a name.

    Raises:
        MissingFile: a path where nothing is.
        InvalidArgument: no prompt, `"class_labels"` without labels, or a value of another type.
    """
    if isinstance(prompt_init, str) and prompt_init in NAMES:
        return _named(prompt_init, labels, seed)
    if isinstance(prompt_init, (str, os.PathLike)):
        if not remote.is_remote(prompt_init) and not os.path.exists(prompt_init):
            rule = (
                f"must be an existing path, an address, or {_KNOWN} (a text goes through "
                "`initializers.from_text`, on the command line --prompt-init-text)"
            )
            raise missing_file("prompt_init", rule, f"prompt_init={os.fspath(prompt_init)!r}")
        return FromNumpy(prompt_init)
    if isinstance(prompt_init, Prompt):
        return FromNumpy(prompt_init)
    if isinstance(prompt_init, (Mapping, list, tuple, set)):
        rule = (
            "must be one initial prompt, or of a bank a list with one for each prompt; a mean goes "
            "through `initializers.mean_of`"
        )
        raise invalid("prompt_init", rule, f"a {type(prompt_init).__name__}")
    if isinstance(prompt_init, keras.initializers.Initializer):
        return prompt_init
    if hasattr(prompt_init, "__array__"):
        return FromNumpy(as_prompt(np.asarray(prompt_init), "prompt_init"))
    if callable(prompt_init):
        initializer: Initializer = keras.initializers.get(prompt_init)
        return initializer
    rule = f"must be a path, an address, {_KNOWN}, an array, a Prompt or an initializer"
    raise invalid("prompt_init", rule, f"a {type(prompt_init).__name__}")


def reseeded(initializer: Initializer, by: int) -> Initializer:
    """Return an initialiser with a seed `by` larger, a fresh one where it was given none.

    >>> reseeded(uniform(seed=1), 2).get_config()["seed"]
    3
    """
    if isinstance(initializer, PromptInitializer):
        return initializer.reseeded(by)
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    config = initializer.get_config()
    if isinstance(config.get("seed"), dict):  # of a generator, which gives another draw each time
        return initializer
    if config.get("seed") is not None:
        config["seed"] += by
    fresh: Initializer = type(initializer).from_config(config)
    return fresh


def describe(prompt_init: PromptInit) -> str | list[object] | dict[str, object]:
    """Return what a run's record says of a `prompt_init`: its name or path, else what it holds."""
    if isinstance(prompt_init, (str, os.PathLike)):
        return os.fspath(prompt_init)
    initializer = get(prompt_init)
    if isinstance(initializer, PromptInitializer):
        return initializer.describe()
    config: Record = getattr(initializer, "get_config", dict)()
    record: Record = json.loads(json.dumps({type(initializer).__name__: config}, default=str))
    return record


def _named(name: str, labels: Sequence[str] | None, seed: int) -> Initializer:
    if name == "uniform":
        return uniform(seed=seed)
    if name == "sampled_vocab":
        return SampledVocab(seed=seed)
    if not labels:
        raise invalid("labels", "must be given for prompt_init='class_labels'", f"{labels=}")
    return ClassLabels(labels, seed=seed)
