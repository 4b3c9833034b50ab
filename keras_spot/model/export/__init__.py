"""What a model can be written as, for those who serve it."""

from keras_spot.model.export.files import PRESET, export_files
from keras_spot.model.export.savedmodel import SAVED_MODEL, export_text

__all__ = ["PRESET", "SAVED_MODEL", "export_files", "export_text"]
