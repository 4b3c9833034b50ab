"""The kinds of folders that an export writes."""

from keras_spot.base.ownership import Kind
from keras_spot.model.export.savedmodel import SAVED_MODEL

__all__ = ["KINDS"]

KINDS = {
    "savedmodel": SAVED_MODEL,
    "tf_saved_model": SAVED_MODEL,
    "transformers": Kind("Hugging Face folder", is_folder=True),
    "ctranslate2": Kind("CTranslate2 folder", is_folder=True),
    "onnx": Kind("ONNX folder", is_folder=True),
}
