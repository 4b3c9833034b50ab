"""Backbones from other people's files: what is in them, and what may be wrong with them."""

import functools
import json
import shutil
import sys

import numpy as np
import pytest
import safetensors.numpy
import toy

from keras_spot import backbones, cli
from keras_spot.backbones.converters import names, positions, sources
from keras_spot.backbones.converters.architecture import Architecture
from keras_spot.backbones.converters.huggingface import architecture_of
from keras_spot.backbones.converters.shortcuts import SHORTCUTS, T5_VOCABULARY
from keras_spot.base import remote
from keras_spot.model import build

CONFIG = {
    "model_type": "t5",
    "vocab_size": 704,
    "d_model": 16,
    "d_kv": 6,
    "d_ff": 24,
    "num_layers": 1,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
SHAPES = {
    "shared": (704, 16),
    "lm_head": (704, 16),
    "relative_attention_bias": (32, 2),
    "o": (16, 12),
    **dict.fromkeys("qkv", (12, 16)),
    **dict.fromkeys(("wi", "wi_0", "wi_1"), (24, 16)),
    "wo": (16, 24),
}


def tensors(config, seed=0):
    """Return random tensors under Hugging Face's names."""
    rng = np.random.default_rng(seed)
    rows = names.HUGGING_FACE.expand(architecture_of(config))
    return {
        name: rng.normal(0, 0.3, SHAPES.get(name.split(".")[-2], (16,))).astype("float32")
        for name in rows
    }


def write_hugging_face(folder, tokenizer=None, arrays=None, **changes):
    """Write a Hugging Face folder; a change to None takes a key out of config.json."""
    config = {k: v for k, v in {**CONFIG, **changes}.items() if v is not None}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    arrays = tensors(config) if arrays is None else arrays
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    if tokenizer is not None:
        (folder / "spiece.model").write_bytes(tokenizer.proto)
    return folder


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory, tokenizer):
    """A Hugging Face folder, not to be changed."""
    return write_hugging_face(tmp_path_factory.mktemp("hf") / "hf", tokenizer)


@pytest.fixture
def spoiled(hugging_face, tmp_path):
    """A copy of it that a test may break."""
    return shutil.copytree(hugging_face, tmp_path / "spoiled")


def check(source, message, error=ValueError, **options):
    """Loading must fail with just this message, where {folder} is the source."""
    with pytest.raises(error) as caught:
        backbones.load(source, **options)
    assert str(caught.value) == message.replace("{folder}", str(source))


# === Names ===


@pytest.mark.parametrize("table", ["HUGGING_FACE", "T5X"])
@pytest.mark.parametrize(("gated", "tied"), [(True, False), (False, True)])
def test_a_name_table_covers_every_weight_once(table, gated, tied):
    backbone = toy.backbone(
        gain=None, dropout=0.0, use_gated_activation=gated, tie_embedding_weights=tied
    )
    shape = Architecture(64, 16, 2, 2, 2, 8, 24, "relu", gated, tied)
    paths = getattr(names, table).expand(shape).values()

    def step(owner, attribute):
        return owner[int(attribute)] if attribute.isdecimal() else getattr(owner, attribute)

    results = [id(functools.reduce(step, path.split("."), backbone)) for path in paths]
    assert sorted(results) == sorted(id(weight) for weight in backbone.weights)


# === Relative positions ===


@pytest.mark.parametrize(("buckets", "distance"), [(4, 8), (8, 16), (32, 128)])
@pytest.mark.parametrize("two_way", [True, False])
def test_32_buckets_say_what_fewer_do(buckets, distance, two_way):
    import numpy_t5

    table = np.arange(2.0 * buckets).reshape(buckets, 2)
    spread = positions.in_32_buckets(table, two_way, distance)
    for relative in range(-300, 301):
        (cell,) = positions.bucket(np.array([relative]), two_way, 32, 128)
        assert cell == numpy_t5.bucket(relative, two_way, 32, 128)
        expected = table[numpy_t5.bucket(relative, two_way, buckets, distance)]
        np.testing.assert_array_equal(spread[cell], expected)


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_buckets_are_those_of_keras_hub(stack):
    attention = getattr(toy.backbone(), f"{stack}_transformer_layers")[0].self_attention
    table = attention.relative_attention_bias.numpy()
    relative = np.arange(300) - np.arange(300)[:, None]
    expected = table[positions.bucket(relative, stack == "encoder", 32, 128)]
    bias = np.asarray(attention.compute_bias(300, 300))
    np.testing.assert_array_equal(bias[0], expected.transpose(2, 0, 1))


