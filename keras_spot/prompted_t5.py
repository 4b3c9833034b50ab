"""A frozen T5 with a soft prompt in front of its encoder."""

import os
import warnings

import keras
import keras_hub
import numpy as np
from keras import ops

from keras_spot import backbones, initializers, prompt_files, serving, transfer
from keras_spot.errors import invalid
from keras_spot.losses import TokenCrossEntropy
from keras_spot.optimizers import Adafactor
from keras_spot.recipe import Recipe
from keras_spot.soft_prompt import SoftPrompt
from keras_spot.versions import versions

INPUTS = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids", "decoder_padding_mask")


@keras.saving.register_keras_serializable("keras_spot")
class PromptedT5(keras_hub.models.Seq2SeqLM):
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
        dropout: rate inside the backbone while training. Default 0, whatever the preset says.
        recipe: what `compile()` uses by default: learning rate, weight decay, z-loss, ...
        **kwargs: `name`, `compile`.

    Call arguments (a dictionary):
        encoder_token_ids: `[B, T]` int32, padded with 0.
        encoder_padding_mask: `[B, T]` int32, 1 on tokens.
        decoder_token_ids: `[B, D]` int32, targets shifted right behind a 0.
        decoder_padding_mask: `[B, D]` int32.

    Returns:
        Logits `[B, D, V]`.

    Raises:
        ValueError: dropout asked of a backbone built without any.
    """

    preprocessor_cls = keras_hub.models.T5Seq2SeqLMPreprocessor

    def __init__(
        self,
        backbone,
        preprocessor=None,
        prompt_length=None,
        prompt_initializer=None,
        dropout=0.0,
        recipe=None,
        **kwargs,
    ):
        # === Layers ===
        _freeze(backbone, dropout)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.soft_prompt = SoftPrompt(prompt_length, prompt_initializer, name="soft_prompt")

        # === Functional Model ===
        inputs = {key: backbone.input[key] for key in INPUTS}
        states, mask = self.encode(inputs["encoder_token_ids"], inputs["encoder_padding_mask"])
        logits = self.decode(
            inputs["decoder_token_ids"], inputs["decoder_padding_mask"], states, mask
        )

        # === Config ===
        self.prompt_length = self.soft_prompt.length
        self.dropout = dropout
        self.recipe = recipe or Recipe()
        self._fingerprint = None
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

    # === Forward pass ===

    def encode(self, token_ids, padding_mask):
        """Embed, prepend the prompt and run the encoder.

        Args:
            token_ids: `[B, T]` integers.
            padding_mask: `[B, T]`, 1 on tokens.

        Returns:
            Encoder states `[B, P + T, H]` and their padding mask `[B, P + T]`.
        """
        backbone = self.backbone
        x = backbone.encoder_embedding_dropout(backbone.token_embedding(token_ids))
        x = self.soft_prompt(x)
        mask = self.soft_prompt.extend_mask(padding_mask)
        bias = None
        for layer in backbone.encoder_transformer_layers:
            x, bias = layer(x, attention_mask=mask[:, None, :], position_bias=bias)
        return backbone.encoder_dropout(backbone.encoder_layer_norm(x)), mask

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
        bias = None
        for layer in backbone.decoder_transformer_layers:
            x, bias = layer(
                x,
                attention_mask=padding_mask[:, None, :],
                position_bias=bias,
                encoder_hidden_states=states,
                encoder_attention_mask=mask[:, None, :],
                use_causal_mask=True,
            )
        return self._logits(x)

    def _logits(self, x):
        backbone = self.backbone
        x = backbone.decoder_dropout(backbone.decoder_layer_norm(x))
        if backbone.tie_embedding_weights:
            x = x * ops.cast(backbone.hidden_dim**-0.5, x.dtype)
        return backbone.token_embedding(x, reverse=True)

    # === Generation ===

    def generate(
        self,
        inputs,
        max_length=None,
        stop_token_ids="auto",
        strip_prompt=False,
        batch_size=32,
    ):
        """Answer texts (or token ids) with the compiled sampler, greedy by default.

        Texts are sorted by length and padded only to the longest of their batch; the order
        of the answers is that of the inputs.

        Args:
            inputs: a text, a list of texts, or whatever `Seq2SeqLM.generate` takes
                (dictionaries of texts or token ids, a `tf.data.Dataset`).
            max_length: target tokens at most. Default: the preprocessor's.
            stop_token_ids: as in `Seq2SeqLM.generate`.
            strip_prompt: as in `Seq2SeqLM.generate`.
            batch_size: texts decoded at once. Default 32.

        Returns:
            A text for a text, a list of texts for a list.
        """
        single = isinstance(inputs, str)
        texts = [inputs] if single else inputs
        if self.preprocessor is None or not _all_text(texts):
            return super().generate(inputs, max_length, stop_token_ids, strip_prompt)
        if batch_size < 1:
            raise invalid("batch_size", "must be a positive integer", f"{batch_size=}")
        tokenizer = self.preprocessor.tokenizer
        if stop_token_ids == "auto":
            stop_token_ids = (tokenizer.end_token_id,)
        length = max_length or self.preprocessor.decoder_sequence_length
        rows = self._token_rows(list(texts))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        answers = [""] * len(rows)
        step = self.make_generate_function()
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            batch = _generation_batch([rows[i] for i in chunk], length, batch_size, self.jit_compile)
            out = step(batch, stop_token_ids=stop_token_ids)
            ids = ops.convert_to_numpy(out["decoder_token_ids"])[:, 1:]
            mask = ops.convert_to_numpy(out["decoder_padding_mask"])[:, 1:]
            for i, answer in zip(chunk, self.detokenize(ids, mask)):
                answers[i] = answer
        return answers[0] if single else answers

    def generate_step(self, inputs, stop_token_ids=None):
        """Decode one batch of token ids with cached keys and values.

        Args:
            inputs: the model's call arguments; `decoder_padding_mask` marks given tokens,
                at least the start token.
            stop_token_ids: ids that end a row, `None` to fill all D positions.

        Returns:
            `decoder_token_ids` `[B, D]` and the boolean `decoder_padding_mask` `[B, D]`.
        """
        states, mask = self.encode(inputs["encoder_token_ids"], inputs["encoder_padding_mask"])
        ids = inputs["decoder_token_ids"]
        given = ops.cast(inputs["decoder_padding_mask"], "bool")
        cache = self._empty_cache(states, mask, ops.shape(ids)[1])

        def next(tokens, cache, index):
            token = ops.slice(tokens, [0, index - 1], [ops.shape(tokens)[0], 1])
            logits, cache = self._decode_one(token, cache, index - 1)
            return logits, logits, cache

        # Starting at 1 needs no warm-up pass: the sampler keeps every given token.
        ids = self.sampler(
            next=next,
            prompt=ids,
            cache=cache,
            index=1,
            mask=given,
            stop_token_ids=stop_token_ids,
            model=self,
        )
        if stop_token_ids is None:
            return {"decoder_token_ids": ids, "decoder_padding_mask": ops.ones_like(ids, "bool")}
        ended = ops.zeros_like(given)
        for stop in stop_token_ids:
            ended = ops.logical_or(ended, ops.logical_and(ids == stop, ops.logical_not(given)))
        ended = ops.cast(ended, "int32")
        after = ops.cumsum(ended, axis=-1) - ended
        return {"decoder_token_ids": ids, "decoder_padding_mask": after == 0}

    def _empty_cache(self, states, mask, length):
        """Return (self-attention caches, cross-attention caches, encoder mask)."""
        batch, positions = ops.shape(states)[0], ops.shape(states)[1]
        own, cross = [], []
        for layer in self.backbone.decoder_transformer_layers:
            attention = layer.cross_attention
            heads = (attention.num_heads, attention.key_value_dim)
            own.append(ops.zeros((batch, 2, length, *heads), dtype=self.compute_dtype))
            pair = (attention.key_projector(states), attention.value_projector(states))
            pair = [ops.reshape(x, (batch, positions, *heads)) for x in pair]
            cross.append(ops.stack(pair, axis=1))
        return tuple(own), tuple(cross), mask

    def _decode_one(self, token, cache, index):
        """Return the logits `[B, V]` after the token `[B, 1]` at `index`, and the new cache."""
        backbone = self.backbone
        own, cross, mask = cache
        x = backbone.decoder_embedding_dropout(backbone.token_embedding(token))
        bias, updated = None, []
        for layer, mine, theirs in zip(backbone.decoder_transformer_layers, own, cross):
            x, bias, mine, _ = layer(
                x,
                position_bias=bias,
                encoder_attention_mask=mask[:, None, :],
                use_causal_mask=True,
                self_attention_cache=mine,
                self_attention_cache_update_index=index,
                cross_attention_cache=theirs,
            )
            updated.append(mine)
        return self._logits(x)[:, 0, :], (tuple(updated), cross, mask)

    def make_generate_function(self):
        """Return the compiled generation function, one trace for all shapes without XLA."""
        plain = keras.config.backend() == "tensorflow" and not (
            self.run_eagerly or self.jit_compile
        )
        if self.generate_function is None and plain:
            import tensorflow as tf

            spec = {key: tf.TensorSpec([None, None], "int32", name=key) for key in INPUTS}
            traces = {}

            def generate_function(inputs, stop_token_ids=None):
                stops = None if stop_token_ids is None else tuple(stop_token_ids)
                if stops not in traces:
                    traces[stops] = tf.function(
                        lambda batch: self.generate_step(batch, stops), input_signature=[spec]
                    )
                return traces[stops]({key: ops.cast(inputs[key], "int32") for key in INPUTS})

            self.generate_function = generate_function
        return super().make_generate_function()

    def _token_rows(self, texts):
        """Return the token ids of texts, truncated, each with its end token."""
        tokenizer = self.preprocessor.tokenizer
        limit = self.preprocessor.encoder_sequence_length - 1
        rows = tokenizer(texts) if texts else []
        rows = rows.to_list() if hasattr(rows, "to_list") else [list(map(int, r)) for r in rows]
        return [row[:limit] + [tokenizer.end_token_id] for row in rows]

    def detokenize(self, ids, mask):
        """Return texts of `ids` `[B, D]` where `mask` `[B, D]`, without special or unknown ids."""
        tokenizer = self.preprocessor.tokenizer
        known = tokenizer.vocabulary_size()
        special = (tokenizer.pad_token_id, tokenizer.end_token_id)
        keep = mask.astype(bool) & ~np.isin(ids, special) & (ids < known)
        return [
            tokenizer.detokenize([row[k].tolist()])[0] if k.any() else ""
            for row, k in zip(ids, keep)
        ]

    # === Training ===

    def compile(
        self, optimizer="auto", loss="auto", *, weighted_metrics="auto", sampler="greedy", **kwargs
    ):
        """Configure training; `"auto"` is the recipe's choice.

        Args:
            optimizer: default `keras_spot.optimizers.Adafactor` with the recipe's rates.
            loss: default `keras_spot.losses.TokenCrossEntropy`.
            weighted_metrics: default the token accuracy.
            sampler: a KerasHub sampler or its name. Default `"greedy"`.
            **kwargs: as for `keras.Model.compile`. XLA is off by default on CPU and under
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
            weighted_metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        if kwargs.get("jit_compile", "auto") == "auto":
            kwargs["jit_compile"] = "auto" if _one_gpu() else False
        _check_distributable(optimizer, loss, kwargs, self.dropout)
        super().compile(
            optimizer=optimizer,
            loss=loss,
            weighted_metrics=weighted_metrics,
            sampler=sampler,
            **kwargs,
        )

    def preprocess_samples(self, x, y=None, sample_weight=None):
        """Tokenise texts; pass token ids as they are."""
        if isinstance(x, dict) and "encoder_token_ids" in x:
            return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        return super().preprocess_samples(x, y, sample_weight)

    # === Prompts ===

    @property
    def prompt(self):
        """The prompt as a float32 NumPy array `[P, H]`."""
        return ops.convert_to_numpy(self.soft_prompt.prompt)

    @property
    def fingerprint(self):
        """Fingerprint of the frozen backbone, see `backbones.fingerprint`."""
        if self._fingerprint is None:
            self._fingerprint = backbones.fingerprint(self.backbone)
        return self._fingerprint

    def save_prompt(self, path, **provenance):
        """Write the prompt in the form that `path` asks for, see `prompt_files.write`.

        Args:
            path: `*.npz` (with provenance), `*.npy`, or the reference's file name.
            **provenance: what to record beside the backbone's fingerprint and the versions.
        """
        record = {"backbone": self.fingerprint, "versions": versions(), **provenance}
        return prompt_files.write(path, self.prompt, record)

    def load_prompt(self, path, step=None):
        """Replace the prompt by a file's, see `prompt_files.read`.

        Raises:
            ValueError: a prompt of another shape or of another backbone.
        """
        prompt = prompt_files.read(path, step)
        _check_fingerprint(prompt, self)
        if prompt.values.shape != self.prompt.shape:
            rule = f"must hold a prompt of shape {self.prompt.shape}"
            raise invalid("path", rule, f"shape={prompt.values.shape} in {prompt.path}")
        self.soft_prompt.prompt.assign(prompt.values)

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
            return serving.export_text(self, filepath, max_length)
        return super().export(filepath, format=format, **kwargs)

    def get_config(self):
        config = super().get_config()
        config.update(prompt_length=self.prompt_length, dropout=self.dropout)
        return config


