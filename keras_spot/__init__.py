"""Soft prompt tuning and transfer (SPoT) for a frozen T5, in Keras."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from keras_spot.base.backend import check_backend
from keras_spot.base.quiet import quiet_tensorflow, quiet_tqdm
from keras_spot.base.registration import register_late
from keras_spot.base.versions import __version__

if TYPE_CHECKING:  # what editors and type checkers see; at run time names load on first use
    from keras_spot import backbones, prompts, serving, study, tasks, transfer
    from keras_spot.base import errors
    from keras_spot.base.devices import devices
    from keras_spot.base.errors import InvalidArgument
    from keras_spot.base.recipe import Recipe
    from keras_spot.data import load_bank, load_examples, load_mixture, load_task
    from keras_spot.model import losses, optimizers, reparameterizations
    from keras_spot.model.build import build
    from keras_spot.model.prompted_t5 import PromptedT5
    from keras_spot.model.soft_prompt import SoftPrompt
    from keras_spot.prompts import hub, initializers, inspection, recycling
    from keras_spot.study import plots
    from keras_spot.tasks import metrics
    from keras_spot.training import submission
    from keras_spot.training.checkpoints import PromptCheckpoint
    from keras_spot.training.evaluate import evaluate
    from keras_spot.training.execute import execute
    from keras_spot.training.run import Run
    from keras_spot.training.train import train, train_bank
    from keras_spot.training.warm_up import warm_up
    from keras_spot.transfer import retrieval
    from keras_spot.transfer.library import PromptLibrary

# Public name -> the module that it is, or that defines it. Listing tasks or reading a prompt file
# must not wait for TensorFlow.
_MODULES = {
    "backbones": "backbones",
    "errors": "base.errors",
    "hub": "prompts.hub",
    "initializers": "prompts.initializers",
    "inspection": "prompts.inspection",
    "losses": "model.losses",
    "metrics": "tasks.metrics",
    "optimizers": "model.optimizers",
    "plots": "study.plots",
    "prompts": "prompts",
    "recycling": "prompts.recycling",
    "reparameterizations": "model.reparameterizations",
    "retrieval": "transfer.retrieval",
    "serving": "serving",
    "study": "study",
    "submission": "training.submission",
    "tasks": "tasks",
    "transfer": "transfer",
}
_DEFINED_IN = {
    "InvalidArgument": "base.errors",
    "PromptCheckpoint": "training.checkpoints",
    "PromptLibrary": "transfer.library",
    "PromptedT5": "model.prompted_t5",
    "Recipe": "base.recipe",
    "Run": "training.run",
    "SoftPrompt": "model.soft_prompt",
    "build": "model.build",
    "evaluate": "training.evaluate",
    "execute": "training.execute",
    "load_bank": "data",
    "load_examples": "data",
    "load_mixture": "data",
    "load_task": "data",
    "devices": "base.devices",
    "train": "training.train",
    "train_bank": "training.train",
    "warm_up": "training.warm_up",
}

__all__ = [
    "InvalidArgument",
    "PromptCheckpoint",
    "PromptLibrary",
    "PromptedT5",
    "Recipe",
    "Run",
    "SoftPrompt",
    "__version__",
    "backbones",
    "build",
    "devices",
    "errors",
    "evaluate",
    "execute",
    "hub",
    "initializers",
    "inspection",
    "load_bank",
    "load_examples",
    "load_mixture",
    "load_task",
    "losses",
    "metrics",
    "optimizers",
    "plots",
    "prompts",
    "recycling",
    "reparameterizations",
    "retrieval",
    "serving",
    "study",
    "submission",
    "tasks",
    "train",
    "train_bank",
    "transfer",
    "warm_up",
]

# Classes that saved models hold -> their modules: Keras finds them before they are imported.
_REGISTERED = {
    "Adafactor": "model.optimizers",
    "ClassLabels": "prompts.initializers.embeddings",
    "FromNumpy": "prompts.initializers.values",
    "FromText": "prompts.initializers.embeddings",
    "GreedySampler": "model.samplers",
    "LowRank": "model.reparameterizations.low_rank",
    "Residual": "model.reparameterizations.residual",
    "Shared": "model.reparameterizations.shared",
    "SourceMixture": "model.reparameterizations.source_mixture",
    "VocabularyMixture": "model.reparameterizations.vocabulary_mixture",
    "PromptedT5": "model.prompted_t5",
    "SampledVocab": "prompts.initializers.embeddings",
    "SoftPrompt": "model.soft_prompt",
    "LabelAccuracy": "model.losses",
    "TokenAccuracy": "model.losses",
    "TokenCrossEntropy": "model.losses",
}
quiet_tensorflow()
quiet_tqdm()
register_late("keras_spot", {name: f"keras_spot.{place}" for name, place in _REGISTERED.items()})


def __getattr__(name: str) -> Any:
    place = _MODULES.get(name) or _DEFINED_IN.get(name)
    if place is None:
        raise AttributeError(f"module 'keras_spot' has no attribute {name!r}")
    try:
        module = importlib.import_module(f"keras_spot.{place}")
    except (ImportError, ValueError):
        if "keras" not in sys.modules:
            check_backend()
        raise
    return module if name in _MODULES else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