# === Hugging Face ===


def test_hugging_face_to_preset_and_back(hugging_face, tokenizer, tmp_path):
    first, _ = backbones.load(hugging_face)
    assert first.get_config()["activation"]["config"] == "keras_hub>gelu_approximate"
    folder = backbones.save(first, backbones.load(first, tokenizer)[1], tmp_path / "preset")
    again, pieces = backbones.load(folder)
    for mine, other in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())
    assert list(pieces("a fine film")) == list(tokenizer("a fine film"))
    assert backbones.fingerprint(first) == backbones.fingerprint(again)


def test_shards_copies_and_unused_weights(tmp_path, hugging_face):
    arrays = tensors(CONFIG)
    arrays["encoder.embed_tokens.weight"] = arrays["shared.weight"]
    arrays["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = np.ones(4)
    folder = write_hugging_face(tmp_path / "shards", arrays=arrays)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i, name in enumerate(arrays):
        weight_map[name] = f"model-{i % 3}.safetensors"
    for file in set(weight_map.values()):
        part = {name: arrays[name] for name, place in weight_map.items() if place == file}
        safetensors.numpy.save_file(part, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    whole, parts = backbones.load(hugging_face)[0], backbones.load(folder)[0]
    assert backbones.fingerprint(whole) == backbones.fingerprint(parts)

    (folder / "model-1.safetensors").unlink()
    check(
        folder,
        "`backbone` must hold every shard that model.safetensors.index.json names. "
        "Received: missing model-1.safetensors in {folder}",
    )
    safetensors.numpy.save_file({"x": np.ones(1)}, folder / "model-1.safetensors")
    missing = min(name for name, place in weight_map.items() if place == "model-1.safetensors")
    check(
        folder,
        "`backbone` must hold in model-1.safetensors what model.safetensors.index.json says. "
        f"Received: missing {missing} in {{folder}}",
    )


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"model_type": "t5"}, True),
        ({"model_type": "t5", "tie_word_embeddings": False}, False),
        ({"model_type": "t5", "tie_word_embeddings": True, "scale_decoder_outputs": False}, False),
        ({"model_type": "t5", "tie_word_embeddings": None}, True),
        ({"model_type": "mt5"}, False),
        ({"model_type": "mt5", "tie_word_embeddings": True}, True),
        (
            {"model_type": "mt5", "tie_word_embeddings": True, "transformers_version": "5.24.0"},
            False,
        ),
    ],
)
def test_what_config_json_says_of_the_head(config, tied):
    assert architecture_of(config).tied == tied


CONFIGS = {
    "{": "`backbone` must hold a readable config.json. Received: {folder}/config.json "
    "(Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
    "{}": "`backbone` must be a KerasHub preset, a Hugging Face T5 or a T5X checkpoint. "
    "Received: neither in {folder}",
    '{"model_type": "bert"}': "`backbone` must be a T5 or mT5. "
    "Received: model_type='bert' in {folder}/config.json",
    '{"model_type": "t5", "decoder_start_token_id": 2}': "`backbone` must have "
    "decoder_start_token_id=0. Received: 2 in {folder}/config.json",
    '{"model_type": "t5", "d_model": "wide"}': "`hidden_dim` must be a positive integer. "
    "Received: hidden_dim='wide' in {folder}/config.json",
    '{"model_type": "t5", "relative_attention_max_distance": 16}': "`max_distance` must be greater "
    "than half of the 32 buckets, at most 65536. Received: max_distance=16 in {folder}/config.json",
    '{"model_type": "t5", "relative_attention_num_buckets": 2}': "`buckets` must be at least 4. "
    "Received: buckets=2 in {folder}/config.json",
    '{"model_type": "t5", "layer_norm_epsilon": "small"}': "`epsilon` must be a number in [0, 1). "
    "Received: epsilon='small' in {folder}/config.json",
    '{"model_type": "t5", "feed_forward_proj": "gated-mish"}': "`feed_forward_proj` must be one "
    "of relu, gelu, gelu_python, gelu_new, gelu_pytorch_tanh, silu, swish, perhaps after gated-. "
    "Received: 'gated-mish' in {folder}/config.json",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_a_config_of_another_model(text, spoiled):
    (spoiled / "config.json").write_text(text)
    check(spoiled, CONFIGS[text])


def test_pickled_weights_are_never_read(spoiled):
    (spoiled / "model.safetensors").rename(spoiled / "pytorch_model.bin")
    check(
        spoiled,
        "`backbone` must hold model.safetensors or model.safetensors.index.json (pickled weights "
        "are never read). Received: config.json, pytorch_model.bin, spiece.model in {folder}",
    )


@pytest.mark.parametrize("size", [0, 7, 200, -1])
def test_a_truncated_safetensors_file(size, spoiled):
    file = spoiled / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError) as caught:
        backbones.load(spoiled)
    start = f"`backbone` must hold a whole model.safetensors. Received: {file} ("
    assert str(caught.value).startswith(start)


