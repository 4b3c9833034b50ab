"""Which kind of backbone lies somewhere, and a local copy of it."""

from pathlib import Path
from typing import Any

from keras_spot.backbones.converters import huggingface, t5x
from keras_spot.backbones.converters.shortcuts import T5_VOCABULARY
from keras_spot.base import reading, remote, t5x_store

__all__ = ["fetch", "kind", "load", "look", "vocabulary"]

HUGGING_FACE, T5X, KERAS_HUB = "Hugging Face", "T5X", "KerasHub"
_PATTERNS = {HUGGING_FACE: huggingface.PATTERNS, T5X: t5x.PATTERNS, KERAS_HUB: None}
_CONVERTER = "SFconvertbot"  # the hub's own account that proposes safetensors of pickled weights


def kind(folder: Path) -> str | None:
    """Return `HUGGING_FACE`, `T5X` or `KERAS_HUB` by what lies in a folder, else None."""
    if (folder / t5x_store.INDEX).is_file():
        return T5X
    file = folder / huggingface.CONFIG
    if not file.is_file():
        return None
    config = reading.read_record(file, argument="backbone", rule="must hold a readable config.json")
    if "model_type" in config:
        return HUGGING_FACE
    return KERAS_HUB if "class_name" in config else None


def look(place: str) -> str | None:
    """Return the `kind` of backbone in a folder or at an address, fetching no weights."""
    try:
        return kind(remote.fetch(place, patterns=[t5x_store.INDEX, huggingface.CONFIG]))
    except FileNotFoundError:
        return None


def fetch(url: str) -> Path:
    """Return a local folder with what is needed of the backbone at an address.

    Raises:
        Unreachable, MissingFile, MissingExtra: see `remote.fetch`.
    """
    kind = look(url)
    patterns = _PATTERNS.get(kind or KERAS_HUB)
    folder = remote.fetch(url, patterns=patterns)
    if kind == HUGGING_FACE and url.startswith("hf://") and not huggingface.has_weights(folder):
        converted = _converted(url)
        if converted is not None:
            folder = remote.fetch(converted, patterns=patterns)
    return folder


def vocabulary(folder: Path, url: str | None) -> Path | None:
    """Return the SentencePiece file that belongs to a fetched backbone, None for none."""
    file = folder / huggingface.VOCABULARY
    if file.is_file():
        return file
    # Google's T5X checkpoints come without; every English T5 has the same.
    if url is not None and url.startswith("gs://t5-data/") and "mt5" not in url:
        return remote.fetch(T5_VOCABULARY)
    return None


def _converted(url: str) -> str | None:
    """Return the address of the hub's own conversion of a repository to safetensors, if any.

    The main branches of Google's older T5s, LM-adapted ones among them, hold pickled weights
    alone, and the conversion waits there as a pull request.
    """
    from huggingface_hub import HfApi

    repository = url.removeprefix("hf://").rstrip("/")
    if "@" in repository or repository.count("/") != 1:
        return None
    try:
        proposals = list(
            HfApi().get_repo_discussions(
                repository, author=_CONVERTER, discussion_type="pull_request"
            )
        )
    except Exception:  # the complaint that the branch has no safetensors says more
        return None
    for proposal in proposals:
        if proposal.author == _CONVERTER and proposal.git_reference:
            return f"{url.rstrip('/')}@{proposal.git_reference.replace('/', '%2F')}"
    return None


def load(
    folder: Path,
    dtype: Any,
    activation: str | None,
    max_distance: int,
    quantize: str | None = None,
) -> Any:
    """Return the `T5Backbone` of a Hugging Face or T5X folder."""
    if kind(folder) == HUGGING_FACE:
        return huggingface.load(folder, dtype, quantize)
    return t5x.load(folder, dtype, activation, max_distance, quantize)
