"""A folder for ONNX Runtime: two graphs, their weights once, the tokeniser, and what answers."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base import remote
from keras_spot.base.atomic import atomic_folder
from keras_spot.base.errors import missing_extra, unknown
from keras_spot.model.export.kinds import KINDS
from keras_spot.model.export.merged import Merged
from keras_spot.model.export.onnx import answer
from keras_spot.model.export.onnx.answer import DECODER, ENCODER
from keras_spot.model.export.onnx.decoder import add_decoder
from keras_spot.model.export.onnx.encoder import add_encoder
from keras_spot.model.export.onnx.graph import Graph, WeightFile
from keras_spot.model.export.readme import write_readme
from keras_spot.model.export.trial import Trial

FORM = "onnx"
QUANTIZATIONS = ("float32", "int8")
_TOLERANCE = {"float32": 1e-3, "int8": 0.5}  # of the logits' spread


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
    if quantize not in (None, *QUANTIZATIONS):
        raise unknown("quantize", quantize, QUANTIZATIONS)
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "onnx") from None
    del onnx
    merged = Merged(model, FORM, tasks)
    kind = KINDS[FORM]
    with (
        remote.writing(path, kind, overwrite) as local,
        atomic_folder(local, kind, overwrite) as folder,
    ):
        if quantize == "int8":
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                _write_graphs(merged, Path(scratch))
                _quantize(Path(scratch), folder)
        else:
            _write_graphs(merged, folder)
        merged.write_card(folder, max_length, quantization=quantize or "float32")
        shutil.copy(answer.__file__, folder / "answer.py")
        write_readme(folder, merged)
        _check(Trial(model), folder, str(path), _TOLERANCE[quantize or "float32"])


def _write_graphs(merged: Merged, folder: Path) -> None:
    weights = WeightFile(folder)
    for file, add in ((ENCODER, add_encoder), (DECODER, add_decoder)):
        graph = Graph(Path(file).stem, weights)
        add(graph, merged.model, merged.architecture.activation)
        graph.save(folder / file)


def _quantize(source: Path, folder: Path) -> None:
    """Write the graphs with the weights of their products in 8 bits."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    weights = WeightFile(folder)
    for file in (ENCODER, DECODER):
        target = source / f"int8-{file}"
        # Seven bits of eight: on processors without VNNI sums of two products overflow otherwise.
        quantize_dynamic(
            source / file,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        made = onnx.load(target)
        for tensor in made.graph.initializer:
            if len(tensor.raw_data) > 1024:
                weights.place(tensor, tensor.raw_data)
        (folder / file).write_bytes(made.SerializeToString())


def _check(trial: Trial, folder: Path, shown: str, tolerance: float) -> None:
    """Raise RuntimeError unless the folder computes the model's logits."""
    answerer = answer.Answerer(folder)
    logits = answerer.logits(trial.rows, trial.prompts, trial.target.astype("int64"))
    trial.check(np.asarray(logits), shown, tolerance)
