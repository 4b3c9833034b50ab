"""Soft prompt tuning and transfer (SPoT) for a frozen T5, in Keras."""

import importlib

from keras_spot.versions import __version__

# Public name -> module that defines it. Imported on first use: listing tasks or reading a
# prompt file must not wait for TensorFlow.
_HOMES = {
    "PromptCheckpoint": "checkpoints",
    "PromptLibrary": "library",
    "PromptedT5": "prompted_t5",
    "Recipe": "recipe",
    "SoftPrompt": "soft_prompt",
    "build": "building",
    "evaluate": "evaluation",
    "load_bank": "pipeline",
    "load_mixture": "pipeline",
    "load_task": "pipeline",
    "strategy": "distribution",
    "train": "training",
    "train_bank": "bank_training",
    "warm_up": "training",
}
_MODULES = (
    "backbones",
    "hub",
    "initializers",
    "inspection",
    "losses",
    "metrics",
    "optimizers",
    "prompt_files",
    "retrieval",
    "study",
    "submission",
    "tasks",
    "transfer",
)

__all__ = ["__version__", *_HOMES, *_MODULES]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"keras_spot.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"keras_spot.{name}")
    raise AttributeError(f"module 'keras_spot' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
