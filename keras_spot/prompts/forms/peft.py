"""Prompts as adapters of Hugging Face PEFT: prompt tuning and multitask prompt tuning.

What PEFT does with a T5 (`task_type` SEQ_2_SEQ_LM): an adapter stores
`num_virtual_tokens * num_transformer_submodules` rows, 2 submodules unless told otherwise; the
encoder gets the first `num_virtual_tokens`. Of prompt tuning the other rows are never used. A
multitask adapter multiplies all rows, element by element, with the product of a task's
`prefix_task_cols` `[rows, rank]` and `prefix_task_rows` `[rank, H]`; its other rows go in front
of the decoder's input when labels are given, but not in `generate`; this package's decoder has no
prompt, so they are left out, which the provenance says.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot.base import reading
from keras_spot.base.atomic import atomic_folder
from keras_spot.base.errors import damaged, invalid, missing_file, shortened
from keras_spot.base.ownership import Kind
from keras_spot.base.reading.tensors import SafeTensors
from keras_spot.prompts.prompt import check_header

__all__ = [
    "CONFIG",
    "KIND",
    "WEIGHTS",
    "locate",
    "read",
    "read_header",
    "read_parts",
    "refuse_pickle",
    "write",
]

KIND = Kind("PEFT adapter", is_folder=True)
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_SINGLE, _MULTITASK = "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING"
_VALUES, _COLS, _ROWS = "prompt_embeddings", "prefix_task_cols", "prefix_task_rows"
# Inside the weights, so that who trains on and saves again leaves it out.
_PROVENANCE = "keras_spot"


def locate(folder: Path) -> Path:
    """Return the file of weights in an adapter's folder."""
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    pickled = (folder / WEIGHTS).with_suffix(".bin")
    if pickled.is_file():
        refuse_pickle(pickled)
    raise missing_file("path", f"must hold {WEIGHTS}", str(folder))


def refuse_pickle(file: Path) -> None:
    """Raise the error of a pickled adapter, which could run any code when it is read."""
    raise invalid("path", f"must not be pickled (save the adapter as {WEIGHTS})", str(file))