def build(
    backbone="tiny",
    prompt_init=None,
    *,
    prompt_length=None,
    tokenizer=None,
    recipe=None,
    labels=None,
    dropout=None,
    input_length=512,
    target_length=32,
    dtype=None,
    seed=0,
):
    """Return a frozen T5 with a soft prompt in front, compiled with the paper's recipe.

    Under a tf.distribute strategy call it inside `strategy.scope()`.

    Args:
        backbone: a `T5Backbone`, a KerasHub preset name or folder, or `"tiny"` (default), the
            embedded one.
        prompt_init: the initial prompt:
            a path (file or run directory) or array `[P, H]`: a trained prompt, SPoT's transfer;
            a list or `{path: weight}` dictionary of those: their (weighted) mean;
            an initialiser; `"sampled_vocab"`, `"class_labels"` or `"uniform"` by name;
            any other text with a space in it: that text's embeddings.
            Default: the recipe's, `"sampled_vocab"`.
        prompt_length: P. Default: the initial prompt's, else the recipe's (100).
        tokenizer: `T5Tokenizer`. Default: the preset's.
        recipe: `Recipe`. Default: the preset's own, else the paper's.
        labels: label texts for `prompt_init="class_labels"`.
        dropout: rate inside the backbone while training. Default: the recipe's, 0.
        input_length: input tokens at most, longer texts are cut. Default 512.
        target_length: target tokens that `generate` may produce. Default 32.
        dtype: dtype policy of a backbone loaded by name, e.g. `"mixed_bfloat16"`.
        seed: seed of sampled initial prompts. Default 0.

    Returns:
        A compiled `PromptedT5`; its one trainable variable is the prompt, P x H numbers.

    Raises:
        ValueError: an argument that breaks its rule, a prompt of another width or backbone.
        FileNotFoundError: a `prompt_init` path where nothing is.
    """
    recipe = recipe or backbones.recipe_for(backbone)
    backbone, tokenizer = backbones.load(backbone, tokenizer, dtype)
    start, sources = _initial_prompt(
        recipe.prompt_init if prompt_init is None else prompt_init,
        backbone,
        tokenizer,
        labels,
        seed,
    )
    if prompt_length is None and getattr(start, "length", None) is None:
        prompt_length = recipe.prompt_length
    preprocessor = tokenizer and keras_hub.models.T5Seq2SeqLMPreprocessor(
        tokenizer, encoder_sequence_length=input_length, decoder_sequence_length=target_length
    )
    model = PromptedT5(
        backbone,
        preprocessor,
        prompt_length=prompt_length,
        prompt_initializer=start,
        dropout=recipe.dropout if dropout is None else dropout,
        recipe=recipe,
    )
    for source in sources:
        _check_fingerprint(source, model)
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    expected = model.prompt_length * backbone.hidden_dim
    if trainable != expected:
        rule = f"must have {expected} trainable numbers, the prompt's, and no others"
        raise invalid("backbone", rule, f"{trainable}")
    return model


