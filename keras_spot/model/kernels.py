"""The one choice between `model/plain` and `model/fast`, and the layer that makes it."""

import functools
from typing import Literal, TypeAlias, get_args

import keras

from keras_spot.base import devices
from keras_spot.base.errors import invalid, unknown
from keras_spot.model.plain.forward import PlainT5

Kernels: TypeAlias = Literal["auto", "plain", "fast"]
KERNELS = get_args(Kernels)


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
        backbone,
        soft_prompt,
        prompt_attention="full",
        remat=False,
        kernels="auto",
    ):
        super().__init__(dtype=backbone.dtype_policy, name="forward_pass")
        if kernels not in KERNELS:
            raise unknown("kernels", kernels, KERNELS)
        self.backbone, self.soft_prompt = backbone, soft_prompt
        self.kernels = kernels
        self._whole_steps = False
        self._options = prompt_attention, remat
        self._distributed = devices.current() is not None
        self.plain = PlainT5(backbone, soft_prompt, *self._options)
        self.built = True

    def compile_whole_steps(self, jit_compile):
        """Take note of whether XLA compiles whole steps.

        Raises:
            InvalidArgument: `kernels="fast"` where that cannot be right.
        """
        self._whole_steps = jit_compile
        _ = self.kernels_used

    @functools.cached_property
    def _fast(self):
        from keras_spot.model.fast.forward import FastT5

        return FastT5(self.backbone, self.soft_prompt, *self._options)

    @property
    def chosen(self):
        """The `PlainT5` or `FastT5` that trains and decodes, as things are now.

        Raises:
            InvalidArgument: `kernels="fast"` where that cannot be right.
        """
        return self._fast if self.kernels_used == "fast" else self.plain

    @property
    def kernels_used(self):
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

    def _against_fast(self):
        """Return why `fast` would be wrong here, None where it is right."""
        if self._distributed or not devices.on_cpu():
            return "but on one CPU, with TensorFlow and without a strategy"
        if self._whole_steps:
            return "with jit_compile=True, where XLA compiles the plain pass whole"
        # A layer may train though the whole backbone's `trainable` says no.
        trainable = [variable for variable in self.backbone.variables if variable.trainable]
        if trainable:
            return f"where anything but the prompt trains, as {trainable[0].path} does"
        return None

    def encode(self, token_ids, padding_mask, prompt_index=None, prompt_states=None):
        """Return the encoder's states `[B, P + T, H]` and their mask, see `PlainT5.encode`."""
        return self.plain.encode(token_ids, padding_mask, prompt_index, prompt_states)

    def decode(self, token_ids, padding_mask, states, mask):
        """Return the logits `[B, D, V]` of decoder inputs, see `PlainT5.decode`."""
        return self.plain.decode(token_ids, padding_mask, states, mask)

    def prompt_states(self):
        """Return the prompt's part of the encoder's states, for `encode` while it does not change.

        None with `prompt_attention="full"`, where every text's tokens are part of them.
        """
        return None if self.plain.prompt_attention == "full" else self.plain.prompt_states()

    def log_partition(self, logits, targets, low=0.0):
        """Return what `losses.log_partition` does."""
        return self.chosen.log_partition(logits, targets, low)

    def call(self, inputs, training=None):
        mode = self.backbone.token_embedding.quantization_mode
        if training and mode:
            rule = "must keep its token embedding in float to train: Keras' quantised one has no "
            raise invalid("backbone", f"{rule}gradient", f"quantization_mode={mode!r}")
        forward = self.chosen if training else self.plain
        states, mask = forward.encode(
            inputs["encoder_token_ids"],
            inputs["encoder_padding_mask"],
            inputs.get("prompt_index"),
            joined=False,
        )
        return forward.decode(
            inputs["decoder_token_ids"], inputs["decoder_padding_mask"], states, mask
        )

    def compute_output_spec(self, inputs, training=None):
        embedding = self.backbone.token_embedding
        shape = (*inputs["decoder_token_ids"].shape, embedding.input_dim)
        return keras.KerasTensor(shape, embedding.reverse_dtype or embedding.compute_dtype)
