"""What the forms share that other engines run: weights by name, and a prompt as P more words.

Rows appended to the embedding table and put before the input by id give exactly the states of a
prepended prompt, as long as every position sees every other.
"""

import contextlib
import functools
import hashlib
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from keras_spot.backbones.converters.architecture import ACTIVATIONS, TANH_GELU, Architecture
from keras_spot.backbones.converters.names import HUGGING_FACE
from keras_spot.base import remote
from keras_spot.base.atomic import atomic_folder
from keras_spot.base.errors import invalid, unknown
from keras_spot.model.export.described import cards_of, facts_of
from keras_spot.model.export.kinds import KINDS
from keras_spot.tasks.card import TASK_FILE, write_cards

__all__ = ["TOLERANCES", "VOCABULARY", "Merged", "architecture_of", "quantization", "words_of"]

VOCABULARY = "spiece.model"
_DIGITS = 8  # of a prompt's digest in its words
# How far log-likelihoods may be from the model's, as a share of the logits' spread.
TOLERANCES = {"float32": 1e-3, "int8": 0.5}


class Merged:
    """A `PromptedT5` as the weights and the vocabulary of a plain T5.

    Args:
        model: `PromptedT5`, of one prompt or a bank of K.
        form: what it is exported as.
        tasks: what the prompts were trained on, see `described.cards_of`.

    Attributes:
        model: the same in float32, which is what these forms compute in.
        architecture: the shape of the backbone, as its own table has it.
        cards: the prompts' names and how each is asked.
        prompts: float32 `[K, P, H]`.

    Raises:
        InvalidArgument: a model without a tokeniser, a prompt that is not seen by every position,
            a quantised backbone, a sampler that is not greedy, or an activation that other engines
            do not have.
    """

    def __init__(self, model: Any, form: str, tasks: Any = None) -> None:
        if model.preprocessor is None:
            raise invalid("model", "must have a preprocessor to take texts", "preprocessor=None")
        quantised = [
            layer.name
            for layer in model.backbone._flatten_layers(include_self=False)
            if getattr(layer, "quantization_mode", None)
        ]
        if quantised:
            rule = f"must have a backbone in floating point to become {form} (or be a SavedModel)"
            raise invalid("model", rule, f"{quantised[0]} is quantised")
        if not isinstance(model.sampler, keras_hub.samplers.GreedySampler):
            rule = f"must be greedy to become {form}, whose engines decode so (or be a SavedModel)"
            raise invalid("sampler", rule, f"a model compiled with {type(model.sampler).__name__}")
        self.form, self._stored = form, model.backbone.token_embedding.embeddings.dtype
        self.model = model = in_float32(model)
        self.architecture = architecture_of(model.backbone, form)
        self.cards = cards_of(model, tasks)
        prompts = model.prompt
        self.prompts = prompts if prompts.ndim == 3 else prompts[None]
        self.tokenizer = model.preprocessor.tokenizer

    def check_attention(self) -> None:
        """Raise InvalidArgument where the prompt cannot be words among others."""
        attention = self.model.prompt_attention
        if attention != "full":
            rule = (
                f"must be 'full' to become {self.form}, where the prompt's words see the text's, "
                "too; a SavedModel or ONNX keeps the prompt's own view"
            )
            raise invalid("prompt_attention", rule, f"{attention!r}")

    @contextlib.contextmanager
    def folder(self, path: str | os.PathLike, overwrite: bool) -> Iterator[Path]:
        """Yield a folder to fill, which takes its place at a path or address as a whole."""
        kind = KINDS[self.form]
        with (
            remote.writing(path, kind, overwrite) as local,
            atomic_folder(local, kind, overwrite) as folder,
        ):
            yield folder

    @property
    def rows(self) -> np.ndarray:
        """The K·P rows that the embedding table gets, `[K P, H]`, one prompt after the other."""
        return self.prompts.reshape(-1, self.prompts.shape[-1])

    @property
    def words(self) -> dict[str, list[str]]:
        """The P words of each prompt that stand for its rows, see `words_of`."""
        return {name: words_of(name, rows) for name, rows in zip(self.cards, self.prompts)}

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield Hugging Face's name and the numbers of every weight of the backbone, in turn.

        They have the precision in which the backbone keeps them.
        """
        for name, path in HUGGING_FACE.expand(self.architecture).items():
            variable = functools.reduce(_step, path.split("."), self.model.backbone)
            values = ops.convert_to_numpy(variable)
            if path.rsplit(".", 1)[-1] in HUGGING_FACE.transposed:
                values = values.T
            yield name, np.ascontiguousarray(values.astype(self._stored))

    def target_length(self, max_length: int | None) -> int:
        """Return the target tokens at most; by default the preprocessor's."""
        return max_length or self.model.preprocessor.decoder_sequence_length

    def write_card(self, folder: Path, max_length: int | None, **facts: Any) -> None:
        """Write `task.json`, with more facts of the form, and the tokeniser's `spiece.model`."""
        facts = {**facts_of(self.model, self.target_length(max_length)), **facts}
        write_cards(folder / TASK_FILE, self.cards, form=self.form, **facts)
        (folder / VOCABULARY).write_bytes(self.tokenizer.proto)


