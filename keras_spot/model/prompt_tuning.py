"""How a soft prompt is trained, scored, saved and loaded."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import keras
import keras_hub
import numpy as np
from keras import ops

from keras_spot.base import devices, layouts
from keras_spot.base.choices import Kernels
from keras_spot.base.errors import invalid
from keras_spot.base.types import PathLike, Record, Tensor
from keras_spot.model import feeding, optimizers, placing, prompt_files, samplers, texts
from keras_spot.model.gradient_check import check_embedding
from keras_spot.model.losses import LabelAccuracy, TokenAccuracy, TokenCrossEntropy, bank_loss
from keras_spot.model.soft_prompt import SoftPrompt
from keras_spot.model.summary import show_prompts
from keras_spot.prompts import names as naming

__all__ = ["PromptTuning", "WhichPrompt"]

WhichPrompt: TypeAlias = str | int | Sequence[str | int] | None
"""Of a bank: a prompt's name or number, or one a row."""

_WIDEST = 108  # characters of a line of KerasHub's summaries


class PromptTuning(keras_hub.models.T5Seq2SeqLM):
    """A KerasHub `Seq2SeqLM` that trains a soft prompt and keeps it in files.

    `PromptedT5` is made of a T5 and its prompt, and answers, too. It is a `T5Seq2SeqLM` to KerasHub
    so that `Seq2SeqLM.from_preset` knows its presets for what they are.

    Attributes:
        distribution: the `keras.distribution` in whose scope it was made, None without one.
    """

    # With one KerasHub would take this class for the T5 of every preset.
    backbone_cls = None
    distribution: Any = None

    test_function: Callable[..., Any] | None
    predict_function: Callable[..., Any] | None

    # === Training ===

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "auto",
        loss: keras.losses.Loss | str = "auto",
        *,
        weighted_metrics: Sequence[keras.metrics.Metric | str] | str | None = "auto",
        sampler: keras_hub.samplers.Sampler | str = "greedy",
        kernels: Kernels | None = None,
        **kwargs: Any,
    ) -> None:
        """Configure training; `"auto"` is the recipe's choice.

        Args:
            optimizer: default `keras_spot.optimizers.Adafactor` with the recipe's rates.
            loss: default `keras_spot.losses.TokenCrossEntropy`.
            weighted_metrics: default `keras_spot.losses.TokenAccuracy` and `LabelAccuracy`.
            sampler: a KerasHub sampler or its name. Default `"greedy"`.
            kernels: as for `build`. Default: those that the model has.
            **kwargs: as for `keras.Model.compile`. XLA is off by default on CPU, where
                `jit_compile=True` pays for many float32 steps of a large backbone, and under
                tf.distribute (TPUStrategy compiles by itself, and nothing beside it may).

        Raises:
            InvalidArgument: something that cannot be right under the current strategy, or
                `kernels="fast"` where that cannot be right.
        """
        if kernels is not None:
            self.forward_pass.choose(kernels)
        if optimizer == "auto":
            multipliers = self.rate_multipliers()
            optimizer = optimizers.from_recipe(self.recipe, rate_multipliers=multipliers)
        elif self.rate_multipliers() is not None:
            optimizers.warn_of_lost_multipliers(optimizer)
        if loss == "auto":
            loss = TokenCrossEntropy(self.recipe.z_loss, self.recipe.label_smoothing)
        if isinstance(loss, TokenCrossEntropy):
            loss = loss.computed_with(self.forward_pass.log_partition)
        if weighted_metrics == "auto":
            weighted_metrics = [TokenAccuracy(), LabelAccuracy()]
        if kwargs.get("jit_compile", "auto") == "auto":
            kwargs["jit_compile"] = devices.default_jit()
        devices.check(optimizer, loss, kwargs, self.dropout)
        if self.num_prompts is not None and not isinstance(loss, keras.losses.Loss):
            raise invalid("loss", "must be a keras.losses.Loss for a bank of prompts", f"{loss!r}")
        made = keras.tree.flatten([weighted_metrics, kwargs.get("metrics")])
        layouts.settle(placing.variables_of(made), self.distribution)
        with layouts.scope(self.distribution):
            super().compile(
                optimizer=optimizer,
                loss=loss,
                weighted_metrics=weighted_metrics,
                sampler=samplers.get(sampler),
                **kwargs,
            )
        self.forward_pass.compile_whole_steps(bool(self.jit_compile))
        self.generator.forget()
        self.ranker.forget()

    def rate_multipliers(self) -> list[float] | None:
        """Return the factor on the rate of each trainable variable, None where all are 1."""
        own = {id(v): multiplier for v, _, multiplier in self.soft_prompt.multipliers()}
        factors = [own.get(id(variable), 1.0) for variable in self.trainable_variables]
        return None if set(factors) <= {1.0} else factors

    def make_test_function(self, force: bool = False) -> Callable[..., Any] | None:
        before = self.test_function
        super().make_test_function(force)
        if self.test_function is not before:
            self.test_function = _folding(self.soft_prompt, self.test_function)
        return self.test_function

    def make_predict_function(self, force: bool = False) -> Callable[..., Any] | None:
        before = self.predict_function
        super().make_predict_function(force)
        if self.predict_function is not before:
            self.predict_function = _folding(self.soft_prompt, self.predict_function)
        return self.predict_function

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Return the loss; a bank's is the mean of its prompts', see `losses.bank_loss`.

        In the reported mean a batch counts by its rows that have a weight: the last one may be
        filled up with others. In evaluation without a bank it counts by the weight of its targets.
        """
        if self.num_prompts is not None:
            losses = self.loss.call(y, y_pred)
            loss = bank_loss(losses, sample_weight, x["prompt_index"], self._prompt_losses)
            loss += sum(map(self._aggregate_additional_loss, self.losses))  # of `distill`
        else:
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if sample_weight is not None and isinstance(self.loss, TokenCrossEntropy):
            by_rows = training or self.num_prompts is not None
            _count(self, loss, sample_weight, by_rows)
        return loss

    def get_compile_config(self) -> Record:
        config = super().get_compile_config()
        if config:
            config["sampler"] = keras.saving.serialize_keras_object(self.sampler)
            config["trained"] = self.optimizer.built
        return config

    def compile_from_config(self, config: Record) -> None:
        trained = config.pop("trained")
        self.compile(**keras.saving.deserialize_keras_object(config))
        if trained:  # else there is no state of the optimiser to load
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
        class_weight: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train the prompt on texts or token ids, see `feeding`; `**kwargs` as Keras' `fit`.

        Where it raises, callbacks that have an `on_fit_error` are told by a call of it.
        """
        check_embedding(self.backbone)  # Keras would wrap what `call` raises
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = feeding.split_off(
                x, y, sample_weight, validation_split
            )
        steps = kwargs.get("steps_per_epoch")
        steps = steps and steps * kwargs.get("epochs", 1)
        x = feeding.dataset_of(self, x, y, sample_weight, batch_size, shuffle, class_weight, steps)
        x = placing.dealt(self, x)
        if validation_data is not None:
            sizes = batch_size, kwargs.pop("validation_batch_size", None)
            steps = kwargs.get("validation_steps")
            validation_data = feeding.validation_of(self, validation_data, *sizes, steps)
            validation_data = placing.dealt(self, validation_data)
        callbacks = _each(kwargs.get("callbacks"))
        if callbacks and isinstance(kwargs["callbacks"], (list, tuple)):
            kwargs["callbacks"] = [placing.Synced(), *kwargs["callbacks"]]
        try:
            with placing.in_place(self):
                return super().fit(x, validation_data=validation_data, shuffle=False, **kwargs)
        except BaseException:
            for callback in callbacks:
                if hasattr(callback, "on_fit_error"):
                    callback.on_fit_error()
            raise

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> float | list[float] | dict[str, float]:
        """Return the loss and metrics of texts or token ids, see `feeding`."""
        if kwargs.get("_use_cached_eval_dataset"):
            return super().evaluate(x, y, batch_size, sample_weight, **kwargs)
        steps = kwargs.get("steps")
        x = feeding.dataset_of(self, x, y, sample_weight, batch_size, steps=steps)
        x = placing.dealt(self, x)
        with placing.in_place(self):
            return super().evaluate(x, **kwargs)

    def predict(self, x: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Return the logits `[N, D, V]` of targets that stand beside their texts, see `feeding`.

        Raises:
            InvalidArgument: texts alone, which `generate` answers.
        """
        x = feeding.targets_of(self, x, kwargs.get("steps"))
        with layouts.no_scope():  # batches of any number of rows, whole on every device
            return super().predict(x, batch_size, **kwargs)

    def quantize(self, mode: str, **kwargs: object) -> None:
        """Raise: Keras would quantize layers that were already called.

        Raises:
            InvalidArgument: always; nothing is changed.
        """
        rule = "must be given when the model is made: build(..., quantize=...)"
        raise invalid("mode", rule, f"quantize({mode!r}) of a PromptedT5")

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], object] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print KerasHub's summary, and the prompts, which its layers hide."""
        if line_length is None:
            line_length = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 0)).columns)
        super().summary(line_length, positions, print_fn, **kwargs)
        show_prompts(self, line_length, print_fn)

    def call_encoder(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise NotImplementedError: KerasHub's would leave the prompt out."""
        raise NotImplementedError("call_encoder has no prompt; see `forward_pass.encode`")

    def preprocess_samples(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Tokenise texts; pass token ids and the numbers of prompts as they are.

        Texts are `x` with their targets `y`, or KerasHub's mapping of both.
        """
        if isinstance(x, dict) and "encoder_token_ids" in x:
            return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        texts.revive_tokenizer(self.preprocessor)
        x = texts.as_mapping(x, y)
        own = {key: value for key, value in x.items() if key != "prompt_index"}
        ids, y, mask = texts.as_numbers(*super().preprocess_samples(own))
        if self.num_prompts is not None:
            ids["prompt_index"] = x["prompt_index"]
        return ids, y, texts.weighted(mask, sample_weight)

    # === Prompts ===

    @property
    def prompt(self) -> np.ndarray:
        """The prompt as a float32 NumPy array `[P, H]`, a bank's as `[K, P, H]`."""
        values = ops.convert_to_numpy(self.soft_prompt.stacked("float32"))
        return values[0] if self.num_prompts is None else values

    def prompt_numbers(self, prompt: WhichPrompt, rows: int) -> np.ndarray | None:
        """Return the `prompt_index` `[B]` of B rows, None without a bank; see `names.numbers`."""
        return naming.numbers(self.prompt_names, prompt, rows)

    def save_prompt(
        self,
        path: PathLike,
        form: str | None = None,
        prompt: str | int | None = None,
        overwrite: bool = False,
        **provenance: object,
    ) -> Path:
        """Write the prompt, see `prompts.write`.

        Args:
            path: `*.npz` (with provenance), `*.npy`, the reference's file name, or whatever
                `form` takes; may be an address.
            form: `"npz"`, `"npy"`, `"reference"` or `"peft"`. Default: what the path's name says.
            prompt: which one of a bank, by name or number.
            overwrite: replace any file, not only an earlier prompt.
            **provenance: what to record beside the backbone's fingerprint, what the prompt sees and
                the versions.
        """
        return prompt_files.save(self, path, form, prompt, overwrite, **provenance)

    def load_prompt(
        self, path: PathLike, step: int | str | None = None, prompt: str | int | None = None
    ) -> None:
        """Replace the prompt, of a bank the named one, by a file's, see `prompts.read`.

        Raises:
            InvalidArgument: a prompt of another shape, backbone or `prompt_attention`.
        """
        prompt_files.load(self, path, step, prompt)

    def prompt_variable(self, prompt: str | int | None = None) -> keras.Variable:
        """Return the variable `[P, H]` of the prompt, of a bank's by name or number.

        Raises:
            InvalidArgument: with a reparameterization, which trains other variables.
        """
        return self.soft_prompt.prompts[self.prompt_number(prompt)]

    def prompt_number(self, prompt: str | int | None = None) -> int:
        """Return the number of a bank's prompt by its name or number, 0 without a bank."""
        return naming.number(self.prompt_names, prompt) or 0


def _count(model: PromptTuning, loss: Tensor, sample_weight: Tensor, by_rows: bool) -> None:
    """Let a batch count in the mean of the losses by what has a weight, before Keras adds it."""
    sample_weight = ops.cast(sample_weight, "float32")  # masks may be truth values
    if by_rows:
        count = ops.sum(ops.cast(ops.any(sample_weight > 0, axis=-1), "float32"))
        weight = devices.global_sum(count) / devices.replicas()
    else:
        weight = devices.global_sum(ops.sum(sample_weight))
    mean = next(metric for metric in model.metrics if metric.name == "loss")
    rows = ops.cast(ops.shape(sample_weight)[0], "float32")  # what Keras counts
    mean.update_state(loss * devices.replicas(), sample_weight=weight - rows)


def _folding(soft_prompt: SoftPrompt, function: Any) -> Any:
    """Return a function of Keras' that computes with folded prompts, see `SoftPrompt`.

    JAX' gets the variables as they were before it is called, and folds by itself.
    """
    if not soft_prompt.reparameterized or keras.config.backend() != "tensorflow":
        return function

    def folded(*arguments: Any) -> Any:
        with soft_prompt.folded():
            return function(*arguments)

    return folded


def _each(callbacks: Any) -> list[Any]:
    """Return the callbacks of all forms that `fit` takes."""
    return keras.tree.flatten(getattr(callbacks, "callbacks", callbacks) or [])
