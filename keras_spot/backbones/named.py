"""Frozen T5 backbones by name."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_spot.backbones import filling, quantized
from keras_spot.backbones.converters import kerashub, sources, vocabulary
from keras_spot.backbones.converters.shortcuts import SHORTCUTS, span_corruption_only
from keras_spot.base import reading, remote
from keras_spot.base.atomic import atomic_folder
from keras_spot.base.choices import QUANTIZE
from keras_spot.base.errors import Unreachable, complaint, damaged, invalid, unknown
from keras_spot.base.ownership import Kind
from keras_spot.base.recipe import Recipe
from keras_spot.base.types import Backbone, PathLike, Tokenizer

if TYPE_CHECKING:
    import keras
    from keras_hub.models import T5Backbone, T5Tokenizer

__all__ = [
    "EMBEDDED",
    "PRESET",
    "freeze",
    "from_preset",
    "is_backbone",
    "load",
    "quiet_masks",
    "recipe_for",
    "save",
    "warn_of_span_corruption",
]

PRESET = Kind("backbone", is_folder=True)
EMBEDDED = {"tiny": Path(__file__).parent / "presets" / "tiny"}
_RECIPE_LIMIT = 1 << 16  # bytes


def load(
    backbone: PathLike | Backbone,
    tokenizer: PathLike | Tokenizer | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    *,
    quantize: str | None = None,
    activation: str | None = None,
    max_distance: int = 128,
) -> tuple[T5Backbone, T5Tokenizer | None]:
    """Return a `T5Backbone` and its `T5Tokenizer`.

    Args:
        backbone: a `T5Backbone`, or the name, folder or address (`hf://owner/name`, `gs://`,
            `kaggle://`) of one:
            `"tiny"`, the embedded one; a KerasHub preset (`"t5_1.1_base"`);
            a LM-adapted size as a T5X checkpoint (`"t5_1_1_lm100k_base"`) or from the Hugging
            Face hub (`"t5-base-lm-adapt"`), small to xxl;
            a Hugging Face T5 1.0, 1.1, Flan or mT5 (config.json and safetensors);
            a T5X checkpoint (extra `[t5x]`).
        tokenizer: a `T5Tokenizer` or the path of a SentencePiece model. Default: the one that
            comes with the backbone, `None` where none does.
        dtype: dtype policy of a backbone loaded by name. Default: Keras' own, float32 unless set.
        quantize: `"int8"` or `"int4"`: keep the projections in so many bits, in place and with
            another fingerprint. Default: as the backbone is.
        activation: of a T5X checkpoint, which does not record it: `"relu"`, `"gelu_new"` (tanh
            approximation), ... Default: that of T5 1.1 for gated layers, of T5 1.0 for others.
        max_distance: of a T5X checkpoint's relative positions. Default 128.

    Raises:
        InvalidArgument: an unknown name, another model, a broken or incomplete checkpoint, a
            vocabulary that does not fit, a float16 policy, or 16 bits as Keras' `floatx`.
        Unreachable, MissingFile: an address that does not answer or holds nothing.
        MissingExtra: a T5X checkpoint without the extra.
    """
    import keras
    from keras_hub.models import T5Backbone

    if keras.config.floatx() in ("float16", "bfloat16"):  # its counts are int16 then
        rule = "must be float32 (`dtype` says in what a backbone computes)"
        raise invalid("floatx", rule, f"keras.config.floatx()={keras.config.floatx()!r}")
    if isinstance(backbone, T5Backbone):
        loaded = backbone
    elif isinstance(backbone, (str, os.PathLike)):
        if quantize not in (None, *QUANTIZE):
            raise unknown("quantize", quantize, QUANTIZE)
        loaded, own = _load_named(
            backbone, tokenizer is None, dtype, activation, max_distance, quantize
        )
        tokenizer = own if tokenizer is None else tokenizer
    else:
        rule = "must be a T5Backbone, a preset name or a preset folder"
        raise invalid("backbone", rule, type(backbone).__name__)
    if "float16" in _compute_dtypes(loaded):
        reason = "must not compute in float16, where T5's attention mask overflows (use bfloat16)"
        raise invalid("dtype", reason, loaded.dtype_policy.name)
    if quantize is not None:
        quantized.quantize(loaded, quantize)
    if isinstance(tokenizer, (str, os.PathLike)):
        tokenizer = vocabulary.read(remote.fetch(tokenizer))
    if tokenizer is not None:
        vocabulary.check(tokenizer, loaded)
    return loaded, tokenizer


def save(
    backbone: T5Backbone,
    tokenizer: T5Tokenizer | None,
    folder: PathLike,
    overwrite: bool = False,
) -> Path:
    """Write a backbone as a KerasHub preset folder, whole or not at all.

    `load` gives back the same weights, and so does KerasHub without this package.

    Args:
        backbone: `T5Backbone`.
        tokenizer: its `T5Tokenizer`, or `None`.
        folder: may be an address like `gs://...`; an earlier one of ours is replaced.
        overwrite: also if its own files have changed since. A folder with files of another stays.

    Raises:
        InvalidArgument: a folder that holds anything but our own earlier work.
        OSError: the folder cannot be written.
    """
    with (
        remote.writing(folder, PRESET, overwrite) as local,
        atomic_folder(local, PRESET, overwrite) as new,
    ):
        backbone.save_to_preset(str(new))
        quantized.write(backbone, new)
        if tokenizer is not None:
            tokenizer.save_to_preset(str(new))
    return Path(folder)


def is_backbone(source: PathLike) -> bool:
    """Return whether a name is a backbone's, or a folder or address holds one.

    Raises:
        Unreachable: an address that does not answer.
    """
    from keras_hub.models import T5Backbone

    name = remote.address(source)
    if name in EMBEDDED or name in SHORTCUTS or name in T5Backbone.presets:
        return True
    return name.startswith(("kaggle://", "modelscope://")) or sources.look(name) is not None


def warn_of_span_corruption(backbone: PathLike | Backbone | None) -> None:
    """Warn if a backbone's name says that it never learned to continue a text.

    Prompts need a model that was adapted to language modelling or trained on many tasks
    (Lester et al. 2021, section 3.2).
    """
    if isinstance(backbone, (str, os.PathLike)) and span_corruption_only(str(backbone)):
        warnings.warn(
            f"{backbone} was pretrained on span corruption alone, and prompt tuning works badly "
            "with such a model (Lester et al. 2021, section 3.2); an LM-adapted one like "
            "t5_1_1_lm100k_base, or a multi-task one like flan_base_multi, does better",
            UserWarning,
            stacklevel=3,
        )


@contextlib.contextmanager
def quiet_masks() -> Iterator[None]:
    """Silence what KerasHub's own T5 layers say of each other's masks while they are called."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Layer '.*_attention'", UserWarning)
        yield


