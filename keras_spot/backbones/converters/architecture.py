"""What has to be known of a T5 before its weights can be placed."""

import dataclasses
from typing import Any

from keras_spot.base.errors import invalid, shortened, unknown

__all__ = ["ACTIVATIONS", "TANH_GELU", "Architecture"]

# Names that checkpoints use -> Keras' own. Keras' "gelu" is the exact one; the tanh approximation,
# which Google's T5 1.1, LM-adapted, Flan and mT5 were trained with, is a function registered
# by KerasHub, so that presets with it load wherever KerasHub is.
TANH_GELU = "keras_hub>gelu_approximate"
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": TANH_GELU,
    "gelu_pytorch_tanh": TANH_GELU,
    "silu": "silu",
    "swish": "silu",
}
_DEEPEST, _FARTHEST = 512, 1 << 16  # layers of a stack; distance of relative positions
_SIZES = (
    "vocabulary_size",
    "hidden_dim",
    "encoder_layers",
    "decoder_layers",
    "num_heads",
    "head_dim",
    "intermediate_dim",
    "buckets",
    "max_distance",
)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The shape of a T5, whoever wrote it.

    Attributes:
        vocabulary_size: V, rows of the embedding table (more than the tokenizer's pieces).
        hidden_dim: H.
        encoder_layers, decoder_layers: L of each stack.
        num_heads, head_dim: heads of each layer and their width, whose product need not be H.
        intermediate_dim: width between the two dense layers.
        activation: a key of `ACTIVATIONS`.
        gated: whether the activation gates a second projection (T5 1.1 and later).
        tied: whether logits are the table times H^-0.5 (T5 1.0) and not a matrix of their own.
        buckets, max_distance: of the relative position bias.
        epsilon: of the layer norms.
        dropout: rate recorded in the preset.

    Raises:
        InvalidArgument: a size that is no positive integer, an unknown activation, buckets or a
            rate that make no sense.
    """

    vocabulary_size: int
    hidden_dim: int
    encoder_layers: int
    decoder_layers: int
    num_heads: int
    head_dim: int
    intermediate_dim: int
    activation: str
    gated: bool
    tied: bool
    buckets: int = 32
    max_distance: int = 128
    epsilon: float = 1e-6
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in _SIZES:
            size = getattr(self, name)
            if type(size) is not int or size < 1:
                received = f"{name}={shortened(repr(size))}"
                raise invalid(name, "must be a positive integer", received)
        for name in ("encoder_layers", "decoder_layers"):
            if getattr(self, name) > _DEEPEST:
                rule = f"must be at most {_DEEPEST}"
                raise invalid(name, rule, f"{name}={getattr(self, name)}")
        if not isinstance(self.activation, str) or self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.buckets < 4:
            raise invalid("buckets", "must be at least 4", f"buckets={self.buckets}")
        if not self.buckets // 2 < self.max_distance <= _FARTHEST:
            rule = f"must be greater than half of the {self.buckets} buckets, at most {_FARTHEST}"
            raise invalid("max_distance", rule, f"max_distance={self.max_distance}")
        for name in ("epsilon", "dropout"):
            rate = getattr(self, name)
            if type(rate) not in (int, float) or not 0 <= rate < 1:
                received = f"{name}={shortened(repr(rate))}"
                raise invalid(name, "must be a number in [0, 1)", received)

    def shape_of(self, path: str) -> tuple[int, ...]:
        """Return the shape of a variable of the backbone, a path of attributes as in `names`.

        Relative biases have the checkpoint's buckets.

        >>> small = Architecture(40, 12, 1, 1, 3, 5, 20, "relu", False, True)
        >>> small.shape_of("encoder_transformer_layers.0.self_attention.query_projector.kernel")
        (12, 15)
        """
        inner = self.num_heads * self.head_dim
        *owners, last = path.split(".")
        if last == "weight":
            return (self.hidden_dim,)
        if last == "relative_attention_bias":
            return self.buckets, self.num_heads
        if last == "embeddings":
            return self.vocabulary_size, self.hidden_dim
        if last == "reverse_embeddings":
            return self.hidden_dim, self.vocabulary_size
        width = inner if owners[-2].endswith("attention") else self.intermediate_dim
        out = owners[-1] == "output_projector"
        return (width, self.hidden_dim) if out else (self.hidden_dim, width)

    def build(self, dtype: Any = None) -> Any:
        """Return a `T5Backbone` of this shape with random weights.

        KerasHub's two stacks are equally deep; the shallower one is filled up, see `fill`.
        """
        import keras
        from keras_hub.models import T5Backbone

        activation = ACTIVATIONS[self.activation]
        if activation == TANH_GELU:
            activation = keras.saving.get_registered_object(TANH_GELU)
        return T5Backbone(
            vocabulary_size=self.vocabulary_size,
            num_layers=max(self.encoder_layers, self.decoder_layers),
            num_heads=self.num_heads,
            hidden_dim=self.hidden_dim,
            intermediate_dim=self.intermediate_dim,
            key_value_dim=self.head_dim,
            dropout=self.dropout,
            activation=activation,
            use_gated_activation=self.gated,
            layer_norm_epsilon=self.epsilon,
            tie_embedding_weights=self.tied,
            dtype=dtype,
        )
