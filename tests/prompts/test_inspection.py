import json
import subprocess
import sys

import numpy as np
import pytest
import toy
from typer.testing import CliRunner

from keras_spot import backbones, cli, prompts
from keras_spot.prompts import Prompt, inspection
from keras_spot.prompts.inspection import inspect_prompt, nearest_tokens

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(50, 8)).astype("float32")
VALUES = (1000 * RNG.normal(size=(6, 8))).astype("float32")


def slowly(values, table, top):
    """Every cosine in float64, sorted; of equals the lower id first."""
    ids, cosines = [], []
    for x in values.astype("float64"):
        row = []
        for i, e in enumerate(table.astype("float64")):
            size = np.linalg.norm(x) * np.linalg.norm(e)
            row.append((-(x @ e) / size if size else 0.0, i))
        ids.append([i for _, i in sorted(row)[:top]])
        cosines.append([-c for c, _ in sorted(row)[:top]])
    return np.array(ids), np.array(cosines)


@pytest.mark.parametrize("block", [1, 7, 50, 8192])
@pytest.mark.parametrize("top", [1, 5, 50])
def test_nearest_tokens_are_those_of_a_slow_loop(monkeypatch, block, top):
    monkeypatch.setattr(inspection, "_BLOCK", block)
    ids, cosines = nearest_tokens(VALUES, TABLE, top)
    expected_ids, expected_cosines = slowly(VALUES, TABLE, top)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(cosines, expected_cosines, atol=1e-6)


@pytest.mark.parametrize("block", [2, 8192])
def test_equals_and_zeros(monkeypatch, block):
    monkeypatch.setattr(inspection, "_BLOCK", block)
    table = np.array([[0, 0], [1, 0], [2, 0], [-1, 0], [3, 0]], "float32")
    ids, cosines = nearest_tokens([[5.0, 0.0], [0.0, 0.0]], table, 5)
    assert ids.tolist() == [[1, 2, 4, 0, 3], [0, 1, 2, 3, 4]]
    assert cosines.tolist() == [[1, 1, 1, 0, -1], [0] * 5]


def test_a_large_vocabulary_is_never_held_twice():
    class Table:
        """A vocabulary of 250,000, its vectors the ids' bits, that is only where one looks."""

        shape = (250_000, 18)
        largest = 0

        def __getitem__(self, key):
            ids = np.arange(*key.indices(self.shape[0]))
            Table.largest = max(Table.largest, len(ids))
            return 2 * (ids[:, None] >> np.arange(18) & 1) - 1

    ids, cosines = nearest_tokens(Table()[249_000:249_001], Table(), 1)
    assert (ids.tolist(), round(float(cosines[0, 0]), 6)) == ([[249_000]], 1.0)
    assert Table.largest == inspection._BLOCK


@pytest.mark.parametrize(
    ("values", "top", "message"),
    [
        (VALUES, 0, "`top` must be from 1 to the 50 tokens there are. Received: top=0"),
        (VALUES, 51, "`top` must be from 1 to the 50 tokens there are. Received: top=51"),
        (VALUES[:, :3], 5, "`values` must have the embeddings' width 8. Received: shape=(6, 3)"),
    ],
)
def test_bad_arguments(values, top, message):
    with pytest.raises(ValueError) as error:
        nearest_tokens(values, TABLE, top)
    assert str(error.value) == message


def test_a_report_without_a_backbone():
    report = inspect_prompt(Prompt(VALUES, {"task": "glue/rte"}))
    norms = np.linalg.norm(VALUES.astype("float64"), axis=1)
    assert report == {
        "shape": [6, 8],
        "norms": {"min": norms.min(), "median": np.median(norms), "max": norms.max()},
        "provenance": {"task": "glue/rte"},
    }


