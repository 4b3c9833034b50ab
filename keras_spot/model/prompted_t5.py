"""A frozen T5 with a soft prompt in front of its encoder."""

import dataclasses

import keras
import keras_hub
from keras import ops

from keras_spot import backbones, prompts
from keras_spot.base import devices
from keras_spot.base.errors import invalid
from keras_spot.base.recipe import Recipe
from keras_spot.base.versions import versions
from keras_spot.model import export
from keras_spot.model.fast import gradients, passes
from keras_spot.model.fast.forward import PromptDecoder, PromptEncoder
from keras_spot.model.fast.greedy import GreedySampler
from keras_spot.model.generation import INPUTS, TextGeneration
from keras_spot.model.losses import TokenAccuracy, TokenCrossEntropy, per_prompt
from keras_spot.model.optimizers import Adafactor
from keras_spot.model.soft_prompt import SoftPrompt
from keras_spot.prompts import names as naming


@keras.saving.register_keras_serializable("keras_spot")
class PromptedT5(TextGeneration, keras_hub.models.Seq2SeqLM):
    """A KerasHub `Seq2SeqLM` whose only trainable variable is a soft prompt.

    The prompt's P vectors stand before the embedded encoder input; relative positions and
    attention run over the P + T positions, the decoder's cross-attention sees them all, and
    the decoder gets no prompt (Vu et al. 2022, section 2.1). `encode` is the one place
    where that happens: training, generation and export all go through it.

    Most people want `keras_spot.build`.

    Args:
        backbone: `keras_hub.models.T5Backbone`. It is frozen in place and its dropout layers
            are set to `dropout`.
        preprocessor: `keras_hub.models.T5Seq2SeqLMPreprocessor`, or `None` for token ids only.
        prompt_length: P. Default: the initialiser's, else 100.
        prompt_initializer: initial prompt, see `SoftPrompt`.
        num_prompts: K, for a bank of prompts on one backbone, see `SoftPrompt`: every row names its
            prompt, and each prompt is trained as it would be alone on its own rows, its loss
            divided by the weights of its own targets. A prompt without rows in a batch has the
            gradient 0. Default: None, one prompt.
        prompt_names: K names for a bank's prompts. Default: `"0"`, `"1"`, ...
        dropout: rate inside the backbone while training. Default 0, whatever the preset says.
        prompt_attention: what the prompt's positions see, see `forward.PromptEncoder`: `"full"`
            (default), as published prompts were trained; `"prompt"` or `"causal"`, with which the
            prompt is encoded once a batch instead of once a row.
        remat: compute the encoder's states anew on the way back instead of keeping them: less
            memory for about a third more work. Default False.
        recipe: what `compile()` uses by default: learning rate, weight decay, z-loss, ...
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
        ValueError: dropout asked of a backbone built without any, or names that do not tell K
            prompts apart.
    """

    preprocessor_cls = keras_hub.models.T5Seq2SeqLMPreprocessor

    def __init__(
        self,
        backbone,
        preprocessor=None,
        prompt_length=None,
        prompt_initializer=None,
        dropout=0.0,
        prompt_attention="full",
        recipe=None,
        num_prompts=None,
        prompt_names=None,
        remat=False,
        **kwargs,
    ):
        names = naming.check(prompt_names, num_prompts)
        # === Layers ===
        backbones.freeze(backbone, dropout)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.soft_prompt = SoftPrompt(
            prompt_length, prompt_initializer, num_prompts, name="soft_prompt"
        )
        self.soft_prompt.build((None, None, backbone.hidden_dim))
        self._encoder = PromptEncoder(backbone, self.soft_prompt, prompt_attention, remat)
        self._decoder = PromptDecoder(backbone)

        # === Functional Model ===
        inputs = {key: backbone.input[key] for key in INPUTS}
        if num_prompts is not None:
            inputs["prompt_index"] = keras.Input((), dtype="int32", name="prompt_index")
        texts = inputs["encoder_token_ids"], inputs["encoder_padding_mask"]
        states, mask = self._encode(*texts, inputs.get("prompt_index"), apart=not dropout)
        logits = self.decode(
            inputs["decoder_token_ids"], inputs["decoder_padding_mask"], states, mask
        )

        # === Config ===
        self.prompt_length = self.soft_prompt.length
        self.num_prompts = num_prompts
        self.prompt_names = names
        self.dropout = dropout
        self.prompt_attention = prompt_attention
        self.remat = remat
        self.recipe = recipe or Recipe()
        self._fingerprint = None
        self._own_losses = [keras.metrics.Mean(name=f"{name}_loss") for name in names or ()]
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

    # === Forward pass ===

    @backbones.quiet_masks()
    def call(self, inputs, training=None, mask=None):
        """Return the logits `[B, D, V]`; see the class."""
        return super().call(inputs, training=training, mask=mask)

    @backbones.quiet_masks()
    def encode(self, token_ids, padding_mask, prompt_index=None, prompt_states=None):
        """Embed, prepend the prompt and run the encoder.

        Args:
            token_ids: `[B, T]` integers.
            padding_mask: `[B, T]`, 1 on tokens.
            prompt_index: of a bank, `[B]` integers.
            prompt_states: see `prompt_states`.

        Returns:
            Encoder states `[B, P + T, H]` and their padding mask `[B, P + T]`.
        """
        return self._encode(token_ids, padding_mask, prompt_index, prompt_states)

    def _encode(self, token_ids, padding_mask, prompt_index=None, prompt_states=None, apart=False):
        x = self.backbone.token_embedding(token_ids)
        x = self.backbone.encoder_embedding_dropout(x)
        states = self._encoder(x, padding_mask, prompt_index, prompt_states, apart=apart)
        return states, self.soft_prompt.extend_mask(padding_mask)

    def prompt_states(self):
        """Return the prompt's part of the encoder's states, for `encode` while it does not change.

        None with `prompt_attention="full"`, where every text's tokens are part of them.
        """
        return None if self.prompt_attention == "full" else self._encoder.prompt_states()

    @backbones.quiet_masks()
    def decode(self, token_ids, padding_mask, states, mask):
        """Return the logits `[B, D, V]` of decoder inputs `[B, D]` given encoder states.

        Args:
            token_ids: `[B, D]` integers, shifted right.
            padding_mask: `[B, D]`, 1 on tokens.
            states: `[B, P + T, H]` from `encode`.
            mask: `[B, P + T]` from `encode`.
        """
        backbone = self.backbone
        x = backbone.decoder_embedding_dropout(backbone.token_embedding(token_ids))
        return self._logits(self._decoder(x, padding_mask, states, mask))

    def _logits(self, x):
        backbone = self.backbone
        x = backbone.decoder_dropout(backbone.decoder_layer_norm(x))
        if backbone.tie_embedding_weights:
            x = x * ops.cast(backbone.hidden_dim**-0.5, x.dtype)
        return gradients.logits(backbone.token_embedding, x)

    # === Training ===

    def compile(
        self, optimizer="auto", loss="auto", *, weighted_metrics="auto", sampler="greedy", **kwargs
    ):
        """Configure training; `"auto"` is the recipe's choice.

        Args:
            optimizer: default `keras_spot.optimizers.Adafactor` with the recipe's rates.
            loss: default `keras_spot.losses.TokenCrossEntropy`.
            weighted_metrics: default `keras_spot.losses.TokenAccuracy`.
            sampler: a KerasHub sampler or its name. Default `"greedy"`.
            **kwargs: as for `keras.Model.compile`. XLA is off by default on CPU, where
                `jit_compile=True` pays for many float32 steps of a large backbone, and under
                tf.distribute (TPUStrategy compiles by itself, and nothing beside it may).

        Raises:
            ValueError: something that cannot be right under the current strategy.
        """
        recipe = self.recipe
        if optimizer == "auto":
            optimizer = Adafactor(
                recipe.learning_rate,
                decay_rate=recipe.decay_rate,
                weight_decay=recipe.weight_decay,
            )
        if loss == "auto":
            loss = TokenCrossEntropy(recipe.z_loss, recipe.label_smoothing)
        if weighted_metrics == "auto":
            weighted_metrics = [TokenAccuracy()]
        if kwargs.get("jit_compile", "auto") == "auto":
            kwargs["jit_compile"] = devices.default_jit()
        if sampler == "greedy":
            sampler = GreedySampler()
        devices.check(optimizer, loss, kwargs, self.dropout)
        if self.num_prompts is not None and not isinstance(loss, keras.losses.Loss):
            raise invalid("loss", "must be a keras.losses.Loss for a bank of prompts", f"{loss!r}")
        super().compile(
            optimizer=optimizer,
            loss=loss,
            weighted_metrics=weighted_metrics,
            sampler=sampler,
            **kwargs,
        )

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss; a bank's is the mean over its prompts, its gradient that of their sum.

        So each prompt has the gradient of its own loss, and the number stays readable.
        """
        if self.num_prompts is None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        losses = self.loss.call(y, y_pred)
        losses, present = per_prompt(losses, sample_weight, x["prompt_index"], self.num_prompts)
        replicas = devices.replicas()  # whose parts a metric averages
        for number, own in enumerate(self._own_losses):
            own.update_state(losses[number] * replicas, sample_weight=present[number])
        total = ops.sum(losses)
        mean = ops.stop_gradient(total / ops.maximum(ops.sum(present), 1.0))
        return mean + (total - ops.stop_gradient(total))

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            config["sampler"] = keras.saving.serialize_keras_object(self.sampler)
        return config

    def train_step(self, *args, **kwargs):
        way = "plain"
        if devices.on_cpu() and self.jit_compile:
            way = "whole"
        # Compiling takes longer than it saves a small backbone, and GPUs compile whole steps.
        elif devices.on_cpu() and self.backbone.count_params() >= devices.LARGE:
            way = "compiled"
        with passes.by_hand(way):
            return super().train_step(*args, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def preprocess_samples(self, x, y=None, sample_weight=None):
        """Tokenise texts; pass token ids and the numbers of prompts as they are."""
        if isinstance(x, dict) and "encoder_token_ids" in x:
            return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        if keras.config.backend() == "tensorflow" and self.preprocessor is not None:
            import tensorflow as tf

            if tf.inside_function():
                # Setting a seed or initialising a TPU clears the resources of live tokenizers.
                with tf.init_scope():
                    tokenizer = self.preprocessor.tokenizer
                    tokenizer.set_proto(tokenizer.proto)
        if self.num_prompts is None:
            return super().preprocess_samples(x, y, sample_weight)
        texts = {key: value for key, value in x.items() if key != "prompt_index"}
        found, y, sample_weight = super().preprocess_samples(texts, y, sample_weight)
        return {**found, "prompt_index": x["prompt_index"]}, y, sample_weight

    # === Prompts ===

    @property
    def prompt(self):
        """The prompt as a float32 NumPy array `[P, H]`, a bank's as `[K, P, H]`."""
        found = ops.convert_to_numpy(self.soft_prompt.stacked("float32"))
        return found[0] if self.num_prompts is None else found

    def prompt_numbers(self, prompt, rows):
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
    def fingerprint(self):
        """Fingerprint of the frozen backbone, see `backbones.fingerprint`."""
        if self._fingerprint is None:
            self._fingerprint = backbones.fingerprint(self.backbone)
        return self._fingerprint

    def save_prompt(self, path, form=None, prompt=None, **provenance):
        """Write the prompt, see `prompts.write`.

        Args:
            path: `*.npz` (with provenance), `*.npy`, the reference's file name, or whatever
                `form` takes; may be an address.
            form: `"npz"`, `"npy"`, `"reference"` or `"peft"`. Default: what the path's name says.
            prompt: which one of a bank, by name or number.
            **provenance: what to record beside the backbone's fingerprint, what the prompt sees and
                the versions.
        """
        record = {
            "backbone": self.fingerprint,
            "prompt_attention": self.prompt_attention,
            "versions": versions(),
            **provenance,
        }
        values = ops.convert_to_numpy(self._variable(prompt))
        return prompts.write(path, values, record, form)

    def load_prompt(self, path, step=None, prompt=None):
        """Replace the prompt by a file's, see `prompts.read`.

        Args:
            path: a prompt's file, folder or address.
            step: which step of a run.
            prompt: which one of a bank to replace, by name or number.

        Raises:
            ValueError: a prompt of another shape, backbone or `prompt_attention`.
        """
        variable = self._variable(prompt)
        found = prompts.read(path, step)
        backbones.check_fingerprint(found, self.fingerprint)
        recorded = found.provenance.get("prompt_attention", self.prompt_attention)
        if recorded != self.prompt_attention:
            rule = f"must hold a prompt trained with prompt_attention={self.prompt_attention!r}"
            raise invalid("path", rule, f"{recorded!r} in {found.path}")
        if found.values.shape != variable.shape:
            rule = f"must hold a prompt of shape {tuple(variable.shape)}"
            raise invalid("path", rule, f"shape={found.values.shape} in {found.path}")
        variable.assign(found.values)

    def _variable(self, prompt):
        return self.soft_prompt.prompts[naming.number(self.prompt_names, prompt) or 0]

    # === Saving ===

    def export(self, filepath, format="tf_saved_model", max_length=None, **kwargs):
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

    def get_config(self):
        config = super().get_config()
        config.update(
            prompt_length=self.prompt_length,
            dropout=self.dropout,
            prompt_attention=self.prompt_attention,
            recipe=dataclasses.asdict(self.recipe),
            num_prompts=self.num_prompts,
            prompt_names=self.prompt_names,
            remat=self.remat,
        )
        return config

    @classmethod
    def from_config(cls, config):
        return super().from_config({**config, "recipe": Recipe(**config["recipe"])})
