"""Engines: one class for each library that runs an exported model."""

import importlib
from pathlib import Path
from typing import Any

from keras_spot.base import reading
from keras_spot.base.errors import invalid, unknown
from keras_spot.base.types import PathLike
from keras_spot.serving.engines.base import Engine
from keras_spot.tasks.card import TASK_FILE

__all__ = ["ENGINES", "Engine", "engine_of", "open_engine"]

# The engine's name -> its module and class, and the form of the folders that it runs.
ENGINES = {
    "tensorflow": ("tensorflow", "TensorFlowEngine", "savedmodel"),
    "ctranslate2": ("ctranslate2", "CTranslate2Engine", "ctranslate2"),
    "onnxruntime": ("onnxruntime", "OnnxRuntimeEngine", "onnx"),
}


def engine_of(folder: PathLike) -> str:
    """Return the name of the engine that runs an exported folder.

    Raises:
        OSError: the folder is not there, or holds no `task.json`.
        InvalidArgument: a form that no engine runs.
    """
    form = reading.read_record(Path(folder, TASK_FILE), argument="folder").get("form")
    for name, (*_, runs) in ENGINES.items():
        if form == runs:
            return name
    forms = ", ".join(runs for *_, runs in ENGINES.values())
    raise invalid("folder", f"must be exported as one of {forms}", f"{form!r} in {folder}")


def open_engine(folder: PathLike, engine: str | None = None, **options: Any) -> Engine:
    """Return an exported model, loaded.

    Args:
        folder: what `keras-spot export` wrote.
        engine: a name out of `ENGINES`. Default: the one that runs this form.
        **options: of the engine's class.

    Raises:
        InvalidArgument: an unknown engine, or one that does not run this form.
        MissingExtra: the engine's library is not installed.
    """
    if engine is not None and engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    name = engine_of(folder)
    if engine not in (None, name):
        raise invalid("engine", f"must be {name!r} for this folder", f"{engine!r}")
    module, kind, _ = ENGINES[name]
    module_of_engine = importlib.import_module(f"keras_spot.serving.engines.{module}")
    return getattr(module_of_engine, kind)(folder, **options)