def read(file: Path, task_id: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the encoder's prompt `[P, H]` of an adapter and its provenance."""
    config = _config(file)
    tensors = SafeTensors(file)
    (length, _), provenance = _header(tensors, config, file)
    values = _tensor(tensors, _VALUES)[:length]
    if config["peft_type"] == _MULTITASK:
        tasks = tensors.tensors[_COLS].shape[0]
        task_id = 0 if task_id is None and tasks == 1 else task_id
        if task_id is None or not 0 <= task_id < tasks:
            rule = f"must be one of the adapter's tasks, 0 to {tasks - 1}"
            raise invalid("task_id", rule, f"{task_id=} for {file}")
        cols, rows = _tensor(tensors, _COLS)[task_id], _tensor(tensors, _ROWS)[task_id]
        with np.errstate(over="ignore", invalid="ignore"):
            values = values * (cols[:length] @ rows)
        provenance["task_id"] = task_id
    elif task_id is not None:
        rule = "must be None for an adapter of one task"
        raise invalid("task_id", rule, f"{task_id=} for {file}")
    return values, provenance


def read_parts(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a multitask adapter multiplies: the encoder's shared prompt and each task's.

    Returns:
        `[P, H]`, `[K, P, r]` and `[K, r, H]` float32.

    Raises:
        InvalidArgument: an adapter of one task.
    """
    config = _config(file)
    if config["peft_type"] != _MULTITASK:
        rule = f"must be an adapter of the type {_MULTITASK}"
        raise invalid("path", rule, f"peft_type={config['peft_type']} in {file}")
    tensors = SafeTensors(file)
    (length, _), _ = _header(tensors, config, file)
    cols = _tensor(tensors, _COLS)[:, :length]
    return _tensor(tensors, _VALUES)[:length], cols, _tensor(tensors, _ROWS)


def read_header(file: Path) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the shape `(P, H)` and the provenance of an adapter."""
    config = _config(file)
    return _header(SafeTensors(file), config, file)


def write(
    folder: Path, values: np.ndarray, provenance: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write an adapter of a T5's encoder that `PeftModel.from_pretrained` loads.

    `provenance["base_model"]` becomes PEFT's `base_model_name_or_path`.
    """
    from safetensors.numpy import save

    seen = provenance.get("prompt_attention", "full")
    if seen != "full":
        rule = "must not be 'peft' for a prompt that PEFT would let see the inputs"
        raise invalid("form", rule, f"prompt_attention={seen!r}")
    config = {
        "base_model_name_or_path": provenance.get("base_model"),
        "inference_mode": True,
        "num_transformer_submodules": 1,  # the encoder
        "num_virtual_tokens": values.shape[0],
        "peft_type": _SINGLE,
        "prompt_tuning_init": "RANDOM",
        "task_type": "SEQ_2_SEQ_LM",
        "token_dim": values.shape[1],
    }
    metadata = {"format": "pt", _PROVENANCE: json.dumps(dict(provenance), sort_keys=True)}
    with atomic_folder(folder, KIND, overwrite) as new:
        (new / WEIGHTS).write_bytes(_sorted(save({_VALUES: values}, metadata)))
        (new / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _sorted(content: bytes) -> bytes:
    """Return safetensors with a sorted header: the library writes metadata in a random order."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True, ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[start:]


def _config(file: Path) -> dict[str, Any]:
    config = file.with_name(CONFIG)
    if not config.is_file():
        rule = f"must lie beside its {CONFIG}"
        raise missing_file("path", rule, str(file))
    record = reading.read_record(config, rule=f"must hold a readable {CONFIG}")
    if record.get("peft_type") not in (_SINGLE, _MULTITASK):
        rule = f"must be an adapter of the type {_SINGLE} or {_MULTITASK}"
        received = shortened(repr(record.get("peft_type")))
        raise invalid("path", rule, f"peft_type={received} in {config}")
    return record


def _header(
    tensors: SafeTensors, config: Mapping[str, Any], file: Path
) -> tuple[tuple[int, int], dict[str, Any]]:
    multitask = config["peft_type"] == _MULTITASK
    missing = {_VALUES, *((_COLS, _ROWS) if multitask else ())} - set(tensors.tensors)
    if missing:
        raise damaged(file, f"must hold the tensor {sorted(missing)[0]}")
    dtype, shape = tensors.tensors[_VALUES].dtype, tensors.tensors[_VALUES].shape
    if not dtype.startswith(("F", "BF")):
        raise invalid("prompt", "must be floating-point", f"dtype={dtype} in {file}")
    check_header(shape, np.dtype(np.float32), where=f" in {file}")
    length, parts = config.get("num_virtual_tokens"), config.get("num_transformer_submodules")
    parts = parts or (2 if config.get("task_type") == "SEQ_2_SEQ_LM" else 1)
    if not type(length) is type(parts) is int or length < 1 or shape[0] != length * parts:
        shown = f"{shortened(repr(length), 40)} x {shortened(repr(parts), 40)}"
        rule = f"must hold num_virtual_tokens x num_transformer_submodules rows ({shown})"
        raise invalid("path", rule, f"shape={shape} in {file}")
    if multitask:
        cols, rows = (list(tensors.tensors[name].shape) for name in (_COLS, _ROWS))
        fits = len(cols) == len(rows) == 3 and cols[0] == rows[0] and cols[2] == rows[1]
        if not fits or (cols[1], rows[2]) != shape:
            rule = f"must hold task factors that multiply to {shape}"
            raise invalid("path", rule, f"{_COLS} {cols}, {_ROWS} {rows} in {file}")
    return (length, shape[1]), _provenance(tensors, config, parts, file)


def _provenance(
    tensors: SafeTensors, config: Mapping[str, Any], parts: int, file: Path
) -> dict[str, Any]:
    kept = tensors.metadata.get(_PROVENANCE)
    if kept is None:
        known = {"peft_type": config["peft_type"]}
        if config.get("base_model_name_or_path"):
            known["base_model"] = config["base_model_name_or_path"]
        if config["peft_type"] == _MULTITASK and parts > 1:
            known["left_out"] = "the decoder's prompt"
        return known
    rule = "must hold its provenance as a JSON object"
    record = reading.parse_json(kept, file, place=_PROVENANCE, rule=rule, finite=False)
    if not isinstance(record, dict):
        raise damaged(file, rule, f"a {type(record).__name__}")
    return record


def _tensor(tensors: SafeTensors, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # of float64; what is not finite is refused later
        return tensors.read(name).astype(np.float32, copy=False)
