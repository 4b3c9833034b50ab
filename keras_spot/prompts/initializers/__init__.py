"""Initial values of a soft prompt, as Keras initialisers."""

from keras_spot.prompts.initializers.base import PromptInitializer
from keras_spot.prompts.initializers.choose import (
    NAMES,
    PromptInit,
    describe,
    get,
    reseeded,
    uniform,
)
from keras_spot.prompts.initializers.embeddings import (
    ClassLabels,
    FromText,
    SampledVocab,
    class_labels,
    from_text,
    sampled_vocab,
)
from keras_spot.prompts.initializers.values import FromNumpy, from_numpy, mean_of, multitask

__all__ = [
    "NAMES",
    "ClassLabels",
    "FromNumpy",
    "FromText",
    "PromptInit",
    "PromptInitializer",
    "SampledVocab",
    "class_labels",
    "describe",
    "from_numpy",
    "from_text",
    "get",
    "mean_of",
    "multitask",
    "reseeded",
    "sampled_vocab",
    "uniform",
]