def recipe_for(backbone: PathLike | Backbone) -> Recipe:
    """Return the recipe that suits a backbone: an embedded preset's own, else the paper's.

    The paper's learning rate is in units of the embedding table of T5 1.1, so a backbone
    with another scale brings its own `recipe.json`.

    >>> recipe_for("t5_1.1_base").learning_rate
    0.3
    """
    if isinstance(backbone, (str, os.PathLike)):
        file = Path(EMBEDDED.get(str(backbone), backbone)) / "recipe.json"
        if file.is_file():
            record = reading.read_record(file, argument="backbone", limit=_RECIPE_LIMIT)
            for name in record.keys() - {field.name for field in dataclasses.fields(Recipe)}:
                rule = "must hold a recipe of known fields"
                raise damaged(file, rule, repr(name), argument="backbone")
            with reading.naming(file):
                return Recipe(**record)
    return Recipe()


def freeze(backbone: T5Backbone, dropout: float) -> None:
    """Freeze a backbone in place and set the rate of its dropout layers.

    Raises:
        InvalidArgument: a rate outside [0, 1), or one above 0 for a backbone built without dropout.
    """
    import keras

    if not 0 <= dropout < 1:
        raise invalid("dropout", "must be in [0, 1)", f"{dropout=}")
    backbone.trainable = False
    for layer in backbone._flatten_layers(include_self=False):
        layer.trainable = False  # Keras stops at layers that say so already, not at their parts
        if isinstance(layer, keras.layers.Dropout):
            if dropout and getattr(layer, "seed_generator", None) is None:
                rule = "must be 0 for a backbone built with dropout=0"
                raise invalid("dropout", rule, f"{dropout=}")
            layer.rate = dropout
    for variable in backbone.weights:
        variable.trainable = False


def _compute_dtypes(backbone: Any) -> set[str]:
    return {layer.compute_dtype for layer in backbone._flatten_layers(include_self=False)}