def test_missing_left_over_and_misshapen_weights(tmp_path):
    arrays = tensors(CONFIG)
    for name in list(arrays):
        if ".0.layer.2." in name:
            arrays[name.replace(".0.", ".7.")] = arrays.pop(name)
    check(
        write_hugging_face(tmp_path / "a", arrays=arrays),
        "`backbone` must hold every weight of a T5 and no others. Received: missing "
        "decoder.block.0.layer.2.DenseReluDense.wi_0.weight, "
        "decoder.block.0.layer.2.DenseReluDense.wi_1.weight, "
        "decoder.block.0.layer.2.DenseReluDense.wo.weight and 1 more; left over "
        "decoder.block.7.layer.2.DenseReluDense.wi_0.weight, "
        "decoder.block.7.layer.2.DenseReluDense.wi_1.weight, "
        "decoder.block.7.layer.2.DenseReluDense.wo.weight and 1 more in {folder}",
    )
    check(
        write_hugging_face(tmp_path / "b", d_kv=8),
        "`backbone` must hold encoder.block.0.layer.0.SelfAttention.q.weight for a weight of "
        "shape (16, 16). Received: shape=(16, 12) in {folder}",
    )
    arrays = {**tensors(CONFIG), "encoder.embed_tokens.weight": np.ones((704, 16), "float32")}
    check(
        write_hugging_face(tmp_path / "c", arrays=arrays),
        "`backbone` must hold shared.weight and encoder.embed_tokens.weight with equal values. "
        "Received: two different ones in {folder}",
    )
    check(
        write_hugging_face(tmp_path / "d", arrays=tensors(CONFIG), tie_word_embeddings=True),
        "`backbone` must hold shared.weight and lm_head.weight with equal values. "
        "Received: two different ones in {folder}",
    )
    check(
        write_hugging_face(tmp_path / "e", relative_attention_max_distance=256),
        "`backbone` must have relative positions that 32 buckets up to a distance of 128 tell "
        "apart. Received: 32 buckets up to 256",
    )


# === T5X ===


def write_t5x(folder, arrays):
    """Write a T5X checkpoint whose arrays all lie in the msgpack file."""
    msgpack = pytest.importorskip("msgpack", reason="the extra [t5x]")
    pytest.importorskip("tensorstore", reason="the extra [t5x]")
    target = {}
    for name, values in arrays.items():
        *branches, leaf = name.split(".")
        place = functools.reduce(lambda tree, key: tree.setdefault(key, {}), branches, target)
        packed = msgpack.packb((values.shape, values.dtype.name, values.tobytes()))
        place[leaf] = msgpack.ExtType(1, packed)
    tree = {"version": 3, "optimizer": {"target": target, "state": {"step": 3}}}
    folder.mkdir()
    (folder / "checkpoint").write_bytes(msgpack.packb(tree))
    return folder


