"""A frozen T5 with a soft prompt in front of its encoder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, overload

import keras
import keras_hub
import numpy as np

from keras_spot import backbones
from keras_spot.backbones import filling
from keras_spot.base import layouts
from keras_spot.base.atomic import atomic_folder
from keras_spot.base.choices import Kernels
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.recipe import Recipe
from keras_spot.base.types import Initializer, PathLike, Record, Tensor
from keras_spot.model import export, reparameterizations, texts
from keras_spot.model.distillation import WEIGHT, Teachers, teach
from keras_spot.model.generate_functions import INPUTS
from keras_spot.model.generation import Generator
from keras_spot.model.kernels import ForwardPass
from keras_spot.model.presets import load_task
from keras_spot.model.prompt_tuning import PromptTuning, WhichPrompt
from keras_spot.model.ranking import Ranker
from keras_spot.model.soft_prompt import SoftPrompt
from keras_spot.prompts import names as naming

__all__ = ["PromptedT5"]

_CONFIG = ["prompt_length", "dropout", "prompt_attention", "num_prompts", "prompt_names"]
_CONFIG += ["remat", "kernels"]


@keras.saving.register_keras_serializable("keras_spot")
class PromptedT5(PromptTuning):
    """A KerasHub `Seq2SeqLM` of which only a soft prompt is trained; see `build`.

    The prompt's P vectors stand before the embedded encoder input; relative positions and
    attention run over the P + T positions, the decoder's cross-attention sees them all, and
    the decoder gets no prompt (Vu et al. 2022, section 2.1; here `model/plain/forward.py`).

    Args:
        backbone: `keras_hub.models.T5Backbone`. It is frozen in place and its dropout layers
            are set to `dropout`.
        preprocessor: `keras_hub.models.T5Seq2SeqLMPreprocessor`, or `None` for token ids only.
        prompt_length: P. Default: the initialiser's, else 100.
        prompt_initializer: initial prompt, see `SoftPrompt`.
        dropout: rate inside the backbone while training. Default 0, whatever the preset says.
        prompt_attention: what the prompt's positions see: `"full"` (default), as published prompts
            were trained, every position; `"prompt"` the prompt, `"causal"` those before: then the
            prompt is encoded once a batch instead of once a row.
        recipe: what `compile()` uses by default: learning rate, weight decay, z-loss, ...
        num_prompts: K, for a bank of prompts on one backbone, see `SoftPrompt`: every row names its
            prompt, and each prompt is trained as it would be alone on its own rows, its loss
            divided by the weights of its own targets. A prompt without rows in a batch has the
            gradient 0. Default: None, one prompt.
        prompt_names: K names for a bank's prompts. Default: `"0"`, `"1"`, ...
        remat: compute the encoder's states again in the backward pass: less memory, more work.
        kernels: `"auto"` (default): fast where it is right and gains, a large frozen backbone on
            one TensorFlow CPU; `"plain"`; `"fast"`, refused where it cannot be right.
        reparameterization: what is trained in the prompt's place, see `SoftPrompt`. Default: None,
            the prompt itself.
        **kwargs: `name`, `compile`.

    Call arguments (a dictionary):
        encoder_token_ids: `[B, T]` int32, padded with 0.
        encoder_padding_mask: `[B, T]` int32, 1 on tokens.
        decoder_token_ids: `[B, D]` int32, targets shifted right behind a 0.
        decoder_padding_mask: `[B, D]` int32.
        prompt_index: of a bank only, `[B]` int32, the number of the row's prompt.

    Returns:
        Logits `[B, D, V]`.

    Raises:
        InvalidArgument: dropout asked of a backbone built without any, or beside `remat`; names
            that do not tell K prompts apart; an unknown or impossible `kernels`.
    """

    preprocessor_cls = keras_hub.models.T5Seq2SeqLMPreprocessor
    preprocessor: keras_hub.models.T5Seq2SeqLMPreprocessor  # None for token ids only

    def __init__(
        self,
        backbone: keras_hub.models.T5Backbone,
        preprocessor: keras_hub.models.T5Seq2SeqLMPreprocessor | None = None,
        prompt_length: int | None = None,
        prompt_initializer: Initializer | Sequence[Initializer] | None = None,
        dropout: float = 0.0,
        prompt_attention: str = "full",
        recipe: Recipe | None = None,
        num_prompts: int | None = None,
        prompt_names: Sequence[str] | None = None,
        remat: bool = False,
        kernels: Kernels = "auto",
        reparameterization: reparameterizations.Spec | None = None,
        **kwargs: Any,
    ) -> None:
        if remat and dropout:
            rule = "must be 0 with remat=True, which would draw other masks in the backward pass"
            raise invalid("dropout", rule, f"{dropout=}")
        names = naming.check(prompt_names, num_prompts)
        self.distribution = keras.distribution.distribution()
        # === Layers ===
        backbones.freeze(backbone, dropout)
        self.backbone = backbone
        self.preprocessor = preprocessor
        soft_prompt = SoftPrompt(
            prompt_length, prompt_initializer, num_prompts, reparameterization, name="soft_prompt"
        )
        soft_prompt.build((None, None, backbone.hidden_dim))
        self.soft_prompt = soft_prompt
        self.forward_pass = ForwardPass(backbone, soft_prompt, prompt_attention, remat, kernels)

        # === Functional Model ===
        inputs = {key: backbone.input[key] for key in INPUTS}
        if num_prompts is not None:
            inputs["prompt_index"] = keras.Input((), dtype="int32", name="prompt_index")

        # === Config ===
        self.prompt_length = soft_prompt.length
        self.num_prompts = num_prompts
        self.prompt_names = names
        self.dropout, self.remat = dropout, remat
        self.prompt_attention = prompt_attention
        self.recipe = recipe or Recipe()
        self.generator = Generator(self)
        self.ranker = Ranker(self)
        self._prompt_losses = [keras.metrics.Mean(name=f"{name}_loss") for name in names or ()]
        layouts.check_sharded(backbone.variables, backbone.num_heads)
        # `T5Seq2SeqLM`, by which KerasHub knows our presets, would make the model of a plain T5.
        keras_hub.models.Seq2SeqLM.__init__(self, inputs, self.forward_pass(inputs), **kwargs)

    @property
    def kernels(self) -> Kernels:
        """`"auto"`, `"plain"` or `"fast"`, as it was made or compiled."""
        return self.forward_pass.kernels

    @property
    def kernels_used(self) -> Literal["plain", "fast"]:
        """`"plain"` or `"fast"`: what `kernels` comes to; raises where `"fast"` cannot be right."""
        return self.forward_pass.kernels_used

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the backbone as it is now, see `backbones.fingerprint`."""
        return backbones.fingerprint(self.backbone)

    @property
    def quantization(self) -> str | None:
        """`"int8"` or `"int4"` of a backbone that is so quantised, see `build`."""
        return backbones.quantization(self.backbone)

    def distill(self, teachers: Teachers, weight: float = WEIGHT) -> None:
        """Let `fit` also learn from the answers of trained prompts, see `distillation.teach`."""
        teach(self, teachers, weight)

    # === Answers ===

    @overload
    def generate(
        self,
        inputs: str,
        max_length: int | None = None,
        stop_token_ids: Sequence[int] | str | None = "auto",
        strip_prompt: bool = False,
        batch_size: int = 32,
        prompt: WhichPrompt = None,
        sampler: keras_hub.samplers.Sampler | str | None = None,
    ) -> str: ...

    @overload
    def generate(
        self,
        inputs: list[str] | tuple[str, ...] | np.ndarray | Iterator[str],
        max_length: int | None = None,
        stop_token_ids: Sequence[int] | str | None = "auto",
        strip_prompt: bool = False,
        batch_size: int = 32,
        prompt: WhichPrompt = None,
        sampler: keras_hub.samplers.Sampler | str | None = None,
    ) -> list[str]: ...

    def generate(
        self,
        inputs: Any,
        max_length: int | None = None,
        stop_token_ids: Sequence[int] | str | None = "auto",
        strip_prompt: bool = False,
        batch_size: int = 32,
        prompt: WhichPrompt = None,
        sampler: keras_hub.samplers.Sampler | str | None = None,
    ) -> Any:
        """Answer texts (or token ids), greedily by default.

        Texts are sorted by length and padded only to the longest of their batch; the order
        of the answers is that of the inputs. A `DataWarning` counts those that are cut.

        Args:
            inputs: a text, a list of texts, or whatever `Seq2SeqLM.generate` takes
                (dictionaries of texts or token ids, a `tf.data.Dataset`).
            max_length: target tokens at most. Default: the preprocessor's.
            stop_token_ids: ids that end a row; `"auto"` (default) the tokeniser's end token; None
                or none at all: every row gets `max_length` tokens.
            strip_prompt: as in `Seq2SeqLM.generate`.
            batch_size: texts decoded at once. Default 32.
            prompt: of a bank, the prompt by name or number: one for all texts, or a list with one
                for each.
            sampler: a KerasHub sampler or its name. Default: the compiled one.

        Returns:
            A text for a text, a list of texts for a list.

        Raises:
            InvalidArgument: inputs that are no texts, a length or size that is no positive
                integer, an unknown sampler or prompt.
        """
        return self.generator.generate(
            inputs,
            max_length,
            stop_token_ids,
            strip_prompt,
            batch_size,
            prompt,
            sampler,
            warns=True,
        )

    def generate_step(
        self,
        inputs: dict[str, Tensor],
        stop_token_ids: Sequence[int] | None = None,
        prompt_states: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Decode one batch of token ids with the compiled sampler, see `Generator.step`."""
        return self.generator.step(inputs, stop_token_ids, prompt_states)

    def make_generate_function(self) -> Callable[..., Tensor]:
        """Return the compiled function of `(inputs, stop_token_ids)`, see `Generator.function`."""
        return self.generator.function()

    def token_rows(self, rows: Sequence[str]) -> list[list[int]]:
        """Return a list of token ids for each text: cut to the input length, end token last."""
        return texts.token_rows(self.preprocessor, rows)

    def detokenize(self, ids: np.ndarray, mask: np.ndarray) -> list[str]:
        """Return texts of `ids` `[B, D]` where `mask` `[B, D]`, without special or unknown ids."""
        return texts.detokenize(self.preprocessor, ids, mask)

    # === Saving ===

    def export(
        self,
        filepath: PathLike,
        format: str = "tf_saved_model",
        max_length: int | None = None,
        overwrite: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write a servable model.

        Args:
            filepath: folder to write; may be an address.
            format: `"tf_saved_model"` or `"savedmodel"`: texts in, texts out, for TensorFlow;
                `"transformers"`: a Hugging Face T5 whose vocabulary has the prompts' words;
                `"ctranslate2"`, `"onnx"`: the same for these engines, which need neither
                TensorFlow nor PyTorch. Keras' other formats export the logits.
            max_length: target tokens at most. Default: the preprocessor's.
            overwrite: also replace an earlier one of ours that was changed since, or a file of the
                other formats.
            **kwargs: `tasks`: what the prompts were trained on, so that callers can give fields
                (see `export.described.cards_of`); `quantize="int8"` of CTranslate2 and ONNX;
                `version` and `buckets` of the SavedModel, see `export.savedmodel.export_text`; else
                those of Keras' formats.

        Raises:
            InvalidArgument: a folder that holds anything but our own earlier work, a file without
                `overwrite`, a model that the format cannot hold, or a length below 1.
            MissingExtra: the engine is not installed that tries what was written.
        """
        if max_length is not None and (type(max_length) is not int or max_length < 1):
            raise invalid("max_length", "must be a positive integer", f"{max_length=}")
        with self.soft_prompt.folded(), backbones.quiet_masks():
            if format not in (*export.FORMATS, *export.OF_KERAS):
                raise unknown("format", format, [*export.FORMATS, *export.OF_KERAS])
            if format in export.FORMATS:
                lengths = {"max_length": max_length, "overwrite": overwrite}
                export.export(self, filepath, format, **lengths, **kwargs)
            else:
                write = functools.partial(super().export, format=format, **kwargs)
                export.export_files(write, filepath, overwrite)

    def save_to_preset(
        self, preset_dir: PathLike, max_shard_size: float = 10, overwrite: bool = False
    ) -> None:
        """Write the model as a KerasHub preset; `overwrite` and errors are those of `export`.

        `PromptedT5.from_preset` reads all of it; KerasHub's own classes read the T5 alone.
        """
        with atomic_folder(preset_dir, export.PRESET, overwrite) as folder:
            super().save_to_preset(str(folder), max_shard_size)

    def get_config(self) -> Record:
        config = super().get_config() | {name: getattr(self, name) for name in _CONFIG}
        texts.add_lengths(config["preprocessor"], self.preprocessor)
        config["reparameterization"] = self.soft_prompt.get_config()["reparameterization"]
        facts = backbones.quantized.record(self.backbone)
        if facts is not None:
            config["quantized"] = facts
        sampler = getattr(self, "sampler", None)  # presets hold nothing else of `compile`
        if sampler is not None:
            config["sampler"] = keras.saving.serialize_keras_object(sampler)
        return {**config, "recipe": dataclasses.asdict(self.recipe)}

    @classmethod
    @backbones.quiet_masks()
    def from_config(cls, config: Record) -> PromptedT5:
        config = {**config, "recipe": Recipe(**config["recipe"])}
        facts, sampler = config.pop("quantized", None), config.pop("sampler", None)
        if isinstance(config["backbone"], dict):
            config["backbone"] = filling.revived(config["backbone"], facts)
        model = super().from_config(config)
        if sampler is not None:
            model.compile(sampler=keras.saving.deserialize_keras_object(sampler))
        return model

    @classmethod
    @backbones.quiet_masks()
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any) -> PromptedT5:
        """Return a model saved by `save_to_preset`, or a new one on a T5's preset."""
        return load_task(cls, preset, load_weights, kwargs)