def _load_named(
    name: str | os.PathLike,
    with_tokenizer: bool,
    dtype: Any,
    activation: str | None,
    max_distance: int,
    quantize: str | None,
) -> tuple[Any, Any]:
    from keras_hub.models import T5Tokenizer

    preset, folder = _place(name)
    if folder is None or sources.kind(folder) == sources.KERAS_HUB:
        if folder is None:
            return _from_preset(preset, with_tokenizer, dtype, quantize)
        kerashub.check(folder)
        facts = quantized.read(folder)
        with reading.parsing(folder, "must hold a whole preset of a T5", "backbone"):
            if facts is None:
                loaded, _ = _from_preset(str(folder), False, dtype, quantize)
            else:
                loaded = _from_quantized(folder, facts, dtype)
        if not with_tokenizer or not (folder / kerashub.TOKENIZER).is_file():
            return loaded, None
        with reading.parsing(folder / kerashub.VOCABULARY, kerashub.VOCABULARY_RULE, "backbone"):
            return loaded, T5Tokenizer.from_preset(str(folder))
    with quiet_masks():
        loaded = sources.load(folder, dtype, activation, max_distance, quantize)
    file = sources.vocabulary(folder, preset) if with_tokenizer else None
    return loaded, None if file is None else vocabulary.read(file)


def _from_quantized(folder: Path, facts: dict[str, str], dtype: Any) -> Any:
    from keras_hub.src.utils.preset_utils import get_preset_loader

    loader = get_preset_loader(str(folder))
    with quiet_masks(), filling.blank():
        loaded = quantized.build(loader.config["config"], facts, dtype)
    with filling.filled(loaded) as put, filling.assigning(loaded, put):
        loader._load_backbone_weights(loaded)
    return loaded


def from_preset(preset: str, quantize: str | None = None, **options: Any) -> Any:
    """Return the `T5Backbone` of a preset of KerasHub's.

    Args:
        preset: its name, folder or address.
        quantize: as of `load`.
        **options: what the backbone shall have otherwise, such as its `dtype`.
    """
    from keras_hub.models import T5Backbone
    from keras_hub.src.utils.preset_utils import get_preset_loader

    with quiet_masks(), filling.blank():
        loaded = T5Backbone.from_preset(preset, load_weights=False, **options)
    with filling.filled(loaded, quantize) as put, filling.assigning(loaded, put):
        get_preset_loader(preset)._load_backbone_weights(loaded)
    return loaded


def _from_preset(
    preset: str, with_tokenizer: bool, dtype: Any, quantize: str | None
) -> tuple[Any, Any]:
    from keras_hub.models import T5Backbone, T5Tokenizer

    address = T5Backbone.presets.get(preset, {}).get("kaggle_handle", preset)
    options = {"dtype": dtype} if dtype else {}
    with _kaggle_answers(preset, address):
        loaded = from_preset(preset, quantize, **options)
        return loaded, T5Tokenizer.from_preset(preset) if with_tokenizer else None


@contextlib.contextmanager
def _kaggle_answers(name: str, address: str) -> Iterator[None]:
    """Say in one line, and soon, that Kaggle cannot be reached for what is not kept here."""
    kept = _kaggle_copy(address)
    if kept is None:
        yield
        return
    import requests

    whole = all((kept / file).is_file() for file in ("config.json", "model.weights.h5"))
    try:
        # A notebook of Kaggle's has its own ways.
        if not whole and "KAGGLE_KERNEL_RUN_TYPE" not in os.environ:
            remote.knock("api.kaggle.com")
        yield
    except requests.RequestException as error:
        raise _not_here(name, address, kept, error) from error
    except OSError as error:
        if isinstance(error, (ConnectionError, TimeoutError, socket.gaierror)):
            raise _not_here(name, address, kept, error) from error
        raise


def _kaggle_copy(address: str) -> Path | None:
    """Return where KerasHub keeps what it fetches from Kaggle, None for another place."""
    if not address.startswith("kaggle://"):
        return None
    home = os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub"
    return Path(home, "models", address.removeprefix("kaggle://"))


def _not_here(name: str, address: str, kept: Path, error: Exception) -> Unreachable:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    rule = (
        f"must be at hand or on a host that answers (looked in {kept} and at {address}; a folder "
        "with a preset, a Hugging Face T5 or a T5X checkpoint needs no network)"
    )
    return Unreachable(complaint("backbone", rule, f"{name} ({reason})"))


def _place(name: str | os.PathLike) -> tuple[str, Path | None]:
    """Return a backbone's name or address, and the local folder unless KerasHub fetches it."""
    from keras_hub.models import T5Backbone

    text = str(EMBEDDED.get(str(name), SHORTCUTS.get(str(name), remote.address(name))))
    if text in T5Backbone.presets or text.startswith(("kaggle://", "modelscope://")):
        return text, None
    if remote.is_remote(text):
        return text, sources.fetch(text)
    if not Path(text).is_dir():
        raise unknown("backbone", str(name), [*EMBEDDED, *SHORTCUTS, *T5Backbone.presets])
    folder = Path(text)
    if sources.kind(folder) is None:
        rule = "must be a KerasHub preset, a Hugging Face T5 or a T5X checkpoint"
        raise invalid("backbone", rule, f"neither in {folder}")
    return text, folder