def _initial_prompt(prompt_init, backbone, tokenizer, labels, seed):
    """Return a Keras initialiser and the prompts read for it."""
    if isinstance(prompt_init, (str, os.PathLike)) and os.path.exists(prompt_init):
        prompt = prompt_files.read(prompt_init)
        return _from_values(prompt.values, backbone, prompt.path), [prompt]
    if isinstance(prompt_init, os.PathLike):
        raise FileNotFoundError(str(invalid("prompt_init", "must exist", str(prompt_init))))
    if isinstance(prompt_init, (list, dict)):
        prompts = [p if isinstance(p, np.ndarray) else prompt_files.read(p) for p in prompt_init]
        values = [p if isinstance(p, np.ndarray) else p.values for p in prompts]
        weights = list(prompt_init.values()) if isinstance(prompt_init, dict) else None
        mean = transfer.average(values, weights)
        files = [p for p in prompts if isinstance(p, prompt_files.Prompt)]
        return _from_values(mean, backbone, "the mean"), files
    if isinstance(prompt_init, prompt_files.Prompt):
        return _from_values(prompt_init.values, backbone, prompt_init.path), [prompt_init]
    if isinstance(prompt_init, np.ndarray):
        values = prompt_files.as_prompt(prompt_init, "prompt_init")
        return _from_values(values, backbone, "an array"), []
    if isinstance(prompt_init, str):
        return _named_prompt(prompt_init, backbone, tokenizer, labels, seed), []
    return keras.initializers.get(prompt_init), []


