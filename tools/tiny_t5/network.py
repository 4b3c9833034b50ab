"""The T5 that is trained and the parts that are thrown away afterwards."""

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from .pseudo_tasks import KINDS
from .relations import WIDTH
from .rows import ANSWER_SLOTS, AXES, PROMPT

HIDDEN = 256
# What the second layer must tell of a pair: its similarity first, then inference, then the rest.
IMPORTANCE = np.ones(WIDTH, np.float32)
IMPORTANCE[:4] = 8.0, 4.0, 4.0, 4.0
IMPORTANCE /= IMPORTANCE.mean()


def backbone(
    vocabulary_size: int, dtype: str = "float32", **changes
) -> keras_hub.models.T5Backbone:
    """A T5 1.1 in small: gated exact GELU, untied head, 64-wide heads."""
    config = dict(
        num_layers=3,
        num_heads=4,
        hidden_dim=HIDDEN,
        intermediate_dim=512,
        key_value_dim=64,
        dropout=0.0,
        activation="gelu",
        use_gated_activation=True,
        layer_norm_epsilon=1e-6,
        tie_embedding_weights=False,
    )
    return keras_hub.models.T5Backbone(vocabulary_size, **(config | changes), dtype=dtype)


class Learner(keras.Model):
    """The backbone, the map from a pseudo-task to its prompt, and the teacher's projection."""

    def __init__(self, t5: keras_hub.models.T5Backbone):
        super().__init__()
        self.t5 = t5
        free = PROMPT - ANSWER_SLOTS
        self.plane_prompt = self.add_weight(
            name="plane_prompt",
            shape=(AXES, free * HIDDEN),
            initializer=keras.initializers.RandomNormal(stddev=0.5 * AXES**-0.5),
        )
        self.kind_prompt = self.add_weight(
            name="kind_prompt",
            shape=(len(KINDS), free * HIDDEN),
            initializer=keras.initializers.RandomNormal(stddev=0.5),
        )
        # An answer's slots hold its word and a vector to be near to: attention that looks for the
        # text's meaning finds the right word. Two answers of a plane have opposite vectors.
        self.plane_slots = self.add_weight(
            name="plane_slots",
            shape=(AXES, HIDDEN),
            initializer=keras.initializers.RandomNormal(stddev=AXES**-0.5),
        )
        self.kind_slots = self.add_weight(
            name="kind_slots",
            shape=(len(KINDS), ANSWER_SLOTS, HIDDEN),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        self.projection = self.add_weight(
            name="projection",
            shape=(HIDDEN, AXES),
            initializer=keras.initializers.RandomNormal(stddev=HIDDEN**-0.5),
        )
        # The decoder's first layer is told early to find what the texts mean.
        self.readout = self.add_weight(
            name="readout",
            shape=(HIDDEN, 2 * AXES),
            initializer=keras.initializers.RandomNormal(stddev=HIDDEN**-0.5),
        )
        # Which of two texts does a piece belong to? Without it they are read as one.
        self.placing = self.add_weight(
            name="placing",
            shape=(HIDDEN, 1),
            initializer=keras.initializers.RandomNormal(stddev=HIDDEN**-0.5),
        )
        # The second layer is told to compare them.
        self.relating = self.add_weight(
            name="relating",
            shape=(HIDDEN, WIDTH),
            initializer=keras.initializers.RandomNormal(stddev=0.1 * HIDDEN**-0.5),
        )
        # Comparing two texts begins with seeing which pieces they share.
        self.matching = self.add_weight(
            name="matching",
            shape=(HIDDEN, 1),
            initializer=keras.initializers.RandomNormal(stddev=HIDDEN**-0.5),
        )

    def encode(self, half: dict) -> tf.Tensor:
        """Encoder states [B, T, H] of one part of a batch."""
        t5, ids = self.t5, half["ids"]
        batch = ids.shape[0]
        x = t5.token_embedding(ids)
        free = np.zeros((1, ids.shape[1], 1), np.float32)
        free[:, ANSWER_SLOTS:PROMPT] = 1.0
        x *= tf.cast(1.0 - free * (1.0 - half["sampled"])[:, None, None], x.dtype)
        delta = tf.matmul(half["plane"], self.plane_prompt.value)
        delta += tf.gather(self.kind_prompt.value, half["kind"])
        steered = half["prompted"] * tf.cast(half["kind"] > 0, tf.float32)
        delta = tf.reshape(delta, (batch, PROMPT - ANSWER_SLOTS, HIDDEN))
        near = tf.matmul(half["plane"], self.plane_slots.value)[:, None]
        slots = tf.gather(self.kind_slots.value, half["kind"])
        slots += tf.concat([near, near, -near, -near, 0.0 * near, 0.0 * near], 1)
        delta = tf.concat([slots, delta], 1) * steered[:, None, None]
        x += tf.cast(tf.pad(delta, ((0, 0), (0, ids.shape[1] - PROMPT), (0, 0))), x.dtype)
        mask = tf.cast(ids != 0, tf.int32)[:, None, :]
        bias = None
        for layer in t5.encoder_transformer_layers:
            x, bias = layer(x, attention_mask=mask, position_bias=bias, use_causal_mask=False)
        return t5.encoder_layer_norm(x)

    def decode(self, half: dict, encoded: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """The first target position's state float32 [B, H] after each decoder layer, and logits
        float32 [B, D, V]."""
        t5, mask = self.t5, tf.cast(half["ids"] != 0, tf.int32)[:, None, :]
        shifted = tf.pad(half["targets"][:, :-1], ((0, 0), (1, 0)))
        y, bias = t5.token_embedding(shifted), None
        ones = tf.ones_like(shifted)[:, None, :]
        first = []
        for layer in t5.decoder_transformer_layers:
            y, bias = layer(
                y,
                attention_mask=ones,
                position_bias=bias,
                encoder_hidden_states=encoded,
                encoder_attention_mask=mask,
                use_causal_mask=True,
            )
            first.append(tf.cast(y[:, 0], tf.float32))
        logits = t5.token_embedding(t5.decoder_layer_norm(y), reverse=True)
        return first, tf.cast(logits, tf.float32)

    def losses_of(self, half: dict) -> dict[str, tf.Tensor]:
        """Sums and counts: token cross-entropy, first-token hits, how far the encoder and
        the decoder's first layer are from the teacher, and the second from its comparison."""
        encoded = self.encode(half)
        first, logits = self.decode(half, encoded)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(half["targets"], logits)
        weights = half["weights"]
        encoded = tf.cast(encoded, tf.float32)
        distance, known = 0.0, half["known_weight"]
        for i in range(2):
            inside = tf.cast(half["segment"] == i + 1, tf.float32)
            mean = tf.einsum("bt,bth->bh", inside, encoded)
            mean /= tf.reduce_sum(inside, 1, keepdims=True) + 1e-6
            guess = tf.math.l2_normalize(tf.matmul(mean, self.projection.value), -1, epsilon=1e-6)
            cosine = tf.reduce_sum(guess * half["known"][:, i], -1)
            distance += tf.reduce_sum((1.0 - cosine) * known[:, i])
        hit = tf.cast(tf.argmax(logits[:, 0], -1, tf.int32) == half["targets"][:, 0], tf.float32)
        estimates = tf.reshape(tf.matmul(first[0], self.readout.value), (-1, 2, AXES))
        cosine = tf.reduce_sum(
            tf.math.l2_normalize(estimates, -1, epsilon=1e-6) * half["known"], -1
        )
        apart, truth = estimates[:, 0] - estimates[:, 1], half["known"][:, 0] - half["known"][:, 1]
        both = known[:, 0] * known[:, 1]
        confused = 1.0 - tf.reduce_sum(
            tf.math.l2_normalize(apart, -1, epsilon=1e-6)
            * tf.math.l2_normalize(truth, -1, epsilon=1e-6),
            -1,
        )
        missed = tf.square(tf.matmul(first[1], self.relating.value) - half["relation"])
        missed = tf.reduce_mean(missed * IMPORTANCE, -1)
        ids, segment = half["ids"], tf.cast(half["segment"], tf.int32)
        across = (
            (segment[:, :, None] + segment[:, None, :] == 3)
            & (segment[:, :, None] > 0)
            & (segment[:, None, :] > 0)
        )
        shared = tf.reduce_any(across & (ids[:, :, None] == ids[:, None, :]), -1)
        compared = tf.cast(tf.reduce_any(across, -1), tf.float32)
        unseen = tf.nn.sigmoid_cross_entropy_with_logits(
            tf.cast(shared, tf.float32), tf.einsum("bth,ho->bt", encoded, self.matching.value)
        )
        paired = tf.reduce_any(segment == 2, -1, keepdims=True) & (segment > 0)
        misplaced = tf.nn.sigmoid_cross_entropy_with_logits(
            tf.cast(segment == 2, tf.float32),
            tf.einsum("bth,ho->bt", encoded, self.placing.value),
        )
        paired = tf.cast(paired, tf.float32)
        return {
            "misplaced": tf.reduce_sum(misplaced * paired),
            "paired": tf.reduce_sum(paired),
            "confused": tf.reduce_sum(confused * both),
            "both": tf.reduce_sum(both),
            "unrelated": tf.reduce_sum(missed * half["relation_weight"]),
            "related": tf.reduce_sum(half["relation_weight"]),
            "unmatched": tf.reduce_sum(unseen * compared),
            "compared": tf.reduce_sum(compared),
            "unread": tf.reduce_sum((1.0 - cosine) * known),
            "entropy": tf.reduce_sum(entropy * weights),
            "tokens": tf.reduce_sum(weights),
            "distance": distance,
            "known": tf.reduce_sum(known),
            "hit": hit,
        }


def start(learner: Learner, embeddings: np.ndarray) -> None:
    """Token embeddings from `embeddings` [V, H]; the output head from the same, scaled down."""
    table = learner.t5.token_embedding
    table.embeddings.assign(embeddings)
    table.reverse_embeddings.assign(embeddings.T * HIDDEN**-0.5)
    see_copies(learner.t5)


def see_copies(t5: keras_hub.models.T5Backbone, seed: int = 0) -> None:
    """Let one head of the encoder's first layer start by looking at other copies of its piece:
    equal query and key projections, and a relative bias away from the position itself. Comparing
    two texts needs such a head, and training alone had found none in 4,000 steps."""
    attention = t5.encoder_transformer_layers[0].self_attention
    size, last = attention.key_value_dim, attention.inner_dim - attention.key_value_dim
    random = np.random.default_rng(seed).normal(size=(HIDDEN, size)) * HIDDEN**-0.5
    for projector, scale in ((attention.key_projector, 1.0), (attention.query_projector, 8 / size)):
        kernel = projector.kernel.numpy()
        kernel[:, last:] = scale * random
        projector.kernel.assign(kernel)
    bias = attention.relative_attention_bias.numpy()
    bias[:, -1] = 0.0
    bias[0, -1] = -6.0
    attention.relative_attention_bias.assign(bias)
