"""A prompt as P more words: the folders for transformers and CTranslate2."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from export_toys import STYLES, TEXTS, P, toy_model

from keras_spot import backbones
from keras_spot.base.errors import InvalidArgument
from keras_spot.tasks import Task


@pytest.fixture(params=STYLES)
def style(request):
    return request.param


def test_ctranslate2_answers_and_scores_as_the_model_does(tmp_path, tokenizer, style):
    pytest.importorskip("ctranslate2", reason="CTranslate2 runs what was exported for it")
    from keras_spot.serving.engines import open_engine

    names = ["one", "two/b"]
    model = toy_model(tokenizer, style, names)
    task = Task("movies", input="movies sentence: {sentence}", labels=("bad", "good"))
    model.export(tmp_path / "served", "ctranslate2", tasks=[task, None])
    engine = open_engine(tmp_path / "served")
    assert engine.name == "ctranslate2"
    for prompt in (["one", "two/b"] * 2, "two/b"):
        assert engine.generate(TEXTS, prompt) == model.generate(TEXTS, prompt=prompt)
    for length in (1, 12):
        expected = model.generate(TEXTS, max_length=length, prompt="one")
        assert engine.generate(TEXTS, "one", length) == expected
    labels = ["good", "bad", "a fine film"]
    expected = model.ranker.log_likelihoods(TEXTS, labels, prompt="one")
    np.testing.assert_allclose(engine.scores(TEXTS, labels, "one"), expected, 1e-3, 2e-3)
    shares = engine.classify([engine.cards["one"].text({"sentence": "a fine film"})], "one")
    assert list(shares[0]) == ["bad", "good"]
    assert sum(shares[0].values()) == pytest.approx(1.0)
    with pytest.raises(InvalidArgument, match="`prompt` must be of a task with labels"):
        engine.classify(TEXTS, "two/b")
    with pytest.raises(InvalidArgument, match="did you mean 'one'"):
        engine.generate(TEXTS, "onne")


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*")
def test_transformers_gives_the_logits_and_answers_of_the_model(tmp_path, tokenizer, style):
    torch = pytest.importorskip("torch", reason="transformers runs on torch")
    transformers = pytest.importorskip("transformers", reason="transformers runs the folder")
    names = ["one", "two/b"]
    model = toy_model(tokenizer, style, names)
    model.export(tmp_path / "served", "transformers")
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "served").eval()
    spell = transformers.AutoTokenizer.from_pretrained(tmp_path / "served")
    tied = model.backbone.tie_embedding_weights
    assert (theirs.lm_head.weight is theirs.shared.weight) == tied
    words = json.loads((tmp_path / "served" / "task.json").read_text())["words"]
    known = model.backbone.vocabulary_size
    texts = [text.replace("<pad> and </s>, ", "") for text in TEXTS]
    for number, name in enumerate(names):
        ids = spell(
            ["".join(words[name]) + text for text in texts],
            truncation=True,
            padding=True,
            return_tensors="pt",
        )
        for row, own in zip(ids["input_ids"].tolist(), model.token_rows(texts)):
            first = known + number * P
            assert row[: P + len(own)] == [*range(first, first + P), *own]
        answers = spell.batch_decode(theirs.generate(**ids), skip_special_tokens=True)
        expected = model.generate(texts, prompt=name)
        assert [answer.replace("<unk>", " ⁇ ") for answer in answers] == expected
    target = np.array([[0, 5, 9, 300]] * len(TEXTS))
    with torch.no_grad():
        logits = theirs(**ids, decoder_input_ids=torch.tensor(target)).logits.numpy()
    if not tied:  # no word of a prompt is likelier than <pad>
        pads = np.broadcast_to(logits[..., :1], logits[..., known:].shape)
        np.testing.assert_allclose(logits[..., known:], pads, rtol=1e-5)
    own = ids["input_ids"][:, P:].numpy(), ids["attention_mask"][:, P:].numpy()
    states, mask = model.forward_pass.encode(*own, np.full(len(TEXTS), 1))
    expected = model.forward_pass.decode(target, np.ones_like(target), states, mask)
    np.testing.assert_allclose(logits[..., :known], expected, 1e-3, 2e-3)


def test_what_computes_in_less_precision_is_merged_in_float32(tmp_path, tokenizer):
    import toy

    from keras_spot.backbones.converters import huggingface
    from keras_spot.model.build import build
    from keras_spot.model.export.merged import in_float32

    backbone = toy.shallow(tokenizer.vocabulary_size() + 28, dtype="bfloat16")
    prompt = np.random.default_rng(1).normal(0, 4, (3, 16))
    model = build(backbone, prompt, tokenizer=tokenizer, input_length=24, target_length=5)
    same = in_float32(model)
    assert in_float32(same) is same
    own = np.asarray(backbone.token_embedding.embeddings.value)
    assert np.array_equal(np.asarray(same.backbone.token_embedding.embeddings.value), own)
    assert np.array_equal(same.prompt, model.prompt.astype(own.dtype))
    if importlib.util.find_spec("ctranslate2"):
        model.export(tmp_path / "fast", "ctranslate2")  # what it writes is compared with the model
    model.export(tmp_path / "hf", "transformers")
    loaded = huggingface.load(tmp_path / "hf", "bfloat16").token_embedding.embeddings.value
    assert np.array_equal(np.asarray(loaded)[: len(own)], own)
    count = sum(weight.shape.num_elements() for weight in backbone.weights)
    # It is stored as the backbone keeps it.
    assert (tmp_path / "hf" / "model.safetensors").stat().st_size < 2.5 * count


def test_a_merged_folder_is_a_backbone_again(tmp_path, tokenizer, style):
    model = toy_model(tokenizer, style)
    model.export(tmp_path / "served", "transformers")
    backbone, loaded = backbones.load(tmp_path / "served")
    assert backbone.vocabulary_size == model.backbone.vocabulary_size + P
    np.testing.assert_array_equal(backbone.token_embedding.embeddings[-P:], model.prompt)
    assert loaded.get_vocabulary() == tokenizer.get_vocabulary()


def test_prompts_with_a_view_of_their_own_are_refused(tmp_path, tokenizer):
    model = toy_model(tokenizer, prompt_attention="prompt")
    for form in ("transformers", "ctranslate2"):
        with pytest.raises(InvalidArgument, match=f"must be 'full' to become {form}.*SavedModel"):
            model.export(tmp_path / "served", form)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["transformers", "ctranslate2", "onnx"])
def test_a_sampler_that_the_engines_do_not_have_is_refused(tmp_path, tokenizer, form):
    model = toy_model(tokenizer)
    model.compile(sampler="beam")
    with pytest.raises(InvalidArgument, match=f"`sampler` must be greedy to become {form}, "):
        model.export(tmp_path / "served", form)
    assert list(tmp_path.iterdir()) == []


def test_what_computes_something_else_is_not_put_in_place(tmp_path, tokenizer, monkeypatch):
    from keras_spot.backbones.converters import huggingface

    model = toy_model(tokenizer)
    config_of = huggingface.config_of
    wrong = {"layer_norm_epsilon": 0.5}
    monkeypatch.setattr(huggingface, "config_of", lambda shape: {**config_of(shape), **wrong})
    with pytest.raises(RuntimeError, match="does not compute what the model does"):
        model.export(tmp_path / "served", "transformers")
    assert list(tmp_path.iterdir()) == []


def test_the_readme_of_a_ctranslate2_folder_runs(tmp_path, tokenizer):
    pytest.importorskip("ctranslate2", reason="CTranslate2 runs what was exported for it")
    model = toy_model(tokenizer)
    task = Task("movies", input="movies sentence: {sentence}", labels=("bad", "good"))
    model.export(tmp_path / "served", "ctranslate2", tasks=task, overwrite=True)
    readme = (tmp_path / "served" / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0]
    run = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys; assert 'keras_spot' not in sys.modules"],
        cwd=tmp_path / "served",
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stderr[-2000:]
    expected = model.generate("movies sentence: a text")
    assert run.stdout.rstrip("\n") == expected