def t5x_tensors(gated, tied, heads_apart=False, seed=0):
    """Return random tensors under T5X's names: H 12, 3 heads of 5, 4 buckets, L 3 and 2."""
    shape = Architecture(40, 12, 3, 2, 3, 5, 20, "relu", gated, tied, 4, 8)
    rng, arrays = np.random.default_rng(seed), {}
    for name in names.T5X.expand(shape):
        parent, last = name.split(".")[-2:]
        size = {"query": (12, 15), "key": (12, 15), "value": (12, 15), "out": (15, 12)}.get(parent)
        size = size or {"wo": (20, 12), "logits_dense": (12, 40)}.get(parent)
        size = size or {"embedding": (40, 12), "rel_embedding": (3, 4), "scale": (12,)}.get(last)
        size = size or (12, 20)
        if heads_apart and len(size) == 2 and 15 in size:
            size = (3, 5, 12) if parent == "out" else (12, 3, 5)
        arrays[name] = rng.normal(last == "scale", 0.3, size).astype("float32")
    return arrays


def agree(folder, weights, activation, rows):
    """The logits of a loaded checkpoint are those of the equations, with and without prompt."""
    import numpy_t5

    width = weights["token_embedder.embedding"].shape[1]
    prompt = np.random.default_rng(1).normal(0, 1, (3, width)).astype("float32")
    backbone, _ = backbones.load(folder, max_distance=8)
    model = build.build(backbone, prompt)
    x, _, weight = toy.batch(rows=3, tokens=21, targets=14, vocabulary=rows)
    oracle = numpy_t5.T5(weights, activation, max_distance=8)
    mask, targets = x["encoder_padding_mask"], x["decoder_token_ids"]
    expected = oracle.logits(x["encoder_token_ids"], mask, targets, prompt)
    there = weight.astype(bool)
    np.testing.assert_allclose(np.asarray(model(x))[there], expected[there], rtol=1e-4, atol=1e-4)
    states = backbone(x)["encoder_sequence_output"]
    plain, _ = oracle.encode(x["encoder_token_ids"], mask)
    there = mask.astype(bool)
    np.testing.assert_allclose(np.asarray(states)[there], plain[there], rtol=1e-4, atol=1e-4)


def test_googles_tiny_checkpoint_gives_the_logits_of_the_equations(shared, tmp_path):
    import numpy_t5

    pytest.importorskip("tensorstore", reason="the extra [t5x]")
    from keras_spot.base import t5x_store

    folder = shared / "data" / "t5x" / "tiny_checkpoint_3"
    index = t5x_store.read_index(folder)
    weights = {
        name.removeprefix("target."): t5x_store.read_array(folder, name, index)
        for name in index
        if name.startswith("target.")
    }
    agree(folder, weights, numpy_t5.gelu_tanh, rows=32000)


@pytest.mark.parametrize(
    ("gated", "tied", "activation"), [(True, False, "gelu_new"), (False, True, "relu")]
)
def test_t5x_styles(gated, tied, activation, tmp_path):
    import numpy_t5

    weights = t5x_tensors(gated, tied, heads_apart=gated)
    oracle = {"gelu_new": numpy_t5.gelu_tanh, "relu": numpy_t5.relu}[activation]
    agree(write_t5x(tmp_path / "t5x", weights), weights, oracle, rows=40)


def test_t5x_checkpoints_of_something_else(tmp_path):
    arrays = t5x_tensors(True, False)
    check(
        write_t5x(tmp_path / "a", {"encoder.prompt.prompt.prompt": np.ones((2, 12))}),
        "`backbone` must hold every weight of a T5 and no others. Received: missing "
        "decoder.layers_0.self_attention.query.kernel, encoder.layers_0.attention.query.kernel, "
        "encoder.layers_0.mlp.wi.kernel and 2 more in {folder}",
    )
    arrays.pop("decoder.layers_1.encoder_decoder_attention.out.kernel")
    arrays["decoder.layers_1.bias"] = np.ones(12)
    check(
        write_t5x(tmp_path / "b", arrays),
        "`backbone` must hold every weight of a T5 and no others. Received: missing "
        "decoder.layers_1.encoder_decoder_attention.out.kernel; left over decoder.layers_1.bias "
        "in {folder}",
    )
    check(
        write_t5x(tmp_path / "c", t5x_tensors(True, False)),
        "`activation` must be a known name. Received: activation='gelu_nw' "
        "(did you mean 'gelu_new' or 'gelu'?)",
        activation="gelu_nw",
    )


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_zarr_chunk(damage, shared, tmp_path):
    pytest.importorskip("tensorstore", reason="the extra [t5x]")
    folder = tmp_path / "t5x"
    shutil.copytree(
        shared / "data" / "t5x" / "tiny_checkpoint_3", folder, copy_function=shutil.copyfile
    )
    place = folder / "target.decoder.layers_1.mlp.wo.kernel"
    place.chmod(0o755)
    chunk = place / "0.0"
    content = chunk.read_bytes()
    chunk.unlink()
    if damage == "cut":
        chunk.write_bytes(content[:20])
    with pytest.raises(ValueError) as caught:
        backbones.load(folder, max_distance=8)
    start = f"`path` must hold whole zarr arrays. Received: {place} ("
    assert str(caught.value).startswith(start)
    assert len(str(caught.value).splitlines()) == 1


