import json
import subprocess
import sys

import keras_hub
import pytest
import toy

from keras_spot.model import build

TEXTS = ["movies sentence: a fine film", "", "it broke at once, sadly, and nobody answered"]

CLIENT = """
import json, sys
import tensorflow as tf
import tensorflow_text
model = tf.saved_model.load(sys.argv[1])
texts = json.loads(sys.argv[2])
serve = model.signatures["serving_default"]
answers = [serve(text=tf.constant(block))["outputs"].numpy() for block in (texts, texts[:1])]
ids = model.signatures["generate_ids"](
    encoder_token_ids=tf.constant([[5, 6, 1]]), encoder_padding_mask=tf.constant([[1, 1, 1]])
)
print(json.dumps({
    "all": [a.decode() for a in answers[0]],
    "one": [a.decode() for a in answers[1]],
    "ids": ids["output_ids"].numpy().tolist(),
    "project": [m for m in sys.modules if m.startswith(("keras_spot", "keras_hub", "keras_nlp"))],
}))
"""


@pytest.mark.parametrize("visibility", ["full", "causal"])
def test_a_saved_model_answers_texts_without_this_package(tmp_path, tokenizer, visibility):
    # A table larger than the vocabulary: ids without a piece must not break the server.
    backbone = toy.shallow(tokenizer.vocabulary_size() + 28)
    options = {"prompt_length": 3, "input_length": 12, "prompt_attention": visibility}
    model = build.build(backbone, tokenizer=tokenizer, **options)
    model.export(tmp_path / "served", max_length=5)
    command = [sys.executable, "-c", CLIENT, str(tmp_path / "served"), json.dumps(TEXTS)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    actual = json.loads(run.stdout.splitlines()[-1])
    assert actual["project"] == []
    expected = model.generate(TEXTS, max_length=5)
    assert actual["all"] == expected
    assert actual["one"] == expected[:1]
    assert len(actual["ids"][0]) == 5


def test_a_folder_that_cannot_be_written(tmp_path, tokenizer):
    model = build.build(
        toy.shallow(tokenizer.vocabulary_size()), tokenizer=tokenizer, prompt_length=2
    )
    (tmp_path / "file").write_text("old")
    with pytest.raises(NotADirectoryError):
        model.export(tmp_path / "file")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        model.export(tmp_path / "file" / "served")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_model_without_tokenizer_is_refused(tmp_path):
    model = build.build(toy.shallow(64), prompt_length=2)
    with pytest.raises(ValueError, match=r"`model` must have a preprocessor to take texts"):
        model.export(tmp_path / "served")
    assert not (tmp_path / "served").exists()
    for length in (0, -1, 2.5):
        with pytest.raises(ValueError, match=r"`max_length` must be a positive integer. Received"):
            model.export(tmp_path / "served", max_length=length)


def test_a_sampler_that_draws_is_exported_with_its_state(tmp_path, tokenizer):
    import tensorflow as tf

    backbone = toy.shallow(tokenizer.vocabulary_size())
    model = build.build(backbone, "uniform", tokenizer=tokenizer, prompt_length=2, input_length=12)
    model.compile(sampler=keras_hub.samplers.TopKSampler(k=20, temperature=5.0, seed=1))
    model.export(tmp_path / "served", max_length=5)
    serve = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    ids = {serve(text=tf.constant(TEXTS))["output_ids"].numpy().tobytes() for _ in range(3)}
    assert len(ids) > 1
