"""Toys whose exported forms are compared with themselves."""

import numpy as np
import toy

from keras_spot.model import build

TEXTS = [
    "movies sentence: a fine film",
    "",
    "it broke at once, sadly, and nobody answered " * 4,
    "two  spaces, a\ttab, <pad> and </s>, <spot:row:700>, an é and a 好",
]
P = 3
# What shapes there are: T5 1.0, 1.1 and Flan, mT5, and the embedded backbone's exact GELU.
STYLES = {
    "T5 1.0": dict(activation="relu", use_gated_activation=False, tie_embedding_weights=True),
    "T5 1.1": dict(activation="tanh", use_gated_activation=True, tie_embedding_weights=False),
    "exact": dict(activation="gelu", use_gated_activation=True, tie_embedding_weights=False),
    "gated and tied": dict(activation="tanh", tie_embedding_weights=True),
    "exact, plain, tied": dict(
        activation="gelu", use_gated_activation=False, tie_embedding_weights=True
    ),
}


def toy_model(tokenizer, style="T5 1.1", names=None, gain=3.0, values=None, **options):
    """Return a toy with large prompts, whose words would win often where they could."""
    import keras

    shape = dict(STYLES[style])
    if shape["activation"] == "tanh":
        shape["activation"] = keras.saving.get_registered_object("keras_hub>gelu_approximate")
    shape["num_layers"] = 2 if style == "T5 1.1" else 1
    backbone = toy.backbone(tokenizer.vocabulary_size() + 28, gain=gain, **shape)
    rng = np.random.default_rng(5)
    prompts = rng.normal(0, 4.0, (len(names) if names else 1, P, 16)).astype("float32")
    init = list(prompts) if names else prompts[0] if values is None else values
    model = build.build(
        backbone,
        init,
        tokenizer=tokenizer,
        prompt_names=names,
        target_length=7,
        **{"input_length": 24, **options},
    )
    model.run_eagerly = True  # each length would be traced, for seconds
    return model
