"""The one choice between `model/plain` and `model/fast`, and the layer that makes it."""

import functools
from typing import Any, Literal

import keras

from keras_spot import backbones
from keras_spot.base import devices
from keras_spot.base.choices import KERNELS, Kernels
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.types import Record, Tensor
from keras_spot.model.distillation import Distillation
from keras_spot.model.gradient_check import check_embedding
from keras_spot.model.plain.forward import PlainT5
from keras_spot.model.soft_prompt import SoftPrompt

__all__ = ["ForwardPass"]


class ForwardPass(keras.layers.Layer):
    """From token ids to logits `[B, D, V]`, by `PlainT5` or by the `FastT5` of `model/fast`.

    Training and cached decoding are fast where that is chosen; everything else is plain, since
    `fast` compiles for every new shape.

    Args:
        backbone: `T5Backbone`.
        soft_prompt: the `SoftPrompt` layer, built.
        prompt_attention: see `PlainT5`.
        remat: see `PlainT5`.
        kernels: `"auto"`: fast where it is right and gains; `"plain"`; `"fast"`: refused where it
            is not right.

    Raises:
        InvalidArgument: an unknown `kernels` or `prompt_attention`.
    """

    def __init__(
        self,
        backbone: Any,
        soft_prompt: SoftPrompt,
        prompt_attention: str = "full",
        remat: bool = False,
        kernels: Kernels = "auto",
    ) -> None:
        super().__init__(dtype=backbone.dtype_policy, name="forward_pass")
        self.choose(kernels)
        self.backbone, self.soft_prompt = backbone, soft_prompt
        self.distillation: Distillation | None = None
        self._whole_steps = False
        self._options = prompt_attention, remat
        self._distributed = devices.current() is not None
        self.plain = PlainT5(backbone, soft_prompt, *self._options)
        self.built = True

    def choose(self, kernels: Kernels) -> None:
        """Compute by these kernels from now on, see the class."""
        if kernels not in KERNELS:
            raise unknown("kernels", kernels, KERNELS)
        self.kernels = kernels

    def compile_whole_steps(self, jit_compile: bool) -> None:
        """Take note of whether XLA compiles whole steps.

        Raises:
            InvalidArgument: `kernels="fast"` where that cannot be right.
        """
        self._whole_steps = jit_compile
        # XLA for CPU drops the barriers that keep what is computed again apart.
        self.plain.suit(accelerator=jit_compile and devices.on_accelerator())
        _ = self.kernels_used

    @functools.cached_property
    def _fast(self) -> PlainT5:
        from keras_spot.model.fast.forward import FastT5

        return FastT5(self.backbone, self.soft_prompt, *self._options)

    def leave_to_plain(self, method: str) -> None:
        """Let `PlainT5` compute what this method of `FastT5` does, to measure what it is worth."""
        own = {method: getattr(PlainT5, method)}
        without = type("FastT5Without", (type(self._fast),), own)
        self._fast = without(self.backbone, self.soft_prompt, *self._options)

    @property
    def chosen(self) -> PlainT5:
        """The `PlainT5` or `FastT5` that trains and decodes, as things are now.

        Raises:
            InvalidArgument: `kernels="fast"` where that cannot be right.
        """
        return self._fast if self.kernels_used == "fast" else self.plain

    @property
    def kernels_used(self) -> Literal["plain", "fast"]:
        """`"plain"` or `"fast"`, see `chosen`."""
        if self.kernels == "plain":
            return "plain"
        reason = self._against_fast()
        if self.kernels == "auto":
            large = self.backbone.count_params() >= devices.LARGE
            return "fast" if large and reason is None else "plain"
        if reason is not None:
            raise invalid("kernels", f"must not be 'fast' {reason}", f"{self.kernels!r}")
        return "fast"

    def _against_fast(self) -> str | None:
        """Return why `fast` would be wrong here, None where it is right."""
        if self._distributed or not devices.on_cpu():
            return "but on one CPU, with TensorFlow and without a strategy"
        if self._whole_steps:
            return "with jit_compile=True, where XLA compiles the plain pass whole"
        # A layer may train though the whole backbone's `trainable` says no.
        trainable = [variable for variable in self.backbone.variables if variable.trainable]
        if trainable:
            return f"where anything but the prompt trains, as {trainable[0].path} does"
        if backbones.quantization(self.backbone) == backbones.ANOTHER_WAY:
            return "where only some projections are quantised, or their inputs, too"
        return None

    def encode(
        self,
        token_ids: Tensor,
        padding_mask: Tensor,
        prompt_index: Tensor | None = None,
        prompt_states: Any = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the encoder's states `[B, P + T, H]` and their mask, see `PlainT5.encode`."""
        return self.plain.encode(token_ids, padding_mask, prompt_index, prompt_states)

    def decode(
        self, token_ids: Tensor, padding_mask: Tensor, states: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the logits `[B, D, V]` of decoder inputs, see `PlainT5.decode`."""
        return self.plain.decode(token_ids, padding_mask, states, mask)

    def prompt_states(self) -> Any:
        """Return the prompt's part of the encoder's states, for `encode` while it does not change.

        None with `prompt_attention="full"`, where every text's tokens are part of them.
        """
        return None if self.plain.prompt_attention == "full" else self.plain.prompt_states()

    def log_partition(self, logits: Tensor, targets: Tensor, low: float = 0.0) -> Tensor:
        """Return what `losses.log_partition` does."""
        return self.chosen.log_partition(logits, targets, low)

    def call(self, inputs: dict[str, Tensor], training: bool | None = None) -> Tensor:
        if training:
            check_embedding(self.backbone)
        forward = self.chosen if training else self.plain
        distillation = self.distillation if training else None
        states, mask = forward.encode(
            inputs["encoder_token_ids"],
            inputs["encoder_padding_mask"],
            inputs.get("prompt_index"),
            joined=distillation is not None,
        )
        targets = inputs["decoder_token_ids"], inputs["decoder_padding_mask"]
        if distillation is None:
            return forward.decode(*targets, states, mask)
        hidden = forward.decoder_states(*targets, states, mask)
        logits = forward.logits(hidden)
        self.add_loss(distillation.loss(inputs, states, hidden, logits))
        return logits

    def get_config(self) -> Record:
        """Raise: this layer is made by its model, whose backbone and prompt it works with.

        Raises:
            InvalidArgument: always.
        """
        rule = (
            "must be copied or saved as a whole PromptedT5 (model.save, "
            "PromptedT5.from_config), not layer by layer as by clone_model"
        )
        raise invalid("model", rule, self.name)

    def compute_output_spec(
        self, inputs: dict[str, Tensor], training: bool | None = None
    ) -> keras.KerasTensor:
        embedding = self.backbone.token_embedding
        shape = (*inputs["decoder_token_ids"].shape, embedding.input_dim)
        # In mixed precision the product with the table of float32 is float32, too.
        product = keras.backend.result_type(embedding.compute_dtype, embedding.variable_dtype)
        return keras.KerasTensor(shape, embedding.reverse_dtype or product)
