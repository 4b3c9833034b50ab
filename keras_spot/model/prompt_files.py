"""A model's prompt to a file and back, with what it was trained on and for."""

from pathlib import Path
from typing import Any

from keras_spot import backbones, prompts
from keras_spot.base.errors import invalid
from keras_spot.base.types import PathLike
from keras_spot.base.versions import versions

__all__ = ["load", "save"]


def save(
    model: Any,
    path: PathLike,
    form: str | None = None,
    prompt: str | int | None = None,
    overwrite: bool = False,
    **provenance: object,
) -> Path:
    """Write a prompt of a `PromptedT5`, see `PromptedT5.save_prompt`."""
    record = {
        "backbone": model.fingerprint,
        "prompt_attention": model.prompt_attention,
        **({} if model.quantization is None else {"quantize": model.quantization}),
        "versions": versions(),
        **provenance,
    }
    values = model.soft_prompt.values(model.prompt_number(prompt))
    return prompts.write(path, values, record, form, overwrite=overwrite)


def load(
    model: Any,
    path: PathLike,
    step: int | str | None = None,
    prompt: str | int | None = None,
) -> None:
    """Replace a prompt of a `PromptedT5`, see `PromptedT5.load_prompt`."""
    number = model.prompt_number(prompt)
    if model.soft_prompt.shared is not None and model.soft_prompt.count > 1:
        rule = "must not be replaced alone where prompts share a part"
        raise invalid("prompt", rule, f"prompt={prompt!r}")
    file = prompts.read(path, step)
    backbones.check_fingerprint(file, model.fingerprint)
    recorded = file.provenance.get("prompt_attention", model.prompt_attention)
    if recorded != model.prompt_attention:
        rule = f"must hold a prompt trained with prompt_attention={model.prompt_attention!r}"
        raise invalid("path", rule, f"{recorded!r} in {file.path}")
    shape = (model.prompt_length, model.backbone.hidden_dim)
    if file.values.shape != shape:
        rule = f"must hold a prompt of shape {shape}"
        raise invalid("path", rule, f"shape={file.values.shape} in {file.path}")
    model.soft_prompt.start(number, file.values, trained=True)
