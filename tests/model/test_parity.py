"""The same numbers as transformers and PEFT, from the files that they write."""

import json

import numpy as np
import pytest
import safetensors.numpy

from keras_spot import Recipe, backbones
from keras_spot.model import build

torch = pytest.importorskip("torch", reason="parity is with transformers on torch")
transformers = pytest.importorskip("transformers", reason="parity is with transformers' T5")
peft = pytest.importorskip("peft", reason="parity is with PEFT's prompt tuning")

# Of PEFT's own use of transformers, not of ours.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*")

P, ROWS, TOKENS, TARGETS, VOCABULARY = 5, 4, 9, 6, 100
BASE = dict(vocab_size=VOCABULARY, d_model=24, d_kv=6, d_ff=40, num_heads=3, dropout_rate=0.0)
BASE |= dict(decoder_start_token_id=0)
STYLES = {
    "T5 1.0": dict(num_layers=2, feed_forward_proj="relu", tie_word_embeddings=True),
    "T5 1.1": dict(num_layers=3, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "gated, tied": dict(num_layers=2, feed_forward_proj="gated-gelu", tie_word_embeddings=True),
    "relu, untied": dict(num_layers=4, feed_forward_proj="relu", tie_word_embeddings=False),
    "deeper decoder, exact gelu, few buckets": dict(
        num_layers=2,
        num_decoder_layers=3,
        feed_forward_proj="gelu",
        tie_word_embeddings=False,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
    ),
    "mT5": dict(num_layers=2, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}


def hugging_face(style):
    """Return a random model of a style; its head is a matrix of its own where it is untied."""
    kind = "MT5" if style == "mT5" else "T5"
    config = getattr(transformers, f"{kind}Config")(**BASE, **STYLES[style])
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    if not STYLES[style]["tie_word_embeddings"]:
        # transformers from version 5 ties every head when it builds a model.
        model.lm_head.weight = torch.nn.Parameter(model.shared.weight.detach().clone())
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        mean = float(name.endswith("layer_norm.weight"))
        weight.data.normal_(mean, 0.3, generator=generator)
    return model


@pytest.fixture(scope="module", params=STYLES)
def pair(request, tmp_path_factory):
    """Return a model with PEFT's prompt, and ours from the two folders that they save."""
    folder = tmp_path_factory.mktemp("hf")
    theirs = hugging_face(request.param)
    theirs.save_pretrained(folder / "backbone")
    untied = not STYLES[request.param]["tie_word_embeddings"]
    saved = safetensors.numpy.load_file(folder / "backbone" / "model.safetensors")
    assert ("lm_head.weight" in saved) == untied
    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=P, num_transformer_submodules=1
    )
    prompted = peft.get_peft_model(theirs, config)
    generator = torch.Generator().manual_seed(1)
    prompted.prompt_encoder["default"].embedding.weight.data.normal_(0, 1.0, generator=generator)
    prompted.save_pretrained(folder / "prompt")
    ours = build.build(folder / "backbone", folder / "prompt", recipe=Recipe(z_loss=0.0))
    assert ours.backbone.tie_embedding_weights != untied
    return prompted, ours


@pytest.fixture(scope="module")
def batch():
    """Rows of different lengths, padded on the right."""
    rng = np.random.default_rng(0)
    mask = (np.arange(TOKENS) < np.array([[TOKENS], [5], [2], [7]])).astype("int32")
    weight = (np.arange(TARGETS) < np.array([[TARGETS], [3], [1], [4]])).astype("int32")
    y = rng.integers(2, VOCABULARY, (ROWS, TARGETS)).astype("int32") * weight
    x = {
        "encoder_token_ids": rng.integers(2, VOCABULARY, (ROWS, TOKENS)).astype("int32") * mask,
        "encoder_padding_mask": mask,
        "decoder_token_ids": np.pad(y[:, :-1], [[0, 0], [1, 0]]),
        "decoder_padding_mask": weight,
    }
    return x, y, weight


def test_logits_loss_and_gradient(pair, batch):
    import tensorflow as tf

    theirs, ours = pair
    x, y, weight = batch
    labels = torch.tensor(np.where(weight, y, -100), dtype=torch.long)
    out = theirs(
        input_ids=torch.tensor(x["encoder_token_ids"]),
        attention_mask=torch.tensor(x["encoder_padding_mask"]),
        decoder_input_ids=torch.tensor(x["decoder_token_ids"]),
        labels=labels,
    )
    prompt = theirs.prompt_encoder["default"].embedding.weight
    (gradient,) = torch.autograd.grad(out.loss, prompt)

    np.testing.assert_array_equal(ours.prompt, prompt.detach().numpy())
    with tf.GradientTape() as tape:
        logits = ours(x, training=True)
        loss = ours.compute_loss(x, y, logits, weight.astype("float32"))
    (mine,) = tape.gradient(loss, [v.value for v in ours.trainable_variables])
    there = weight.astype(bool)
    np.testing.assert_allclose(
        logits.numpy()[there], out.logits.detach().numpy()[there], rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(float(loss), float(out.loss.detach()), rtol=1e-4)
    largest = np.abs(gradient.numpy()).max()
    assert largest > 1e-3
    np.testing.assert_allclose(mine.numpy(), gradient.numpy(), rtol=1e-4, atol=1e-4 * largest)


def test_greedy_generations(pair, batch):
    theirs, ours = pair
    x, _, _ = batch
    with torch.no_grad():
        expected = theirs.generate(
            input_ids=torch.tensor(x["encoder_token_ids"]),
            attention_mask=torch.tensor(x["encoder_padding_mask"]),
            max_new_tokens=8,
            do_sample=False,
            use_cache=False,  # transformers' cache takes the encoder's depth for the decoder's
        ).numpy()
    start = np.zeros((ROWS, 9), "int32")
    given = start.copy()
    given[:, 0] = 1
    out = ours.generate_step({**x, "decoder_token_ids": start, "decoder_padding_mask": given}, (1,))
    # The end token closes a row here; there padding follows it.
    ids = np.where(out["decoder_padding_mask"], out["decoder_token_ids"], 0)[:, : expected.shape[1]]
    np.testing.assert_array_equal(ids, expected)
    assert len(np.unique(ids)) > 2


@pytest.mark.parametrize("style", ["T5 1.0", "T5 1.1"])
def test_weights_survive_bit_for_bit(style, tmp_path):
    """From torch to Keras to a preset and back, every array."""
    theirs = hugging_face(style)
    theirs.save_pretrained(tmp_path / "hf")
    first, _ = backbones.load(tmp_path / "hf")
    again, tokenizer = backbones.load(backbones.save(first, None, tmp_path / "preset"))
    assert tokenizer is None
    assert backbones.fingerprint(again) == backbones.fingerprint(first)
    theirs = {name: weight.detach().numpy() for name, weight in theirs.named_parameters()}
    expected = sorted(
        (w if name == "shared.weight" or "relative" in name else w.T).tobytes()
        for name, w in theirs.items()
    )
    assert sorted(variable.numpy().tobytes() for variable in again.trainable_weights) == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_files(dtype, tmp_path):
    model = hugging_face("T5 1.1").to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    backbone, tokenizer = backbones.load(tmp_path)
    assert tokenizer is None
    expected = model.state_dict()["decoder.block.2.layer.2.DenseReluDense.wi_1.weight"].float()
    kernel = backbone.decoder_transformer_layers[2].gate_projector.kernel
    assert kernel.dtype == "float32"
    np.testing.assert_array_equal(kernel.numpy(), expected.numpy().T)


def test_heads_that_transformers_tied_by_itself(tmp_path, batch):
    """Version 5 builds T5 1.1 with a tied head whose inputs are not scaled."""
    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config(**BASE, **STYLES["T5 1.1"])
    ).eval()
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in safetensors.numpy.load_file(tmp_path / "model.safetensors")
    backbone, _ = backbones.load(tmp_path)
    assert not backbone.tie_embedding_weights
    table = backbone.token_embedding
    np.testing.assert_array_equal(table.reverse_embeddings.numpy(), table.embeddings.numpy().T)
