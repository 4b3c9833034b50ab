"""What a model can be written as, for those who serve it."""

import importlib
import os
from typing import Any

from keras_spot.model.export.files import PRESET, export_files
from keras_spot.model.export.kinds import KINDS, SAVED_MODEL

__all__ = ["FORMATS", "KINDS", "OF_KERAS", "PRESET", "SAVED_MODEL", "export", "export_files"]

# The format -> its module and function. "tf_saved_model" is what Keras calls a SavedModel.
FORMATS = {
    "savedmodel": ("savedmodel", "export_text"),
    "tf_saved_model": ("savedmodel", "export_text"),
    "transformers": ("transformers", "export_transformers"),
    "ctranslate2": ("ctranslate2", "export_ctranslate2"),
    "onnx": ("onnx.write", "export_onnx"),
}
# What Keras writes, of the logits alone.
OF_KERAS = ("openvino", "litert", "torch")


def export(model: Any, path: str | os.PathLike, format: str, **options: Any) -> None:
    """Write a model in one of `FORMATS`; the options are those of its function."""
    module, function = FORMATS[format]
    form = importlib.import_module(f"keras_spot.model.export.{module}")
    getattr(form, function)(model, path, **options)
