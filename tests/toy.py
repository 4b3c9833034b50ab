"""A random T5 small enough for tests, and batches for it."""

import warnings

import numpy as np

CONFIG = dict(
    num_layers=2,
    num_heads=2,
    hidden_dim=16,
    intermediate_dim=24,
    key_value_dim=8,
    activation="gelu",
    use_gated_activation=True,
    tie_embedding_weights=False,
)


def backbone(vocabulary=64, dropout=0.1, seed=0, gain=3.0, **options):
    """Return a random `T5Backbone`.

    At a high gain its answers depend on what it reads; without one it keeps KerasHub's own
    initial values, under which rounding errors do not grow from step to step.
    """
    from keras_hub.models import T5Backbone

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Layer '.*_attention'", UserWarning)
        made = T5Backbone(vocabulary_size=vocabulary, dropout=dropout, **{**CONFIG, **options})
    rng = np.random.default_rng(seed)
    for weight in made.weights if gain else ():
        if weight.path.endswith("seed_generator_state"):
            continue
        scale = 0.0 if "layer_norm" in weight.path else gain * int(np.prod(weight.shape)) ** -0.25
        weight.assign(rng.normal(1.0 if scale == 0.0 else 0.0, scale, weight.shape))
    return made


def shallow(*arguments, **options):
    """Return a `backbone` of one layer in its encoder and one in its decoder."""
    return backbone(*arguments, num_layers=1, **options)


def batch(rows=4, tokens=9, targets=4, vocabulary=64, seed=0):
    """Return `(x, y, sample_weight)` with rows of different lengths."""
    rng = np.random.default_rng(seed)
    lengths, target_lengths = rng.integers(3, tokens + 1, rows), rng.integers(1, targets + 1, rows)
    lengths[0], target_lengths[0] = tokens, targets
    mask = (np.arange(tokens) < lengths[:, None]).astype("int32")
    target_mask = (np.arange(targets) < target_lengths[:, None]).astype("int32")
    y = rng.integers(3, vocabulary, (rows, targets)).astype("int32") * target_mask
    x = {
        "encoder_token_ids": rng.integers(3, vocabulary, (rows, tokens)).astype("int32") * mask,
        "encoder_padding_mask": mask,
        "decoder_token_ids": np.pad(y[:, :-1], [[0, 0], [1, 0]]),
        "decoder_padding_mask": target_mask,
    }
    return x, y, target_mask.astype("float32")
