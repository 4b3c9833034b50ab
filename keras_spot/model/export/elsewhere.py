"""A SavedModel of a model that another backend holds: a process of TensorFlow's writes it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "save_module"]


def save_module(
    model: Any, folder: Path, shown: str, length: int, buckets: Sequence[int] | None
) -> None:
    """Do what `savedmodel.save_module` does; the model goes over as a `.keras` file.

    Raises:
        RuntimeError: the other process failed; the message has the end of what it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="keras_spot-export-") as scratch:
        file = Path(scratch) / "model.keras"
        model.save(file)
        asked = json.dumps([str(file), str(folder), shown, length, buckets])
        # It sees no accelerator, which this process may hold.
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
        environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        command = [sys.executable, "-c", f"import {__name__} as m; m.main()", asked]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the process that exports failed: {done.stderr[-2000:]}")


def main() -> None:
    """Write what `save_module` of another process asked for."""
    import keras

    from keras_spot.model.export import savedmodel

    file, folder, shown, length, buckets = json.loads(sys.argv[1])
    savedmodel.save_module(keras.saving.load_model(file), Path(folder), shown, length, buckets)
