"""Frozen T5 backbones by name, and what tells one from another."""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.errors import invalid, unknown
from keras_spot.recipe import Recipe

EMBEDDED = {"tiny": Path(__file__).parent / "presets" / "tiny"}
_SAMPLE = 256  # values a weight contributes to the fingerprint


def load(backbone: Any, tokenizer: Any = None, dtype: Any = None) -> tuple[Any, Any]:
    """Return a `T5Backbone` and its `T5Tokenizer`.

    Args:
        backbone: a `T5Backbone`, `"tiny"` for the embedded one, a KerasHub preset name or
            handle (`"t5_1.1_base"`, `"hf://..."`, `"kaggle://..."`), or a preset folder.
        tokenizer: a `T5Tokenizer`. Default: the preset's own; `None` for a backbone object.
        dtype: dtype policy of a backbone loaded by name. Default: the preset's.

    Raises:
        ValueError: an unknown name, a preset of another model, or a float16 policy.
        TypeError: anything else.
    """
    from keras_hub.models import T5Backbone, T5Tokenizer

    if isinstance(backbone, T5Backbone):
        loaded = backbone
    elif isinstance(backbone, (str, os.PathLike)):
        preset = find(backbone)
        with quiet_masks():
            loaded = T5Backbone.from_preset(preset, **({"dtype": dtype} if dtype else {}))
        tokenizer = tokenizer or T5Tokenizer.from_preset(preset)
    else:
        rule = "must be a T5Backbone, a preset name or a preset folder"
        raise TypeError(str(invalid("backbone", rule, f"{type(backbone).__name__}")))
    if "float16" in _compute_dtypes(loaded):
        reason = "must not compute in float16, where T5's attention mask overflows (use bfloat16)"
        raise invalid("dtype", reason, loaded.dtype_policy.name)
    return loaded, tokenizer


@contextlib.contextmanager
def quiet_masks() -> Iterator[None]:
    """Silence what KerasHub's own T5 layers say of each other's masks while they are called."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Layer '.*_attention'", UserWarning)
        yield


def recipe_for(backbone: Any) -> Recipe:
    """Return the recipe that suits a backbone: an embedded preset's own, else the paper's.

    The paper's learning rate is in units of the embedding table of T5 1.1, so a backbone
    with another scale brings its own `recipe.json`.

    >>> recipe_for("t5_1.1_base").learning_rate
    0.3
    """
    if isinstance(backbone, (str, os.PathLike)):
        file = Path(EMBEDDED.get(str(backbone), backbone)) / "recipe.json"
        if file.is_file():
            return Recipe(**json.loads(file.read_text(encoding="utf-8")))
    return Recipe()


def fingerprint(backbone: Any) -> str:
    """Return 16 hexadecimal digits that tell frozen backbones apart.

    A hash of the architecture and of up to 256 evenly spaced values of every weight, rounded to
    bfloat16, so that a backbone has one fingerprint in either storage precision. A prompt
    is only good for the backbone it was trained with; files and runs record this.
    """
    digest = hashlib.sha256()
    config = backbone.get_config()
    for key in sorted(set(config) - {"name", "dtype", "dropout", "trainable"}):
        digest.update(f"{key}={config[key]!r};".encode())
    for weight in backbone.weights:
        if "seed" in weight.path.rsplit("/", 1)[-1]:
            continue
        size = int(np.prod(weight.shape))
        sample = _strided(weight, max(1, size // _SAMPLE))
        digest.update(f"{tuple(weight.shape)}".encode())
        digest.update(_bfloat16_bits(sample).tobytes())
    return digest.hexdigest()[:16]


def _strided(weight: Any, stride: int) -> np.ndarray:
    from keras import ops

    values = ops.reshape(weight, (-1,))[::stride][:_SAMPLE]
    return ops.convert_to_numpy(ops.cast(values, "float32"))


def _bfloat16_bits(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def _compute_dtypes(backbone: Any) -> set[str]:
    return {layer.compute_dtype for layer in backbone._flatten_layers(include_self=False)}


def find(name: str | os.PathLike) -> str:
    """Return the preset of a backbone's name, which it checks without loading anything.

    Raises:
        ValueError: an unknown name, with the closest ones.
    """
    from keras_hub.models import T5Backbone

    text = str(EMBEDDED.get(str(name), name))
    known = [*EMBEDDED, *T5Backbone.presets]
    if "://" in text or text in known or Path(text).is_dir():
        return text
    raise unknown("backbone", str(name), known)
