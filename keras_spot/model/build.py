"""From a backbone's name and a prompt's path to a compiled model."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import keras
import keras_hub
import numpy as np

from keras_spot import backbones
from keras_spot.base import devices
from keras_spot.base.choices import Kernels
from keras_spot.base.errors import invalid
from keras_spot.base.recipe import Recipe
from keras_spot.base.types import Backbone, Initializer, PathLike, Tokenizer
from keras_spot.model import reparameterizations
from keras_spot.model.gradient_check import check_gradients
from keras_spot.model.prompted_t5 import PromptedT5
from keras_spot.prompts import Prompt, initializers
from keras_spot.prompts.initializers import FromNumpy, PromptInit, PromptInitializer

__all__ = ["T5Options", "build", "recorded_attention"]


class T5Options(TypedDict, total=False):
    """What `build` takes by keyword about the T5 behind the prompt, see there."""

    tokenizer: PathLike | Tokenizer | None
    input_length: int
    target_length: int
    dtype: str | keras.DTypePolicy | None
    quantize: str | None
    dropout: float | None
    prompt_attention: str | None
    remat: bool
    kernels: Kernels


_DEFAULTS: T5Options = {
    "tokenizer": None,
    "input_length": 512,
    "target_length": 32,
    "dtype": None,
    "quantize": None,
    "dropout": None,
    "prompt_attention": None,
    "remat": False,
    "kernels": "auto",
}


def build(
    backbone: PathLike | Backbone = "tiny",
    prompt_init: PromptInit | Sequence[PromptInit | None] | None = None,
    *,
    recipe: Recipe | None = None,
    prompt_length: int | None = None,
    labels: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
    seed: int | Sequence[int] = 0,
    num_prompts: int | None = None,
    prompt_names: Sequence[str] | None = None,
    reparameterization: reparameterizations.Spec | None = None,
    **options: Unpack[T5Options],
) -> PromptedT5:
    """Return a frozen T5 with a soft prompt in front, compiled with the paper's recipe.

    Under a tf.distribute strategy call it inside `strategy.scope()`.

    Args:
        backbone: a `T5Backbone`, or whatever name, folder or address `backbones.load` takes.
            Default `"tiny"`, the embedded one.
        prompt_init: the initial prompt:
            a path or address (see `prompts`), a `Prompt` or an array `[P, H]`: a trained prompt,
            SPoT's transfer;
            `"sampled_vocab"`, `"class_labels"` or `"uniform"` (`"./uniform"` is a file);
            an initialiser, such as `initializers.from_text("a text")` or
            `initializers.mean_of({path: weight})`.
            Default: the recipe's, `"sampled_vocab"`. Of a bank, one for all or a list of K.
        recipe: `Recipe`. Default: the preset's own, else the paper's.
        prompt_length: P. Default: the initial prompt's, else the recipe's (100).
        labels: label texts for `prompt_init="class_labels"`. Of a bank, the same for all or a list
            of K lists.
        seed: seed of sampled initial prompts. Default 0. Of a bank, the first prompt's, from
            which the others count up, or a list of K.
        num_prompts: K, for a bank of prompts on the one backbone, see `PromptedT5`. Default: the
            number of `prompt_names`, else None, one prompt.
        prompt_names: names of a bank's prompts, e.g. `["sst2", "cb"]`.
        reparameterization: what is trained in the prompt's place: `"residual"`, `"low-rank"`,
            `"vocabulary-mixture"`, one of these with settings as `{"low-rank": {"rank": 16}}`, or a
            `Reparameterization`; of a bank the same for all. Default: None, the prompt itself.
        **options: how the T5 computes:
            `tokenizer`: `T5Tokenizer` or a SentencePiece file. Default: the backbone's own.
            `input_length`: input tokens at most, longer texts are cut. Default 512.
            `target_length`: target tokens that `generate` may produce. Default 32.
            `dtype`: dtype policy of a backbone loaded by name: `"mixed_bfloat16"` computes in
            bfloat16, `"bfloat16"` also keeps the frozen weights in it, half the memory.
            `quantize`: `"int8"` or `"int4"`: keep the backbone's projections in so many bits, see
            `backbones.load`. Default: as the backbone is.
            `dropout`: rate inside the backbone while training. Default: the recipe's, 0.
            `prompt_attention`: what the prompt sees: `"full"`, `"prompt"` or `"causal"`, see
            `PromptedT5`. Default: what the initial prompt was trained with, else the recipe's.
            `remat`: less memory for more work, see `PromptedT5`. Default False.
            `kernels`: `"auto"` (default), `"plain"` or `"fast"`: how the numbers are computed, see
            `PromptedT5`.

    Returns:
        A compiled `PromptedT5` that trains the prompt's variables and nothing else: the P x H
        numbers of each prompt, or those of its reparameterization.

    Raises:
        InvalidArgument: an argument that breaks its rule, a prompt of another width or backbone.
        MissingFile: a `prompt_init` path where nothing is.
    """
    t5 = _completed(options)
    devices.start()
    backbones.warn_of_span_corruption(backbone)
    recipe = recipe or backbones.recipe_for(backbone)
    if num_prompts is None and prompt_names is not None:
        num_prompts = len(prompt_names)
    # Prompts are read first: a mistake in a path should not wait for a large backbone.
    uncompleted = _one_a_prompt(prompt_init, recipe.prompt_init, labels, seed, num_prompts)
    loaded, own_tokenizer = backbones.load(
        backbone, t5["tokenizer"], t5["dtype"], quantize=t5["quantize"]
    )
    table = loaded.token_embedding.embeddings
    starts = [
        start.completed(own_tokenizer, table) if isinstance(start, PromptInitializer) else start
        for start in uncompleted
    ]
    sources = _check_width(starts, loaded.hidden_dim)
    layer = reparameterizations.get(reparameterization)
    if layer is not None:
        first = seed if isinstance(seed, int) else seed[0]
        layer = layer.completed(table).reseeded(first)
    if prompt_length is None and all(getattr(start, "length", None) is None for start in starts):
        prompt_length = recipe.prompt_length
    preprocessor = own_tokenizer and keras_hub.models.T5Seq2SeqLMPreprocessor(
        own_tokenizer,
        encoder_sequence_length=t5["input_length"],
        decoder_sequence_length=t5["target_length"],
    )
    model = PromptedT5(
        loaded,
        preprocessor,
        prompt_length=prompt_length,
        prompt_initializer=starts[0] if num_prompts is None else starts,
        dropout=recipe.dropout if t5["dropout"] is None else t5["dropout"],
        prompt_attention=t5["prompt_attention"]
        or recorded_attention("prompt_init", [source.provenance for source in sources])
        or recipe.prompt_attention,
        recipe=recipe,
        num_prompts=num_prompts,
        prompt_names=prompt_names,
        remat=t5["remat"],
        kernels=t5["kernels"],
        reparameterization=layer,
    )
    for source in sources:
        backbones.check_fingerprint(source, model.fingerprint)
    trainable, expected = (
        sum(int(np.prod(v.shape)) for v in layer.trainable_variables)
        for layer in (model, model.soft_prompt)
    )
    if trainable != expected:
        rule = f"must have {expected} trainable numbers, the prompt's, and no others"
        raise invalid("backbone", rule, f"{trainable}")
    if backbones.quantization(loaded) == backbones.ANOTHER_WAY:
        check_gradients(model)
    return model


def _completed(options: T5Options) -> T5Options:
    """Return options with the defaults of those that were not given."""
    for name in options:
        if name not in _DEFAULTS:
            raise TypeError(f"build() got an unexpected keyword argument {name!r}")
    return {**_DEFAULTS, **options}


def _one_a_prompt(
    prompt_init: PromptInit | Sequence[PromptInit | None] | None,
    default: str,
    labels: Sequence[str] | Sequence[Sequence[str] | None] | None,
    seed: int | Sequence[int],
    num_prompts: int | None,
) -> list[Initializer]:
    """Return the initialisers of K prompts, of one without a bank."""
    shared = num_prompts is not None and not isinstance(prompt_init, (list, tuple))
    one_each: dict[str, Any] = {"prompt_init": prompt_init, "labels": labels, "seed": seed}
    if num_prompts is None:
        one_each = {name: [value] for name, value in one_each.items()}
    else:
        if shared:
            one_each["prompt_init"] = [prompt_init] * num_prompts
        if not labels or isinstance(labels[0], str):
            one_each["labels"] = [labels] * num_prompts
        if isinstance(seed, int):
            one_each["seed"] = range(seed, seed + num_prompts)
        for name, values in one_each.items():
            if len(values) != num_prompts:
                rule = f"must be one, or a list of {num_prompts}, one for each prompt"
                raise invalid(name, rule, f"{len(values)}")
    starts = [
        initializers.get(default if init is None else init, its_labels, its_seed)
        for init, its_labels, its_seed in zip(*one_each.values())
    ]
    if shared and isinstance(prompt_init, keras.initializers.Initializer):
        starts = [initializers.reseeded(start, k) for k, start in enumerate(starts)]
    return starts


def _check_width(starts: Sequence[Initializer], width: int) -> list[Prompt]:
    """Return the prompts that the initial ones were read from, all of the backbone's width."""
    sources: list[Prompt] = []
    for start in starts:
        if isinstance(start, FromNumpy) and start.values.shape[1] != width:
            rule = f"must have the backbone's hidden width {width}"
            raise invalid("prompt_init", rule, f"shape={start.values.shape} in {start.origin}")
        sources += getattr(start, "sources", ())
    return sources


def recorded_attention(argument: str, provenances: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the one `prompt_attention` that prompts' provenances record, None if none does."""
    given = [provenance.get("prompt_attention") for provenance in provenances]
    recorded = {attention for attention in given if attention is not None}
    if len(recorded) > 1:
        rule = "must hold prompts of one prompt_attention, unless that is given"
        raise invalid(argument, rule, ", ".join(sorted(recorded)))
    return recorded.pop() if recorded else None
