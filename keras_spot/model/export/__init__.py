"""What a model can be written as, for those who serve it."""

import importlib
import os
from typing import Any

from keras_spot.base.errors import check_installed, unknown
from keras_spot.model.export.files import PRESET, export_files
from keras_spot.model.export.kinds import KINDS, SAVED_MODEL

__all__ = [
    "FORMATS",
    "KINDS",
    "OF_KERAS",
    "PRESET",
    "SAVED_MODEL",
    "check_format",
    "export",
    "export_files",
]

# The format -> its module and function. "tf_saved_model" is what Keras calls a SavedModel.
FORMATS = {
    "savedmodel": ("savedmodel", "export_text"),
    "tf_saved_model": ("savedmodel", "export_text"),
    "transformers": ("transformers", "export_transformers"),
    "ctranslate2": ("ctranslate2", "export_ctranslate2"),
    "onnx": ("onnx.write", "export_onnx"),
}
# The format, which is its extra's name, too -> the packages that write it.
PACKAGES = {"ctranslate2": ("ctranslate2",), "onnx": ("onnx", "onnxruntime")}
# What Keras writes, of the logits alone.
OF_KERAS = ("openvino", "litert", "torch")


def check_format(format: str) -> None:
    """Raise before a model is loaded for a format that cannot be written here.

    Raises:
        InvalidArgument: an unknown format.
        MissingExtra: a package that writes it is not installed.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    check_installed(format, *PACKAGES.get(format, ()))


def export(model: Any, path: str | os.PathLike, format: str, **options: Any) -> None:
    """Write a model in one of `FORMATS`; the options are those of its function."""
    check_format(format)
    module, function = FORMATS[format]
    form = importlib.import_module(f"keras_spot.model.export.{module}")
    getattr(form, function)(model, path, **options)