def quantization(quantize: str | None) -> str:
    """Return how weights are stored, by what was asked for; float32 by default.

    Raises:
        InvalidArgument: an unknown name.
    """
    if quantize not in (None, *TOLERANCES):
        raise unknown("quantize", quantize, TOLERANCES)
    return quantize or "float32"


def in_float32(model: Any) -> Any:
    """Return a `PromptedT5` that computes in float32, with the same weights; itself if it does.

    Its prompt is the one that the model computes with, which is rounded to less precision.
    """
    backbone, precision = model.backbone, model.backbone.compute_dtype
    if precision == "float32":
        return model
    same = type(backbone).from_config({**backbone.get_config(), "dtype": "float32"})
    for variable, own in zip(same.variables, backbone.variables, strict=True):
        variable.assign(ops.cast(own, "float32"))
    names = ("prompt_attention", "num_prompts", "prompt_names")
    facts = {name: getattr(model, name) for name in names}
    twin = type(model)(same, model.preprocessor, model.prompt_length, **facts)
    rounded = ops.cast(model.soft_prompt.stacked(precision), "float32")
    for variable, values in zip(twin.soft_prompt.prompts, rounded, strict=True):
        variable.assign(values)
    return twin


def architecture_of(backbone: Any, form: str) -> Architecture:
    """Return the shape of a `T5Backbone`.

    Raises:
        InvalidArgument: an activation that checkpoints have no name for.
    """
    layer = backbone.encoder_transformer_layers[0]
    attention = layer.self_attention
    layers = len(backbone.encoder_transformer_layers)
    return Architecture(
        vocabulary_size=backbone.vocabulary_size,
        hidden_dim=backbone.hidden_dim,
        encoder_layers=layers,
        decoder_layers=layers,
        num_heads=attention.num_heads,
        head_dim=attention.key_value_dim,
        intermediate_dim=int(layer.input_projector.units),
        activation=_activation(layer.input_projector.activation, form),
        gated=bool(layer.use_gated_activation),
        tied=bool(backbone.tie_embedding_weights),
        epsilon=layer.layer_norm.epsilon,
    )


def words_of(name: str, prompt: np.ndarray) -> list[str]:
    """Return the P words of a prompt `[P, H]`.

    A digest of its numbers is part of them, so that no text has them by accident.

    >>> words_of("glue/sst2", np.zeros((1, 2), "float32"))
    ['<spot:glue/sst2.af5570f5:0>']
    """
    digest = hashlib.sha256(prompt.tobytes()).hexdigest()[:_DIGITS]
    stem = f"{urllib.parse.quote(name, safe='/')}.{digest}"
    return [f"<spot:{stem}:{i}>" for i in range(len(prompt))]


def _activation(function: Any, form: str) -> str:
    """Return Hugging Face's name of an activation."""
    for name, ours in ACTIVATIONS.items():
        known = keras.saving.get_registered_object(ours) if ours == TANH_GELU else ours
        if function is keras.activations.get(known):
            return name
    rule = f"must have an activation that {form} has, too ({', '.join(ACTIVATIONS)})"
    raise invalid("backbone", rule, getattr(function, "__name__", repr(function)))


def _step(owner: Any, attribute: str) -> Any:
    return owner[int(attribute)] if attribute.isdecimal() else getattr(owner, attribute)