def _from_values(values, backbone, where):
    if values.shape[1] != backbone.hidden_dim:
        rule = f"must have the backbone's hidden width {backbone.hidden_dim}"
        raise invalid("prompt_init", rule, f"shape={values.shape} in {where}")
    return initializers.from_numpy(values)


def _named_prompt(name, backbone, tokenizer, labels, seed):
    table = backbone.token_embedding.embeddings
    if name == "sampled_vocab":
        return initializers.sampled_vocab(table, seed=seed)
    if name == "uniform":
        return initializers.uniform(seed=seed)
    if name != "class_labels" and " " not in name.strip():
        rule = (
            "must be an existing path, a text with a space in it, "
            "'sampled_vocab', 'class_labels' or 'uniform'"
        )
        raise FileNotFoundError(str(invalid("prompt_init", rule, f"prompt_init={name!r}")))
    if tokenizer is None:
        raise invalid("tokenizer", f"must be given for prompt_init={name!r}", "tokenizer=None")
    if name == "class_labels":
        if not labels:
            raise invalid("labels", "must be given for prompt_init='class_labels'", f"{labels=}")
        return initializers.class_labels(labels, tokenizer, table, seed=seed)
    return initializers.from_text(name, tokenizer, table)


def _check_fingerprint(prompt, model):
    recorded = prompt.provenance.get("backbone")
    if recorded and recorded != model.fingerprint:
        rule = (
            f"must come from this backbone ({model.fingerprint}); "
            "to use its numbers all the same, pass the array"
        )
        raise invalid("prompt_init", rule, f"backbone={recorded} in {prompt.path}")


