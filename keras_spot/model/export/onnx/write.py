"""A folder for ONNX Runtime: two graphs, their weights once, the tokeniser, and what answers."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.model.export.merged import TOLERANCES, Merged, quantization
from keras_spot.model.export.onnx import answer
from keras_spot.model.export.onnx.answer import DECODER, ENCODER
from keras_spot.model.export.onnx.decoder import add_decoder
from keras_spot.model.export.onnx.encoder import add_encoder
from keras_spot.model.export.onnx.graph import Graph, WeightFile
from keras_spot.model.export.readme import write_readme
from keras_spot.model.export.trial import Trial

__all__ = ["FORM", "export_onnx"]

FORM = "onnx"


def export_onnx(
    model: Any,
    path: str | os.PathLike,
    max_length: int | None = None,
    overwrite: bool = False,
    *,
    tasks: Any = None,
    quantize: str | None = None,
) -> None:
    """Write a folder that onnxruntime runs, alone.

    Prompts are no words here: the encoder has them beside its embedding table, by number. What a
    prompt is that sees only itself, its keys and values in every layer, are constants.

    Args:
        model: `PromptedT5`.
        path: folder to write; may be an address.
        max_length: target tokens at most. Default: the preprocessor's.
        overwrite: see `PromptedT5.export`.
        tasks: what the prompts were trained on, see `described.cards_of`.
        quantize: `"int8"`: weights of products in 8 bits, the embedding table stays as it is;
            answers may differ. Default: float32.

    Raises:
        InvalidArgument: see `Merged`, or an unknown `quantize`.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    stored = quantization(quantize)
    merged = Merged(model, FORM, tasks)
    with merged.folder(path, overwrite) as folder:
        weights = WeightFile(folder)
        for file, add in ((ENCODER, add_encoder), (DECODER, add_decoder)):
            graph = Graph(Path(file).stem, weights)
            add(graph, merged.model, merged.architecture.activation, stored == "int8")
            graph.save(folder / file)
        merged.write_card(folder, max_length, quantization=stored)
        shutil.copy(answer.__file__, folder / "answer.py")
        write_readme(folder, merged, merged.target_length(max_length))
        _check(Trial(merged.model), folder, str(path), TOLERANCES[stored])


def _check(trial: Trial, folder: Path, shown: str, tolerance: float) -> None:
    """Raise RuntimeError unless the folder computes the model's logits."""
    answerer = answer.Answerer(folder)
    logits = answerer.logits(trial.rows, trial.prompts, trial.target.astype("int64"))
    trial.check(np.asarray(logits), shown, tolerance)
