"""The soft prompt as a Keras layer."""

import keras
from keras import ops

from keras_spot.errors import invalid
from keras_spot.initializers import PromptInitializer, uniform


@keras.saving.register_keras_serializable("keras_spot")
class SoftPrompt(keras.layers.Layer):
    """Trainable vectors in front of a sequence of embeddings (Lester et al. 2021, section 2).

    The variable is float32 under every dtype policy: updates of a trained prompt, whose
    rows are hundreds of times larger than one step, would vanish in bfloat16. It is cast
    to the inputs' dtype when it is prepended.

    Args:
        length: prompt length P. Default: the length of the initialiser's own rows
            where it has them (`from_numpy`), else 100.
        initializer: a `keras_spot.initializers` object or any Keras initialiser.
            Default: U(-0.5, 0.5).
        **kwargs: as for every Keras layer.

    Call arguments:
        inputs: embeddings `[B, T, H]`.

    Returns:
        `[B, P + T, H]`, dtype of `inputs`. An implicit Keras mask `[B, T]` is extended too.

    Raises:
        ValueError: a length that is no positive integer or not the initialiser's, inputs
            that are not of rank 3, or an initial value of another width.

    >>> layer = SoftPrompt(length=4)
    >>> layer(keras.ops.zeros((2, 3, 8))).shape
    TensorShape([2, 7, 8])
    """

    def __init__(self, length=None, initializer=None, **kwargs):
        super().__init__(**kwargs)
        initializer = keras.initializers.get(uniform() if initializer is None else initializer)
        own = initializer.length if isinstance(initializer, PromptInitializer) else None
        if length is None:
            length = own or 100
        if not isinstance(length, int) or isinstance(length, bool) or length < 1:
            raise invalid("length", "must be a positive integer", f"{length=}")
        if own not in (None, length):
            raise invalid("length", f"must be the initial prompt's length {own}", f"{length=}")
        self.length = length
        self.initializer = initializer
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise invalid("inputs", "must have the shape [B, T, H]", f"shape={input_shape}")
        self.prompt = self.add_weight(
            name="prompt",
            shape=(self.length, input_shape[-1]),
            initializer=self.initializer,
            dtype="float32",
            trainable=True,
        )
        self.built = True

    def call(self, inputs):
        rows = ops.cast(self.prompt, inputs.dtype)[None]
        batch = ops.shape(inputs)[0]
        rows = ops.broadcast_to(rows, (batch, self.length, inputs.shape[-1]))
        return ops.concatenate([rows, inputs], axis=1)

    def extend_mask(self, mask):
        """Return a padding mask `[B, T]` as `[B, P + T]`: every prompt position is visible."""
        return ops.pad(mask, [[0, 0], [self.length, 0]], constant_values=1)

    def compute_mask(self, inputs, previous_mask=None):
        if previous_mask is None:
            return None
        # ops.pad wants a number; a boolean mask travels as int32.
        return ops.cast(self.extend_mask(ops.cast(previous_mask, "int32")), "bool")

    def compute_output_shape(self, input_shape):
        batch, tokens, width = input_shape
        return batch, None if tokens is None else tokens + self.length, width

    def get_config(self):
        config = super().get_config()
        config.update(
            length=self.length, initializer=keras.initializers.serialize(self.initializer)
        )
        return config
