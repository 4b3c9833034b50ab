"""The script of the model card's tables, on a toy."""

from pathlib import Path

import pytest
import toy

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow  # trains a dozen prompts
def test_the_tables_of_the_model_card(tokenizer, data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from tools.tiny_t5 import card

    preset = tmp_path / "preset"
    toy.shallow(tokenizer.vocabulary_size()).save_to_preset(preset)
    tokenizer.save_to_preset(preset)
    (preset / "recipe.json").write_text('{"prompt_length": 3, "batch_size": 4}')
    for name, value in {
        "SOURCES": {"synthetic/movies": "train"},
        "TARGETS": {"synthetic/products": (100, "synthetic/movies")},
        "SIZES": (4,),
        "SEEDS": (0, 1),
        "RATES": (0.1,),
        "SOURCE_RATES": (0.1,),
        "FEW": 4,
        "FEW_SEEDS": range(2),
        "FEW_STEPS": (1, 3),
    }.items():
        monkeypatch.setattr(card, name, value)
    monkeypatch.setattr(card, "prompt_path", lambda args, *_: args.work_dir / "source.npz")
    words = ["--data-dir", data_dir, "--work-dir", str(tmp_path), "--backbone", str(preset)]
    words += ["--steps", "2", "--source-steps", "5", "--input-length", "16", "--batch-size", "2"]
    words += ["--source-batch", "2", "--source-limit", "6", "--limit", "6", "--dtype", "float32"]
    card.main(words)
    card.main(words)  # nothing is left to do
    assert len(card.lines(tmp_path / "results.jsonl")) == 4
    few = card.lines(tmp_path / "few.jsonl")
    assert len(few) == 4
    assert all(set(run["scores"]) == {"0", "1", "3"} for run in few)
    card.main([*words, "--table"])
    printed = capsys.readouterr().out
    assert "| synthetic/products |" in printed
    assert "**4 target examples, 2 seeds**" in printed
