"""A Hugging Face T5 folder in which a prompt is P more words of the vocabulary."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot import backbones
from keras_spot.backbones.converters import huggingface
from keras_spot.model.export.merged import Merged
from keras_spot.model.export.readme import write_readme
from keras_spot.model.export.tokenizer import write_tokenizer
from keras_spot.model.export.trial import Trial
from keras_spot.model.generate_functions import INPUTS
from keras_spot.model.texts import pad_rows

__all__ = ["FORM", "export_transformers"]

FORM = "transformers"
_SHARD = 4 << 30  # bytes of a file of weights
_PAD = 0


def export_transformers(
    model: Any,
    path: str | os.PathLike,
    max_length: int | None = None,
    overwrite: bool = False,
    *,
    tasks: Any = None,
) -> None:
    """Write a folder that transformers, and whatever reads its folders, runs.

    Its embedding table has K·P rows more, one for each word of each prompt; an input is the words
    of a prompt and the text. The words are never generated: they are suppressed in
    `generation_config.json`, and where the head is a matrix of its own their rows are those of
    `<pad>`, which never follows anything.

    Args:
        model: `PromptedT5`.
        path: folder to write; may be an address.
        max_length: target tokens at most. Default: the preprocessor's.
        overwrite: see `PromptedT5.export`.
        tasks: what the prompts were trained on, see `described.cards_of`.

    Raises:
        InvalidArgument: see `Merged`, or a prompt that sees only itself.
    """
    merged = Merged(model, FORM, tasks)
    merged.check_attention()
    with merged.folder(path, overwrite) as folder:
        rows = merged.architecture.vocabulary_size
        shape = dataclasses.replace(merged.architecture, vocabulary_size=rows + len(merged.rows))
        length = merged.target_length(max_length)
        _write_weights(folder, _with_prompts(merged))
        _write_json(folder / huggingface.CONFIG, huggingface.config_of(shape))
        _write_json(folder / "generation_config.json", _generation(merged, length))
        limit = model.preprocessor.encoder_sequence_length
        words = merged.words
        write_tokenizer(folder, merged.tokenizer.proto, rows, [*words.values()], limit)
        merged.write_card(folder, max_length, words=words)
        write_readme(folder, merged, length)
        trial = Trial(merged.model)
        trial.check(_logits(folder, trial, merged), str(path))


def _with_prompts(merged: Merged) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the weights, embedding table and head with the prompts' rows."""
    rows = merged.rows
    for name, values in merged.tensors():
        if name == "shared.weight":
            values = np.concatenate([values, rows.astype(values.dtype)])
        elif name == "lm_head.weight":
            values = np.concatenate([values, np.repeat(values[_PAD : _PAD + 1], len(rows), axis=0)])
        yield name, values


def _logits(folder: Path, trial: Trial, merged: Merged) -> np.ndarray:
    """Return the logits of a folder's T5, read as anybody's is, for a trial's texts."""
    from keras import ops

    first, length = merged.architecture.vocabulary_size, merged.prompts.shape[1]
    words = [np.arange(length) + first + length * number for number in trial.prompts]
    ids, mask = pad_rows([[*map(int, own), *row] for own, row in zip(words, trial.rows)])
    inputs = (ids, mask, trial.target, np.ones_like(trial.target))
    with backbones.quiet_masks():
        backbone = huggingface.load(folder)
        states = backbone(dict(zip(INPUTS, inputs)))["decoder_sequence_output"]
    if backbone.tie_embedding_weights:
        states = states * backbone.hidden_dim**-0.5
    return ops.convert_to_numpy(backbone.token_embedding(states, reverse=True))


def _write_weights(folder: Path, tensors: Iterator[tuple[str, np.ndarray]]) -> None:
    """Write safetensors, in several files where they are large."""
    from safetensors.numpy import save_file

    files: list[Path] = []
    index: dict[str, Path] = {}
    shard: dict[str, np.ndarray] = {}
    total = size = 0

    def write() -> None:
        files.append(folder / f"shard-{len(files)}")
        save_file(shard, files[-1], metadata={"format": "pt"})
        index.update(dict.fromkeys(shard, files[-1]))
        shard.clear()

    for name, values in tensors:
        if shard and size + values.nbytes > _SHARD:
            write()
            size = 0
        shard[name] = values
        size += values.nbytes
        total += values.nbytes
    write()
    if len(files) == 1:
        files[0].rename(folder / huggingface.WEIGHTS)
        return
    named = {
        file: f"model-{number:05}-of-{len(files):05}.safetensors"
        for number, file in enumerate(files, 1)
    }
    for file, final in named.items():
        file.rename(folder / final)
    weight_map = {name: named[file] for name, file in index.items()}
    _write_json(
        folder / huggingface.INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map}
    )


def _generation(merged: Merged, length: int) -> dict[str, Any]:
    first = merged.architecture.vocabulary_size
    return {
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "max_new_tokens": length,
        "do_sample": False,
        "num_beams": 1,
        "suppress_tokens": list(range(first, first + len(merged.rows))),
    }


def _write_json(file: Path, record: dict[str, Any]) -> None:
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