def _freeze(backbone, dropout):
    if not 0 <= dropout < 1:
        raise invalid("dropout", "must be in [0, 1)", f"{dropout=}")
    backbone.trainable = False
    for layer in backbone._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Dropout):
            if dropout and layer.seed_generator is None:
                rule = "must be 0 for a backbone built with dropout=0"
                raise invalid("dropout", rule, f"{dropout=}")
            layer.rate = dropout


def _all_text(texts):
    return isinstance(texts, (list, tuple)) and all(isinstance(text, str) for text in texts)


def _generation_batch(rows, length, batch_size, static):
    """Return padded int32 arrays for `generate_step`; static shapes come from few sizes."""
    width = max(map(len, rows))
    if static:
        width = next(w for w in (2**k for k in range(4, 31)) if w >= width)
    count = batch_size if static else len(rows)
    ids = np.zeros((count, width), "int32")
    mask = np.zeros((count, width), "int32")
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    start = np.zeros((count, length + 1), "int32")
    given = start.copy()
    given[:, 0] = 1
    return dict(zip(INPUTS, (ids, mask, start, given)))


def _replicas():
    if keras.config.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def _one_gpu():
    if keras.config.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return not tf.distribute.has_strategy() and bool(tf.config.list_logical_devices("GPU"))


def _check_distributable(optimizer, loss, options, dropout):
    """Refuse what is silently wrong, or crashes late, with several replicas."""
    replicas = _replicas()
    if replicas == 1:
        return
    reason = f"with {replicas} replicas"
    for name in ("clipnorm", "global_clipnorm", "gradient_accumulation_steps"):
        if getattr(optimizer, name, None):
            raise invalid("optimizer", f"must not use {name} {reason}", type(optimizer).__name__)
    if getattr(optimizer, "use_ema", False):
        raise invalid("optimizer", f"must not use use_ema {reason}", type(optimizer).__name__)
    if getattr(loss, "reduction", None) == "mean_with_sample_weight":
        rule = f"must not average per replica {reason}; use TokenCrossEntropy"
        raise invalid("loss", rule, "reduction='mean_with_sample_weight'")
    if options.get("jit_compile"):
        raise invalid("jit_compile", f"must be False {reason}", options["jit_compile"])
    if options.get("steps_per_execution", 1) > 1:
        rule = f"must be 1 {reason}"
        raise invalid("steps_per_execution", rule, options["steps_per_execution"])
    if dropout:
        warnings.warn(f"`dropout` draws the same mask on all {replicas} replicas.", stacklevel=3)
