"""Prompts on the Hugging Face hub: for this package, for PEFT, and with a card for people."""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from keras_spot import prompts
from keras_spot.base import ownership
from keras_spot.base.errors import Unreachable, complaint, invalid
from keras_spot.base.ownership import Kind
from keras_spot.base.types import PathLike
from keras_spot.prompts import Prompt

__all__ = ["card", "pull_prompt", "push_prompt"]

_KIND = Kind("prompt on the hub", is_folder=True)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_CARD = """\
---
{front}---

# {name}

A soft prompt of {length} tokens for a frozen T5 of width {width}, written by keras_spot.
{backbone}

{table}

## Use

With keras_spot, which takes it from `prompt.npz`:

```python
import keras_spot

model = keras_spot.build({backbone_code}, prompt_init="hf://{repository}")
print(model.generate(["a text in the form of the task"]))
```

With Transformers and PEFT, which take it from `adapter_model.safetensors`:

```python
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

base = AutoModelForSeq2SeqLM.from_pretrained({base_code})
model = PeftModel.from_pretrained(base, "{repository}")
```

The same prompt serves as the start of another task: `keras_spot.build(..., prompt_init=...)`, then
`fit`.
"""


class HasPrompt(Protocol):
    """What is used of a `PromptedT5`."""

    def save_prompt(self, path: PathLike, /) -> Path: ...


def push_prompt(
    source: PathLike | Prompt | HasPrompt,
    repository: str,
    *,
    base_model: str | None = None,
    private: bool = False,
    overwrite: bool = False,
) -> str:
    """Upload a prompt to the Hugging Face hub, in one commit; return its address.

    The repository, made if it is missing, gets `prompt.npz` (our own form), a PEFT adapter and
    a card. Who you are is what `hf auth login` or `$HF_TOKEN` says.

    Args:
        source: a path or address of a prompt, a `Prompt`, or a `PromptedT5`.
        repository: `"owner/name"`.
        base_model: the backbone's name on the hub, e.g. `"google/t5-base-lm-adapt"`. Default: the
            provenance's `base_model`.
        private: whether a repository made here is private. Default no.
        overwrite: also replace files of these names that were not pushed from here, or were changed
            since; the hub keeps the older commits.

    Raises:
        InvalidArgument: a name that is none, or such files without `overwrite`.
        Unreachable: the hub does not answer or does not let you write there.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise invalid("repository", "must be owner/name", f"{repository=}")
    with tempfile.TemporaryDirectory() as scratch:
        prompt = _prompt(source, Path(scratch))
        if base_model is not None:
            prompt = Prompt(prompt.values, {**prompt.provenance, "base_model": base_model})
        folder = Path(scratch, "repository")
        prompts.write(folder, prompt.values, prompt.provenance, "peft")
        prompts.write(folder / "prompt.npz", prompt.values, prompt.provenance)
        (folder / "README.md").write_text(card(prompt, repository), encoding="utf-8")
        ownership.mark(folder, _KIND)
        _upload(folder, repository, private, overwrite)
    return f"hf://{repository}"


def pull_prompt(repository: str) -> Prompt:
    """Return the prompt of a repository on the hub, pushed from here or any PEFT adapter.

    Args:
        repository: `"owner/name"`, or `"owner/name@revision"`.

    Raises:
        MissingFile, Unreachable, InvalidArgument: see `prompts.read`.
    """
    if not _REPOSITORY.fullmatch(repository.split("@")[0]):
        raise invalid("repository", "must be owner/name[@revision]", f"{repository=}")
    return prompts.read(f"hf://{repository}")


def card(prompt: Prompt, repository: str) -> str:
    """Return the text of a prompt's card: front matter for the hub, provenance, and how to load it.

    Args:
        prompt: its provenance makes the table; `base_model` and `backbone` (fingerprint) the rest.
        repository: `"owner/name"`.
    """
    import yaml

    base = prompt.provenance.get("base_model")
    front: dict[str, Any] = {"base_model": base} if base else {}
    front["library_name"] = "peft"
    front["tags"] = ["keras_spot", "soft-prompt", "prompt-tuning", "t5"]
    fingerprint = prompt.provenance.get("backbone")
    named = f"`{base}`" if base else "the T5 that it was trained with"
    marked = f" (fingerprint `{fingerprint}`)" if fingerprint else ""
    return _CARD.format(
        front=yaml.safe_dump(front, sort_keys=False),
        name=repository.split("/")[1],
        repository=repository,
        length=prompt.values.shape[0],
        width=prompt.values.shape[1],
        backbone=f"It is good for {named}{marked} alone.",
        table=_table(prompt.provenance),
        backbone_code=json.dumps(f"hf://{base}") if base else "backbone",
        base_code=json.dumps(base) if base else "backbone",
    )


def _table(provenance: Mapping[str, Any]) -> str:
    lines = ["| provenance | |", "|---|---|"]
    for key, value in sorted(provenance.items()):
        shown = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        cells = (" ".join(str(cell).split()).replace("|", "\\|") for cell in (key, shown))
        lines.append("| {} | {} |".format(*cells))
    return "\n".join(lines) if provenance else "Of its making nothing is recorded."


def _prompt(source: PathLike | Prompt | HasPrompt, scratch: Path) -> Prompt:
    if isinstance(source, Prompt):
        return source
    if isinstance(source, (str, os.PathLike)):
        return prompts.read(source)
    return prompts.read(source.save_prompt(scratch / "model.npz"))


def _upload(folder: Path, repository: str, private: bool, overwrite: bool) -> None:
    import huggingface_hub

    api = huggingface_hub.HfApi()
    others: list[str] = []
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        if not overwrite:
            others = _others(api.list_repo_files(repository), repository, folder)
        if not others:
            api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message="Upload a soft prompt"
            )
    except Exception as error:  # of whatever HTTP library the hub's client stands on
        reason = (str(error) or type(error).__name__).splitlines()[0]
        rule = "must be on a hub that answers and lets you write"
        raise Unreachable(complaint("repository", rule, f"{repository} ({reason})")) from error
    if others:
        rule = "must be new or hold a prompt pushed from here, or `overwrite` be set to replace it"
        raise invalid("repository", rule, f"{repository} (holds {ownership.some(others)})")


def _others(names: Iterable[str], repository: str, folder: Path) -> list[str]:
    """Return the names of a repository's files that the folder would replace and are not ours."""
    import huggingface_hub

    taken = sorted({file.name for file in folder.iterdir()} & set(names))
    if not taken:
        return []
    there = Path(huggingface_hub.snapshot_download(repository, revision=None, allow_patterns=taken))
    marker = there / ownership.MARKER
    own = ownership.marked_files(marker.read_bytes(), _KIND) if marker.is_file() else {}
    others = []
    for name in taken:
        with open(there / name, "rb") as stream:
            digest = ownership.digest(stream, (there / name).stat().st_size)
        if own.get(name) != digest and not (own and name == ownership.MARKER):
            others.append(name)
    return others
