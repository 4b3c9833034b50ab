"""The soft prompt as a Keras layer."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_spot.base.errors import invalid
from keras_spot.base.types import Initializer, Record, Tensor
from keras_spot.prompts.initializers import PromptInitializer, reseeded, uniform

__all__ = ["SoftPrompt"]


@keras.saving.register_keras_serializable("keras_spot")
class SoftPrompt(keras.layers.Layer):
    """Trainable vectors in front of a sequence of embeddings (Lester et al. 2021, section 2).

    The variable is float32 under every dtype policy: updates of a trained prompt, whose
    rows are hundreds of times larger than one step, would vanish in bfloat16. It is cast
    to the inputs' dtype when it is prepended.

    With `num_prompts` it is a bank of K prompts, each a variable of its own with its own optimiser
    state, and every row has the prompt of its index. Rows of different prompts never mix.

    Args:
        length: prompt length P. Default: the length of the initialiser's own rows
            where it has them (`from_numpy`), else 100.
        initializer: a `keras_spot.initializers` object or any Keras initialiser.
            Default: U(-0.5, 0.5). Of a bank either one, from which each prompt is drawn with its
            own seed (the k-th with the initialiser's seed plus k), or a list of K.
        num_prompts: K of a bank. Default: None, one prompt.
        **kwargs: as for every Keras layer.

    Call arguments:
        inputs: embeddings `[B, T, H]`.
        prompt_index: of a bank, `[B]` int32: the number of each row's prompt, from 0.

    Returns:
        `[B, P + T, H]`, dtype of `inputs`. An implicit Keras mask `[B, T]` is extended too.

    Raises:
        InvalidArgument: a number that is no positive integer, a length that is not the
            initialiser's, initialisers of several lengths or of another number than K, inputs that
            are not of rank 3, a `prompt_index` missing or without a bank, or an initial value of
            another width.

    >>> layer = SoftPrompt(length=4)
    >>> layer(keras.ops.zeros((2, 3, 8))).shape
    TensorShape([2, 7, 8])
    >>> bank = SoftPrompt(length=4, num_prompts=3)
    >>> bank(keras.ops.zeros((2, 3, 8)), prompt_index=keras.ops.array([2, 0])).shape
    TensorShape([2, 7, 8])
    """

    def __init__(
        self,
        length: int | None = None,
        initializer: Initializer | str | Sequence[Initializer] | None = None,
        num_prompts: int | None = None,
        *,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if num_prompts is not None:
            _check_positive("num_prompts", num_prompts)
        if isinstance(initializer, (list, tuple)):
            if num_prompts != len(initializer):
                rule = "must be one, or as many as `num_prompts`"
                raise invalid("initializer", rule, f"{len(initializer)} with {num_prompts=}")
            own = [keras.initializers.get(one) for one in initializer]
        else:
            own = [keras.initializers.get(uniform() if initializer is None else initializer)]
        lengths = [one.length for one in own if isinstance(one, PromptInitializer)]
        prescribed = {number for number in lengths if number is not None}
        if length is None:
            length = min(prescribed, default=100)
        _check_positive("length", length)
        if prescribed - {length}:
            (other, *_) = sorted(prescribed - {length})
            raise invalid("length", f"must be the initial prompt's length {other}", f"{length=}")
        self.length: int = length
        one_each = isinstance(initializer, (list, tuple))
        self.initializer: Initializer | list[Initializer] = own if one_each else own[0]
        self.num_prompts = num_prompts
        self.supports_masking = True

    def build(self, inputs_shape: Sequence[int | None], prompt_index_shape: object = None) -> None:
        if len(inputs_shape) != 3 or inputs_shape[-1] is None:
            raise invalid("inputs", "must have the shape [B, T, H]", f"shape={inputs_shape}")

        def add(name, initializer):
            return self.add_weight(
                name=name,
                shape=(self.length, inputs_shape[-1]),
                initializer=initializer,
                dtype="float32",
                trainable=True,
            )

        if self.num_prompts is None:
            self.prompt = add("prompt", self.initializer)
        else:
            own = self.initializer
            if not isinstance(own, list):
                own = [reseeded(own, number) for number in range(self.num_prompts)]
            self.bank = [add(f"prompt_{number}", one) for number, one in enumerate(own)]
        self.built = True

    @property
    def prompts(self) -> list[keras.Variable]:
        """The prompts' variables `[P, H]`: K of a bank, else one."""
        return [self.prompt] if self.num_prompts is None else list(self.bank)

    def stacked(self, dtype: str) -> Tensor:
        """Return all prompts as `[K, P, H]`, K = 1 without a bank."""
        return ops.stack([ops.cast(prompt, dtype) for prompt in self.prompts])

    def of_rows(
        self, values: Tensor, prompt_index: Tensor | None, rows: Tensor | int, axis: int = 0
    ) -> Tensor:
        """Return for each of B rows what there is once a prompt.

        Args:
            values: K along `axis`.
            prompt_index: of a bank, `[B]` integers; None without one.
            rows: B.
            axis: where K stands, and B in the result. Default 0.
        """
        if (prompt_index is None) != (self.num_prompts is None):
            rule = "must be given for a bank of prompts, and only for one"
            raise invalid("prompt_index", rule, f"{prompt_index=}")
        if prompt_index is None:
            shape = (*values.shape[:axis], rows, *values.shape[axis + 1 :])
            return ops.broadcast_to(values, shape)
        return ops.take(values, prompt_index, axis=axis)

    def call(self, inputs: Tensor, prompt_index: Tensor | None = None) -> Tensor:
        rows = self.of_rows(self.stacked(inputs.dtype), prompt_index, ops.shape(inputs)[0])
        return ops.concatenate([rows, inputs], axis=1)

    def extend_mask(self, mask: Tensor) -> Tensor:
        """Return a padding mask `[B, T]` as `[B, P + T]`: every prompt position is visible."""
        return ops.pad(mask, [[0, 0], [self.length, 0]], constant_values=1)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        if previous_mask is None:
            return None
        # ops.pad wants a number; a boolean mask travels as int32.
        return ops.cast(self.extend_mask(ops.cast(previous_mask, "int32")), "bool")

    def compute_output_shape(
        self, inputs_shape: Sequence[int | None], prompt_index_shape: object = None
    ) -> tuple[int | None, ...]:
        batch, tokens, width = inputs_shape
        return batch, None if tokens is None else self.length + tokens, width

    def get_config(self) -> Record:
        config = super().get_config()
        serialize, own = keras.initializers.serialize, self.initializer
        config.update(
            length=self.length,
            initializer=[serialize(o) for o in own] if isinstance(own, list) else serialize(own),
            num_prompts=self.num_prompts,
        )
        return config


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid(name, "must be a positive integer", f"{name}={value!r}")
