import json

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_spot import cli, prompts
from keras_spot.prompts import Prompt, hub

huggingface_hub = pytest.importorskip("huggingface_hub")

VALUES = np.arange(6, dtype="float32").reshape(2, 3)
PROVENANCE = {
    "backbone": "0123456789abcdef",
    "base_model": "google/t5-base-lm-adapt",
    "score": 91.5,
    "step": 500,
    "task": "glue/sst2 | movies",
    "versions": {"keras_spot": "0.1.0", "numpy": "2.0"},
}
CARD = """\
---
base_model: google/t5-base-lm-adapt
library_name: peft
tags:
- keras_spot
- soft-prompt
- prompt-tuning
- t5
---

# sst2

A soft prompt of 2 tokens for a frozen T5 of width 3, written by keras_spot.
It is good for `google/t5-base-lm-adapt` (fingerprint `0123456789abcdef`) alone.

| provenance | |
|---|---|
| backbone | 0123456789abcdef |
| base_model | google/t5-base-lm-adapt |
| score | 91.5 |
| step | 500 |
| task | glue/sst2 \\| movies |
| versions | {"keras_spot": "0.1.0", "numpy": "2.0"} |

## Use

With keras_spot, which takes it from `prompt.npz`:

```python
import keras_spot

model = keras_spot.build("hf://google/t5-base-lm-adapt", prompt_init="hf://owner/sst2")
print(model.generate(["a text in the form of the task"]))
```

With Transformers and PEFT, which take it from `adapter_model.safetensors`:

```python
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

base = AutoModelForSeq2SeqLM.from_pretrained("google/t5-base-lm-adapt")
model = PeftModel.from_pretrained(base, "owner/sst2")
```

The same prompt serves as the start of another task: `keras_spot.build(..., prompt_init=...)`, then
`fit`.
"""


def test_the_card():
    assert hub.card(Prompt(VALUES, PROVENANCE), "owner/sst2") == CARD


def test_the_card_of_a_prompt_of_unknown_making():
    text = hub.card(Prompt(VALUES), "owner/p")
    assert text.startswith("---\nlibrary_name: peft\n")
    assert "It is good for the T5 that it was trained with alone." in text
    assert "Of its making nothing is recorded." in text
    assert 'keras_spot.build(backbone, prompt_init="hf://owner/p")' in text


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A stand-in for the hub: repositories are folders, and calls are noted."""
    calls = []

    class Api:
        def create_repo(self, repository, *, private, exist_ok):
            calls.append(("create", repository, private, exist_ok))

        def list_repo_files(self, repository):
            target = tmp_path / "hub" / repository
            return sorted(file.name for file in target.iterdir()) if target.exists() else []

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            calls.append(("upload", repo_id, commit_message))
            target = tmp_path / "hub" / repo_id
            target.mkdir(parents=True, exist_ok=True)
            for file in folder_path.iterdir():
                (target / file.name).write_bytes(file.read_bytes())

    def snapshot_download(repository, *, revision, allow_patterns):
        calls.append(("download", repository, revision))
        return str(tmp_path / "hub" / repository)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return tmp_path / "hub", calls


def test_push_and_pull(server, tmp_path):
    folder, calls = server
    path = prompts.write(tmp_path / "p.npz", VALUES, {"task": "glue/sst2"})
    base = "google/t5-base-lm-adapt"
    assert hub.push_prompt(path, "owner/sst2", base_model=base, private=True) == "hf://owner/sst2"
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    names += ["keras_spot.json", "prompt.npz"]
    assert sorted(f.name for f in (folder / "owner/sst2").iterdir()) == names
    config = json.loads((folder / "owner/sst2/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base

    actual = hub.pull_prompt("owner/sst2@v1")
    assert actual.values.tobytes() == VALUES.tobytes()
    assert actual.provenance == {"task": "glue/sst2", "base_model": base}
    assert calls == [
        ("create", "owner/sst2", True, True),
        ("upload", "owner/sst2", "Upload a soft prompt"),
        ("download", "owner/sst2", "v1"),
    ]
    (folder / "owner/sst2/prompt.npz").unlink()
    assert hub.pull_prompt("owner/sst2").provenance == actual.provenance


def test_the_commands(server, tmp_path):
    path = prompts.write(tmp_path / "p.npz", VALUES, {"task": "glue/sst2"})
    for words in (
        ["push", path, "owner/sst2", "--base-model", "google/t5", "--private"],
        ["pull", "owner/sst2", tmp_path / "q.npz"],
    ):
        result = CliRunner().invoke(cli.app, [str(word) for word in words])
        assert result.exit_code == 0
    actual = prompts.read(tmp_path / "q.npz")
    assert actual.values.tobytes() == VALUES.tobytes()
    assert actual.provenance == {"task": "glue/sst2", "base_model": "google/t5"}


def test_a_model_is_pushed_with_its_fingerprint(server):
    class Model:
        def save_prompt(self, path):
            return prompts.write(path, VALUES, {"backbone": "abc"})

    hub.push_prompt(Model(), "owner/p")
    hub.push_prompt(Prompt(VALUES, {"backbone": "abc"}), "owner/q")
    assert hub.pull_prompt("owner/p").provenance == {"backbone": "abc"}
    assert hub.pull_prompt("owner/q").provenance == {"backbone": "abc"}


def test_what_goes_wrong(server, monkeypatch):
    for name in ("sst2", "a/b/c", "https://a/b"):
        with pytest.raises(ValueError) as error:
            hub.push_prompt(Prompt(VALUES), name)
        assert str(error.value) == (
            f"`repository` must be owner/name. Received: repository={name!r}"
        )
    with pytest.raises(ValueError, match=r"^`repository` must be owner/name\[@revision\]\. Rec"):
        hub.pull_prompt("sst2")

    def refuse(self, *args, **kwargs):
        raise OSError("403 Forbidden\nand more lines")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(ConnectionError) as error:
        hub.push_prompt(Prompt(VALUES), "owner/p")
    assert str(error.value) == (
        "`repository` must be on a hub that answers and lets you write. "
        "Received: owner/p (403 Forbidden)"
    )


@pytest.mark.parametrize("name", ["README.md", "prompt.npz", "keras_spot.json"])
def test_files_of_another_on_the_hub_are_not_replaced(server, name):
    folder, _ = server
    (folder / "owner/p").mkdir(parents=True)
    (folder / "owner/p" / name).write_text("my own")
    (folder / "owner/p/notes.txt").write_text("notes")
    prompt = Prompt(VALUES)
    with pytest.raises(ValueError) as error:
        hub.push_prompt(prompt, "owner/p")
    assert str(error.value) == (
        "`repository` must be new or hold a prompt pushed from here, or `overwrite` be set to "
        f"replace it. Received: owner/p (holds {name})"
    )
    assert (folder / "owner/p" / name).read_text() == "my own"
    hub.push_prompt(prompt, "owner/p", overwrite=True)
    hub.push_prompt(Prompt(VALUES + 1), "owner/p")
    np.testing.assert_array_equal(prompts.read(folder / "owner/p").values, VALUES + 1)
    (folder / "owner/p/README.md").write_text("a better card")
    with pytest.raises(ValueError, match=r"holds README\.md"):
        hub.push_prompt(prompt, "owner/p")
    assert (folder / "owner/p/notes.txt").read_text() == "notes"
