"""The soft prompt as a Keras layer."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spot.base.errors import invalid
from keras_spot.base.types import Initializer, Record, Tensor
from keras_spot.model import reparameterizations
from keras_spot.model.reparameterizations import Reparameterization, Shared
from keras_spot.model.reparameterizations.base import check_whole
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

    With a `reparameterization` something else is trained in a prompt's place, and the prompt is
    what its `fold` gives. There is then no variable that is the prompt, but `values` and all
    that is made of it (files, banks, exports) are the same plain numbers.

    Args:
        length: prompt length P. Default: the length of the initialiser's own rows
            where it has them (`from_numpy`), else 100.
        initializer: a `keras_spot.initializers` object or any Keras initialiser.
            Default: U(-0.5, 0.5). Of a bank either one, from which each prompt is drawn with its
            own seed (the k-th with the initialiser's seed plus k), or a list of K.
        num_prompts: K of a bank. Default: None, one prompt.
        reparameterization: a `Reparameterization`, or what `reparameterizations.get` takes, such as
            `"residual"`. Each prompt has one of its own: a copy, whose seed the k-th prompt of a
            bank has k larger. Default: None, the prompt itself is trained.
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
        reparameterization: reparameterizations.Spec | None = None,
        *,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if num_prompts is not None:
            check_whole("num_prompts", num_prompts)
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
        check_whole("length", length)
        if prescribed - {length}:
            (other, *_) = sorted(prescribed - {length})
            raise invalid("length", f"must be the initial prompt's length {other}", f"{length=}")
        self.length: int = length
        one_each = isinstance(initializer, (list, tuple))
        self.initializer: Initializer | list[Initializer] = own if one_each else own[0]
        self.num_prompts = num_prompts
        given = reparameterizations.get(_revived(reparameterization))
        self.reparameterized: list[Reparameterization] = (
            [] if given is None else given.for_prompts(num_prompts or 1)
        )
        self._is_folded = False
        self.supports_masking = True

    def build(self, inputs_shape: Sequence[int | None], prompt_index_shape: object = None) -> None:
        if len(inputs_shape) != 3 or inputs_shape[-1] is None:
            raise invalid("inputs", "must have the shape [B, T, H]", f"shape={inputs_shape}")

        shape = (self.length, inputs_shape[-1])
        own = self.initializer
        if not isinstance(own, list):
            own = [reseeded(own, number) for number in range(self.num_prompts or 1)]
        if self.reparameterized:
            for number, (layer, initializer) in enumerate(zip(self.reparameterized, own)):
                layer.build(shape)
                self._start(number, initializer, shape, number)
            self.kept = [
                self._add(f"folded_{k}", shape, "zeros", trainable=False) for k in range(self.count)
            ]
        elif self.num_prompts is None:
            self.prompt = self._add("prompt", shape, self.initializer)
        else:
            self.bank = [self._add(f"prompt_{k}", shape, one) for k, one in enumerate(own)]
        self.built = True

    def _add(
        self, name: str, shape: tuple[int, int], initializer: Any, trainable: bool = True
    ) -> keras.Variable:
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, dtype="float32", trainable=trainable
        )

    def _start(self, number: int, initializer: Any, shape: tuple[int, int], by: int) -> None:
        values = ops.convert_to_numpy(initializer(shape, dtype="float32"))
        trained = isinstance(initializer, PromptInitializer) and initializer.length is not None
        layer = self.reparameterized[number] if self.reparameterized else None
        parts = getattr(initializer, "parts", None)
        if isinstance(layer, Shared) and parts is not None:
            layer.start(values, by=by)
            layer.take(*parts)
        else:
            self.start(number, values, trained, by)

    # === The prompts' numbers ===

    @property
    def reparameterization(self) -> Reparameterization | None:
        """What is trained in the prompt's place, of a bank in the first one's; None if nothing."""
        return self.reparameterized[0] if self.reparameterized else None

    @property
    def prompts(self) -> list[keras.Variable]:
        """The prompts' variables `[P, H]`: K of a bank, else one.

        Raises:
            InvalidArgument: with a reparameterization, which has other variables.
        """
        if self.reparameterized:
            rule = "must be None for a prompt to be a variable; `values` and `start` work with both"
            name = self.reparameterized[0].name_in_records
            raise invalid("reparameterization", rule, name)
        return [self.prompt] if self.num_prompts is None else list(self.bank)

    @property
    def count(self) -> int:
        """The number of prompts, 1 without a bank."""
        return self.num_prompts or 1

    def values(self, number: int = 0) -> np.ndarray:
        """Return a prompt as it is now, float32 `[P, H]`, folded where it is reparameterized."""
        if self.reparameterized:
            return np.asarray(ops.convert_to_numpy(self.reparameterized[number].fold()))
        return np.array(ops.convert_to_numpy(self.prompts[number]))

    def start(
        self, number: int, values: np.ndarray, trained: bool = False, by: int | None = None
    ) -> None:
        """Put a prompt to given values, as those that it starts from.

        Args:
            number: which one of a bank, 0 without one.
            values: `[P, H]`.
            trained: whether they are a trained prompt's.
            by: what is added to the seed of a reparameterization. Default: the prompt's number.
        """
        if self.reparameterized:
            values = np.asarray(values, "float32")
            self.reparameterized[number].start(values, trained, number if by is None else by)
        else:
            self.prompts[number].assign(values)

    def start_from(self, number: int, initializer: Initializer, by: int) -> None:
        """Put a prompt to what an initialiser gives; `number` and `by` as for `start`."""
        width = self.kept[0].shape[1] if self.reparameterized else self.prompts[0].shape[1]
        self._start(number, initializer, (self.length, width), by)

    @property
    def shared(self) -> np.ndarray | None:
        """The part `[P, H]` that a bank's prompts share, see `reparameterizations.Shared`."""
        first = self.reparameterization
        if not isinstance(first, Shared):
            return None
        return np.asarray(ops.convert_to_numpy(first.common.prompt))

    @property
    def factors(self) -> list[keras.Variable]:
        """All variables of the reparameterizations, trained or not; none without one."""
        unique = {id(v): v for layer in self.reparameterized for v in layer.variables}
        return list(unique.values())

    def multipliers(self) -> list[tuple[keras.Variable, int, float]]:
        """Return each trained variable, the number of its prompt and the factor on its rate."""
        if not self.reparameterized:
            return [(prompt, number, 1.0) for number, prompt in enumerate(self.prompts)]
        return [
            (variable, number, multiplier)
            for number, layer in enumerate(self.reparameterized)
            for variable, multiplier in layer.multipliers()
        ]

    @contextlib.contextmanager
    def folded(self) -> Iterator[None]:
        """While this is open, prompts are computed with as plain numbers, folded when it is opened.

        What answers and scores does so within it: a compiled function would fold with other
        roundings than `values`, by which the prompt is written to its file.
        """
        if not self.reparameterized or self._is_folded:
            yield
            return
        for number, variable in enumerate(self.kept):
            variable.assign(self.values(number))
        self._is_folded = True
        try:
            yield
        finally:
            self._is_folded = False

    def stacked(self, dtype: str) -> Tensor:
        """Return all prompts as `[K, P, H]`, K = 1 without a bank."""
        return ops.stack([ops.cast(prompt, dtype) for prompt in self._current()])

    def _current(self) -> list[Tensor]:
        if self._is_folded:
            return list(self.kept)
        if self.reparameterized:
            return [layer.fold() for layer in self.reparameterized]
        return list(self.prompts)

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
            reparameterization=keras.saving.serialize_keras_object(self.reparameterization),
        )
        return config


def _revived(reparameterization: Any) -> Any:
    """Return what a config holds as a layer again, anything else as it is."""
    if isinstance(reparameterization, Mapping) and "class_name" in reparameterization:
        return keras.saving.deserialize_keras_object(dict(reparameterization))
    return reparameterization
