"""A frozen T5 with a soft prompt in front of its encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import keras
import keras_hub
import numpy as np
from keras import ops

from keras_spot import backbones
from keras_spot.base import devices
from keras_spot.base.errors import invalid
from keras_spot.base.recipe import Recipe
from keras_spot.base.types import Initializer, PathLike, Record, Tensor
from keras_spot.model import export, feeding, optimizers, prompt_files, samplers, texts
from keras_spot.model.generation import INPUTS, Generator
from keras_spot.model.kernels import ForwardPass
from keras_spot.model.losses import LabelAccuracy, TokenAccuracy, TokenCrossEntropy, bank_loss
from keras_spot.model.ranking import Ranker
from keras_spot.model.soft_prompt import SoftPrompt
from keras_spot.prompts import names as naming

__all__ = ["PromptedT5"]

Kernels: TypeAlias = Literal["auto", "plain", "fast"]
WhichPrompt: TypeAlias = str | int | Sequence[str | int] | None
"""Of a bank: a prompt's name or number, or one a row."""


@keras.saving.register_keras_serializable("keras_spot")
class PromptedT5(keras_hub.models.Seq2SeqLM):
    """A KerasHub `Seq2SeqLM` whose only trainable variable is a soft prompt.

    The prompt's P vectors stand before the embedded encoder input; relative positions and
    attention run over the P + T positions, the decoder's cross-attention sees them all, and
    the decoder gets no prompt (Vu et al. 2022, section 2.1). How that is computed stands in
    `model/plain/forward.py`.

    Most people want `keras_spot.build`.

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
        remat: compute the encoder's states again on the way back instead of keeping them: less
            memory for about a third more work. Default False.
        kernels: how the numbers are computed: `"auto"` (default): fast where it is right and
            gains, a large frozen backbone on one TensorFlow CPU; `"plain"`; `"fast"`, refused
            where it cannot be right.
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
        **kwargs: Any,
    ) -> None:
        if remat and dropout:
            rule = "must be 0 with remat=True, which would draw other masks on the way back"
            raise invalid("dropout", rule, f"{dropout=}")
        names = naming.check(prompt_names, num_prompts)
        # === Layers ===
        backbones.freeze(backbone, dropout)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.soft_prompt = SoftPrompt(
            prompt_length, prompt_initializer, num_prompts, name="soft_prompt"
        )
        self.soft_prompt.build((None, None, backbone.hidden_dim))
        self._forward = ForwardPass(
            backbone, self.soft_prompt, prompt_attention, remat, kernels, name="forward_pass"
        )

        # === Functional Model ===
        inputs = {key: backbone.input[key] for key in INPUTS}
        if num_prompts is not None:
            inputs["prompt_index"] = keras.Input((), dtype="int32", name="prompt_index")
        logits = self._forward(inputs)

        # === Config ===
        self.prompt_length = self.soft_prompt.length
        self.num_prompts = num_prompts
        self.prompt_names = names
        self.dropout = dropout
        self.prompt_attention = prompt_attention
        self.remat = remat
        self.kernels = kernels
        self.recipe = recipe or Recipe()
        self.generator = Generator(self)
        self.ranker = Ranker(self)
        self._fingerprint: str | None = None
        self._prompt_losses = [keras.metrics.Mean(name=f"{name}_loss") for name in names or ()]
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

    @property
    def kernels_used(self) -> Literal["plain", "fast"]:
        """`"plain"` or `"fast"`: what `kernels` comes to, as things are now.

        Raises:
            InvalidArgument: `kernels="fast"` where that cannot be right.
        """
        return self._forward.kernels_used

    # === Forward pass in parts, for what does not train ===

    def encode(
        self,
        token_ids: Tensor,
        padding_mask: Tensor,
        prompt_index: Tensor | None = None,
        prompt_states: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the encoder's states `[B, P + T, H]` and their mask, see `PlainT5.encode`."""
        return self._forward.plain.encode(token_ids, padding_mask, prompt_index, prompt_states)

    def prompt_states(self) -> Tensor | None:
        """Return the prompt's part of the encoder's states, for `encode` while it does not change.

        None with `prompt_attention="full"`, where every text's tokens are part of them.
        """
        return None if self.prompt_attention == "full" else self._forward.plain.prompt_states()

    def decode(
        self, token_ids: Tensor, padding_mask: Tensor, states: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the logits `[B, D, V]` of decoder inputs, see `PlainT5.decode`."""
        return self._forward.plain.decode(token_ids, padding_mask, states, mask)

    def cached_decoder(self, states, mask, length):
        """Return a decoder of one position at a time, see `plain.cached.CachedDecoder`."""
        return self._forward.chosen.cached_decoder(states, mask, length)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits `[B, V]` of a cached decoder's states `[B, H]`."""
        return self._forward.plain.logits(x)

    # === Training ===

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "auto",
        loss: keras.losses.Loss | str = "auto",
        *,
        weighted_metrics: Sequence[keras.metrics.Metric | str] | str | None = "auto",
        sampler: keras_hub.samplers.Sampler | str = "greedy",
        **kwargs: Any,
    ) -> None:
        """Configure training; `"auto"` is the recipe's choice.

        Args:
            optimizer: default `keras_spot.optimizers.Adafactor` with the recipe's rates.
            loss: default `keras_spot.losses.TokenCrossEntropy`.
            weighted_metrics: default `keras_spot.losses.TokenAccuracy` and `LabelAccuracy`.
            sampler: a KerasHub sampler or its name. Default `"greedy"`.
            **kwargs: as for `keras.Model.compile`. XLA is off by default on CPU, where
                `jit_compile=True` pays for many float32 steps of a large backbone, and under
                tf.distribute (TPUStrategy compiles by itself, and nothing beside it may).

        Raises:
            InvalidArgument: something that cannot be right under the current strategy, or
                `kernels="fast"` where that cannot be right.
        """
        if optimizer == "auto":
            optimizer = optimizers.from_recipe(self.recipe)
        if loss == "auto":
            loss = TokenCrossEntropy(self.recipe.z_loss, self.recipe.label_smoothing)
        if isinstance(loss, TokenCrossEntropy):
            loss = loss.computed_with(self._forward.log_partition)
        if weighted_metrics == "auto":
            weighted_metrics = [TokenAccuracy(), LabelAccuracy()]
        if kwargs.get("jit_compile", "auto") == "auto":
            kwargs["jit_compile"] = devices.default_jit()
        devices.check(optimizer, loss, kwargs, self.dropout)
        if self.num_prompts is not None and not isinstance(loss, keras.losses.Loss):
            raise invalid("loss", "must be a keras.losses.Loss for a bank of prompts", f"{loss!r}")
        super().compile(
            optimizer=optimizer,
            loss=loss,
            weighted_metrics=weighted_metrics,
            sampler=samplers.get(sampler),
            **kwargs,
        )
        self._forward.compile_whole_steps(bool(self.jit_compile))
        self.generator.forget()
        self.ranker.forget()

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        if self.backbone.token_embedding.quantization_mode:
            rule = "must keep its token embedding in float to train a prompt: Keras' quantised one "
            rule += "gives no gradient"
            mode = self.backbone.token_embedding.quantization_mode
            raise invalid("backbone", rule, f"token_embedding.quantization_mode={mode!r}")
        return super().train_step(*args, **kwargs)

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Return the loss; a bank's is the mean of its prompts', see `losses.bank_loss`."""
        if self.num_prompts is None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        losses = self.loss.call(y, y_pred)
        return bank_loss(losses, sample_weight, x["prompt_index"], self._prompt_losses)

    def get_compile_config(self) -> Record:
        config = super().get_compile_config()
        if config:
            config["sampler"] = keras.saving.serialize_keras_object(self.sampler)
        return config

    def compile_from_config(self, config: Record) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        sample_weight: Any = None,
        validation_data: Any = None,
        validation_split: float | None = None,
        shuffle: bool = True,
        class_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Train the prompt on texts or token ids, see `feeding`; `**kwargs` as Keras' `fit`."""
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = feeding.split_off(
                x, y, sample_weight, validation_split
            )
        steps = kwargs.get("steps_per_epoch")
        steps = steps and steps * kwargs.get("epochs", 1)
        x = feeding.dataset_of(self, x, y, sample_weight, batch_size, shuffle, class_weight, steps)
        if validation_data is not None:
            validation_data = feeding.validation_of(self, validation_data, batch_size)
        return super().fit(x, validation_data=validation_data, shuffle=False, **kwargs)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Return the loss and metrics of texts or token ids, see `feeding`."""
        if kwargs.get("_use_cached_eval_dataset"):
            return super().evaluate(x, y, batch_size, sample_weight, **kwargs)
        steps = kwargs.get("steps")
        x = feeding.dataset_of(self, x, y, sample_weight, batch_size, steps=steps)
        return super().evaluate(x, **kwargs)

    def preprocess_samples(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Tokenise texts; pass token ids and the numbers of prompts as they are."""
        if isinstance(x, dict) and "encoder_token_ids" in x:
            return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        texts.revive_tokenizer(self.preprocessor)
        if self.num_prompts is None:
            return texts.as_numbers(*super().preprocess_samples(x, y, sample_weight))
        own = {key: value for key, value in x.items() if key != "prompt_index"}
        ids, y, mask = texts.as_numbers(*super().preprocess_samples(own, y, sample_weight))
        return {**ids, "prompt_index": x["prompt_index"]}, y, mask

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
        of the answers is that of the inputs.

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
            inputs, max_length, stop_token_ids, strip_prompt, batch_size, prompt, sampler
        )

    def generate_step(
        self,
        inputs: dict[str, Tensor],
        stop_token_ids: Sequence[int] | None = None,
        prompt_states: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Decode one batch of token ids with cached keys and values.

        Args:
            inputs: the model's call arguments; `decoder_padding_mask` marks given tokens,
                at least the start token.
            stop_token_ids: ids that end a row, `None` to fill all D positions.
            prompt_states: see `prompt_states`. Default: computed anew.

        Returns:
            `decoder_token_ids` `[B, D]` and the boolean `decoder_padding_mask` `[B, D]`.
        """
        return self.generator.step(inputs, stop_token_ids, prompt_states)

    def make_generate_function(self):
        """Return the compiled function of `(inputs, stop_token_ids)`, see `Generator.function`."""
        return self.generator.function()

    def token_rows(self, rows: Sequence[str]) -> list[list[int]]:
        """Return a list of token ids for each text: cut to the input length, end token last."""
        return texts.token_rows(self.preprocessor, rows)

    def detokenize(self, ids: np.ndarray, mask: np.ndarray) -> list[str]:
        """Return texts of `ids` `[B, D]` where `mask` `[B, D]`, without special or unknown ids."""
        return texts.detokenize(self.preprocessor, ids, mask)

    # === Prompts ===

    @property
    def prompt(self) -> np.ndarray:
        """The prompt as a float32 NumPy array `[P, H]`, a bank's as `[K, P, H]`."""
        values = ops.convert_to_numpy(self.soft_prompt.stacked("float32"))
        return values[0] if self.num_prompts is None else values

    def prompt_numbers(self, prompt: WhichPrompt, rows: int) -> np.ndarray | None:
        """Return the `prompt_index` of B rows, `[B]` int32; None for a model with one prompt.

        Args:
            prompt: a bank's prompt by name or number, or a list with one a row.
            rows: B.

        Raises:
            ValueError: a prompt that the bank does not have, a bank's that is not said, or a list
                of another length.
        """
        return naming.numbers(self.prompt_names, prompt, rows)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the frozen backbone, see `backbones.fingerprint`."""
        if self._fingerprint is None:
            self._fingerprint = backbones.fingerprint(self.backbone)
        return self._fingerprint

    def save_prompt(
        self,
        path: PathLike,
        form: str | None = None,
        prompt: str | int | None = None,
        **provenance: Any,
    ) -> Path:
        """Write the prompt, see `prompts.write`.

        Args:
            path: `*.npz` (with provenance), `*.npy`, the reference's file name, or whatever
                `form` takes; may be an address.
            form: `"npz"`, `"npy"`, `"reference"` or `"peft"`. Default: what the path's name says.
            prompt: which one of a bank, by name or number.
            **provenance: what to record beside the backbone's fingerprint, what the prompt sees and
                the versions.
        """
        return prompt_files.save(self, path, form, prompt, **provenance)

    def load_prompt(
        self, path: PathLike, step: int | str | None = None, prompt: str | int | None = None
    ) -> None:
        """Replace the prompt by a file's, see `prompts.read`.

        Args:
            path: a prompt's file, folder or address.
            step: which step of a run.
            prompt: which one of a bank to replace, by name or number.

        Raises:
            ValueError: a prompt of another shape, backbone or `prompt_attention`.
        """
        prompt_files.load(self, path, step, prompt)

    def prompt_variable(self, prompt: str | int | None = None) -> keras.Variable:
        """Return the variable `[P, H]` of the prompt, of a bank's by name or number."""
        return self.soft_prompt.prompts[naming.number(self.prompt_names, prompt) or 0]

    # === Saving ===

    def export(
        self,
        filepath: PathLike,
        format: str = "tf_saved_model",
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a servable model.

        Args:
            filepath: folder of the SavedModel.
            format: `"tf_saved_model"` gives a signature text in, text out, which a process
                with only tensorflow and tensorflow_text runs; other Keras formats export
                the logits.
            max_length: target tokens at most. Default: the preprocessor's.
            **kwargs: for the other formats.
        """
        if format == "tf_saved_model":
            return export.export_text(self, filepath, max_length)
        return super().export(filepath, format=format, **kwargs)

    def get_config(self) -> Record:
        config = super().get_config()
        config.update(
            prompt_length=self.prompt_length,
            dropout=self.dropout,
            prompt_attention=self.prompt_attention,
            recipe=dataclasses.asdict(self.recipe),
            num_prompts=self.num_prompts,
            prompt_names=self.prompt_names,
            remat=self.remat,
            kernels=self.kernels,
        )
        return config

    @classmethod
    def from_config(cls, config: Record) -> PromptedT5:
        return super().from_config({**config, "recipe": Recipe(**config["recipe"])})