def test_t5x_names_its_extra(tmp_path, monkeypatch):
    folder = write_t5x(tmp_path / "t5x", t5x_tensors(True, False))
    monkeypatch.setitem(sys.modules, "msgpack", None)
    check(
        folder,
        "`path` must not be a T5X checkpoint where keras-spot[t5x] is not installed. "
        "Received: no msgpack",
        ModuleNotFoundError,
    )


# === Vocabularies ===


def test_a_vocabulary_belongs_to_its_table(hugging_face, tokenizer, t5_tokenizer, tmp_path):
    backbone, own = backbones.load(hugging_face)
    assert own.vocabulary_size() == 700
    check(
        hugging_face,
        "`tokenizer` must have at most as many pieces as the embedding table has rows (704). "
        "Received: 32000 pieces",
        tokenizer=t5_tokenizer,
    )
    file = tmp_path / "no.model"
    file.write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"^`tokenizer` must be a SentencePiece model with <pad>"):
        backbones.load(backbone, file)
    check(
        backbone,
        f"`tokenizer` must exist. Received: {tmp_path / 'none.model'}",
        FileNotFoundError,
        tokenizer=tmp_path / "none.model",
    )


def test_special_pieces_elsewhere(hugging_face, tmp_path):
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e f g h"] * 4),
        model_writer=model,
        vocab_size=20,
        model_type="word",
        pad_id=1,
        eos_id=0,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "turned.model").write_bytes(model.getvalue())
    check(
        hugging_face,
        "`tokenizer` must have <pad> as 0 and </s> as 1. Received: 1 and 0",
        tokenizer=tmp_path / "turned.model",
    )


# === Names and addresses ===


def test_an_unknown_name_gets_the_closest():
    check(
        "t5_1_1_lm100k_bse",
        "`backbone` must be a known name. Received: backbone='t5_1_1_lm100k_bse' "
        "(did you mean 't5_1_1_lm100k_base' or 't5_1_1_lm100k_xl'?)",
    )


def test_the_lm_adapted_sizes_have_names_in_both_homes():
    sizes = ("small", "base", "large", "xl", "xxl")
    assert set(SHORTCUTS) == {f"t5_1_1_lm100k_{s}" for s in sizes} | {
        f"t5-{s}-lm-adapt" for s in sizes
    }


@pytest.fixture
def hub(monkeypatch):
    """Addresses that answer: `hub[url]` is what lies there, `hub.asked` what was asked for."""

    class Hub(dict):
        asked = []

        def fetch(self, path, *, patterns=None):
            if not remote.is_remote(path):
                return remote_fetch(path)
            self.asked.append(remote.address(path))
            if path not in self:
                raise ConnectionError(f"`path` must be on a host that answers. Received: {path}")
            return self[path]

    remote_fetch, made = remote.fetch, Hub()
    monkeypatch.setattr(remote, "fetch", made.fetch)
    return made


def test_a_shortcut_to_a_t5x_checkpoint(hub, tmp_path, t5_tokenizer):
    arrays = t5x_tensors(True, False)
    wide = np.zeros((32128, 12), "float32")
    arrays["token_embedder.embedding"], arrays["decoder.logits_dense.kernel"] = wide, wide.T
    (tmp_path / "spm").write_bytes(t5_tokenizer.proto)
    hub[SHORTCUTS["t5_1_1_lm100k_base"]] = write_t5x(tmp_path / "t5x", arrays)
    hub[T5_VOCABULARY] = tmp_path / "spm"
    backbone, tokenizer = backbones.load("t5_1_1_lm100k_base", max_distance=8)
    assert (backbone.vocabulary_size, tokenizer.vocabulary_size()) == (32128, 32000)