def test_a_report_with_a_backbone():
    pieces = [f"piece{i}" for i in range(50)]
    prompt = Prompt(TABLE[[3, 9]] * 7, {"backbone": "abc"})
    report = inspect_prompt(prompt, TABLE, pieces=pieces, fingerprint="abc", top=2)
    json.dumps(report)
    assert [row[0]["token"] for row in report["nearest"]] == ["piece3", "piece9"]
    assert [row[0]["id"] for row in report["nearest"]] == [3, 9]
    assert report["nearest"][0][0]["cosine"] == pytest.approx(1)
    assert report["token_norms"]["max"] == pytest.approx(np.linalg.norm(TABLE, axis=1).max())
    assert (report["fits_width"], report["fits_backbone"]) == (True, True)
    assert inspect_prompt(prompt, TABLE, fingerprint="other")["fits_backbone"] is False
    assert inspect_prompt(Prompt(VALUES), TABLE, fingerprint="abc")["fits_backbone"] is None
    other = inspect_prompt(prompt, TABLE[:, :3], fingerprint="abc")
    assert other["fits_width"] is False
    assert "nearest" not in other


def test_googles_prompt_is_much_longer_than_words(shared):
    prompt = prompts.read(shared / "data/prompts/t5_1_1_lm100k_base/sst2.npy")
    report = inspect_prompt(prompt)
    assert report["shape"] == [100, 768]
    assert report["norms"] == {
        "min": pytest.approx(343.61, abs=0.01),
        "median": pytest.approx(1351.75, abs=0.01),
        "max": pytest.approx(2177.15, abs=0.01),
    }


# === The command ===


def command(*words):
    result = CliRunner().invoke(cli.app, ["inspect", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_command_without_a_backbone_needs_no_tensorflow(tmp_path):
    path = prompts.write(tmp_path / "p.npz", VALUES, {"task": "glue/rte"})
    code = (
        "import sys; from keras_spot import cli\n"
        "try: cli.main()\n"
        "finally: assert not {'tensorflow', 'keras', 'fsspec', 'safetensors'} & set(sys.modules)"
    )
    words = [sys.executable, "-c", code, "inspect", str(path), "--json"]
    actual = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(actual.stdout) == inspect_prompt(prompts.read(path))
    shown = command(path)
    assert "[6, 8]" in shown
    assert "glue/rte" in shown


def test_the_command_with_a_backbone(tmp_path, monkeypatch, tokenizer):
    backbone = toy.shallow(tokenizer.vocabulary_size() + 8)
    monkeypatch.setattr(backbones, "load", lambda name, dtype=None: (backbone, tokenizer))
    table = np.asarray(backbone.token_embedding.embeddings)
    ids = [tokenizer.token_to_id(piece) for piece in ("\u2581sentence", "\u2581a")]
    provenance = {"backbone": backbones.fingerprint(backbone)}
    path = prompts.write(tmp_path / "p.npz", 9 * table[ids], provenance)
    report = json.loads(command(path, "--backbone", "toy", "--json", "--top", 2))
    assert [row[0]["id"] for row in report["nearest"]] == ids
    assert [row[0]["token"] for row in report["nearest"]] == ["\u2581sentence", "\u2581a"]
    assert (report["fits_width"], report["fits_backbone"]) == (True, True)
    norms = np.linalg.norm(table[: tokenizer.vocabulary_size()], axis=1)
    assert report["token_norms"]["max"] == pytest.approx(norms.max())
    shown = command(path, "--backbone", "toy")
    assert "\u2581sentence (1.00)" in shown
    assert "fits backbone" in shown
    alone = json.loads(command("--backbone", "toy", "--json"))
    assert alone["fingerprint"] == provenance["backbone"]
    assert alone["parameters"] == sum(weight.size for weight in backbone.get_weights())
    assert (alone["hidden_dim"], alone["vocabulary_size"]) == (16, tokenizer.vocabulary_size() + 8)
    assert alone["token_norms"]["max"] == pytest.approx(np.linalg.norm(table, axis=1).max())
    assert provenance["backbone"] in command("--backbone", "toy")


def test_the_command_with_nothing_to_look_at():
    with pytest.raises(ValueError) as error:
        command()
    rule = "`path` must be given, or `--backbone`, or `--task`. "
    assert str(error.value) == f"{rule}Received: none of them"