def test_a_shortcut_to_the_hub_takes_its_conversion(hub, hugging_face, spoiled, monkeypatch):
    import types

    import huggingface_hub

    def discussions(self, repo_id, *, author, discussion_type):
        assert (repo_id, discussion_type) == ("google/t5-base-lm-adapt", "pull_request")
        return [
            types.SimpleNamespace(author="someone", git_reference="refs/pr/1"),
            types.SimpleNamespace(author=author, git_reference="refs/pr/2"),
        ]

    monkeypatch.setattr(huggingface_hub.HfApi, "get_repo_discussions", discussions)
    (spoiled / "model.safetensors").unlink()
    hub["hf://google/t5-base-lm-adapt"] = spoiled
    hub["hf://google/t5-base-lm-adapt@refs%2Fpr%2F2"] = hugging_face
    backbone, tokenizer = backbones.load("t5-base-lm-adapt")
    assert (backbone.hidden_dim, tokenizer.vocabulary_size()) == (16, 700)
    assert hub.asked[-1] == "hf://google/t5-base-lm-adapt@refs%2Fpr%2F2"

    def offline(self, *_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "get_repo_discussions", offline)
    with pytest.raises(
        ValueError, match=r"must hold model.safetensors .*pickled weights are never"
    ):
        backbones.load("t5-base-lm-adapt")


def test_presets_at_an_address(hub, hugging_face, tmp_path):
    backbone, tokenizer = backbones.load(hugging_face)
    hub["hf://owner/preset"] = backbones.save(backbone, tokenizer, tmp_path / "preset")
    again, pieces = backbones.load("hf://owner/preset")
    assert backbones.fingerprint(again) == backbones.fingerprint(backbone)
    assert pieces.vocabulary_size() == 700
    assert backbones.is_backbone("hf://owner/preset")
    assert sources.look(tmp_path) is None


def test_a_hub_that_does_not_answer(hub):
    check(
        "hf://google/flan-t5-base",
        "`path` must be on a host that answers. Received: hf://google/flan-t5-base",
        ConnectionError,
    )


# === Warnings ===


def test_span_corruption_alone_is_warned_of(tmp_path, hugging_face, recwarn):
    plain = shutil.copytree(hugging_face, tmp_path / "t5-v1_1-small")
    with pytest.warns(UserWarning, match="pretrained on span corruption alone.*Lester et al. 2021"):
        build.build(plain, prompt_length=2)
    recwarn.clear()
    for name in ("t5_1_1_lm100k_base", "hf://google/flan-t5-xl", "runs/t5_1.1_base/best", "tiny"):
        backbones.warn_of_span_corruption(name)
    assert not recwarn.list


# === Command line ===


def test_convert(hugging_face, tmp_path, capsys, monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["keras-spot", "convert", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code, *capsys.readouterr()

    assert run(hugging_face, tmp_path / "preset") == (0, f"backbone: {tmp_path / 'preset'}\n", "")
    first, again = (backbones.load(x)[0] for x in (hugging_face, tmp_path / "preset"))
    assert backbones.fingerprint(first) == backbones.fingerprint(again)

    broken = write_hugging_face(tmp_path / "broken", arrays={"shared.weight": np.ones((704, 16))})
    code, _, err = run(broken, tmp_path / "none")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: `backbone` must hold every weight of a T5 and no others.")
    assert {entry.name for entry in tmp_path.iterdir()} == {"preset", "broken"}


def test_an_older_preset_outlives_a_failed_save(hugging_face, tmp_path, monkeypatch):
    backbone, tokenizer = backbones.load(hugging_face)
    folder = backbones.save(backbone, tokenizer, tmp_path / "preset")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tokenizer), "save_to_preset", fail)
    with pytest.raises(OSError, match="No space"):
        backbones.save(backbone, tokenizer, folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["preset"]
    assert backbones.load(folder)[1].vocabulary_size() == 700
