"""Every short cut, plain or fast, gives what KerasHub's own layers give the long way."""

import keras
import keras_hub
import numpy as np
import oracle
import pytest
import tensorflow as tf
import toy

from keras_spot import PromptCheckpoint, PromptedT5, build
from keras_spot.backbones.quantized import quantize
from keras_spot.base import devices
from keras_spot.base.choices import PROMPT_ATTENTION
from keras_spot.model.fast import cached
from keras_spot.model.generate_functions import INPUTS
from keras_spot.model.plain import attention as att
from keras_spot.prompts import initializers

P = 5
KERNELS = ("plain", "fast")
STYLES = {
    "gated, untied": {},
    "relu, tied": dict(
        activation="relu", use_gated_activation=False, tie_embedding_weights=True, num_heads=3
    ),
}


@pytest.fixture(scope="module", params=STYLES)
def backbone(request):
    return toy.backbone(gain=1.0, **STYLES[request.param])


def prompted(backbone, visibility, **options):
    return PromptedT5(
        backbone,
        prompt_length=P,
        prompt_initializer=initializers.uniform(2.0, seed=1),
        prompt_attention=visibility,
        **options,
    )


@pytest.mark.parametrize("visibility", PROMPT_ATTENTION)
# 12 targets are too many to absorb at these widths.
@pytest.mark.parametrize(("targets", "remat"), [(3, False), (12, True)])
def test_logits_and_gradient_are_those_of_the_long_way(backbone, visibility, targets, remat):
    model = prompted(backbone, visibility, remat=remat)
    attention = backbone.decoder_transformer_layers[0].cross_attention
    size = (16, attention.num_heads, attention.key_value_dim)
    for keys in (9, P + 9):  # without and with a prompt that all rows have alike
        assert att.absorbed_is_cheaper(targets, keys, *size) is (targets == 3)
    data = toy.batch(targets=targets)
    total, logits, gradients = oracle.step(model, data, ours=False)
    for kernels in KERNELS:
        model = prompted(backbone, visibility, remat=remat, kernels=kernels)
        loss, *ours = oracle.step(model, data)
        assert loss == pytest.approx(total, rel=1e-5)
        oracle.assert_close([ours[0], *ours[1]], [logits, *gradients])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("visibility", PROMPT_ATTENTION)
def test_a_step_multiplies_for_no_frozen_weights_gradient(backbone, visibility, kernels):
    model = prompted(backbone, visibility, kernels=kernels)
    model.optimizer.build(model.trainable_variables)
    data = keras.tree.map_structure(tf.constant, toy.batch(targets=3))
    graph = tf.function(model.train_step).get_concrete_function(data).graph
    kernels = {tuple(w.shape) for w in backbone.weights if len(w.shape) == 2}
    kernels |= {shape[::-1] for shape in kernels}

    def gradients_of_kernels(ops):  # no other product has a kernel's shape
        products = (op for op in ops if "MatMul" in op.type)
        return [op.name for op in products if tuple(op.outputs[0].shape) in kernels]

    needed, ahead = set(), [*graph.control_outputs, *(output.op for output in graph.outputs)]
    while ahead:
        op = ahead.pop()
        if op not in needed:
            needed.add(op)
            ahead += [*op.control_inputs, *(tensor.op for tensor in op.inputs)]
    # TensorFlow writes some down in any case, and does not compute what nobody asks for.
    assert gradients_of_kernels(graph.get_operations())
    assert not gradients_of_kernels(needed)


def test_what_the_prompt_sees_makes_a_difference(backbone):
    x, _, _ = toy.batch()
    full, prompt, causal = (np.asarray(prompted(backbone, v)(x)) for v in PROMPT_ATTENTION)
    assert min(np.abs(full - prompt).max(), np.abs(prompt - causal).max()) > 1e-3


@pytest.mark.parametrize("rows", [1, 3])
def test_absorbed_cross_attention_is_cross_attention(backbone, rows):
    rng = np.random.default_rng(0)
    x, states = (rng.normal(size=(rows, n, 16)).astype("float32") for n in (2, 7))
    seen = (rng.random((rows, 7)) < 0.7).astype("int32")
    seen[:, 0] = 1
    attention = backbone.decoder_transformer_layers[1].cross_attention
    expected, _, _ = attention(x, key_value_states=states, mask=seen[:, None])
    query = att.split_heads(attention, attention.query_projector(x))
    bias = att.masked(seen, "float32")[None, :, None, :]
    for look_up, memory in (
        (att.attend_absorbed, (states, att.kernels_by_head(attention, "float32"))),
        (att.attend, att.keys_and_values(attention, states)),
    ):
        mixed = look_up(query, *memory, bias, attention.dropout_layer)
        output = attention.output_projector(att.merge_heads(mixed))
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_steps_and_answers_through_xla_are_the_same():
    backbone = toy.shallow(gain=1.0)
    x, y, weight = toy.batch()
    start = np.zeros_like(x["decoder_padding_mask"])
    start[:, 0] = 1
    results = []
    for compiled in (False, True):
        model = prompted(backbone, "full")
        model.compile(jit_compile=compiled)
        answers = model.make_generate_function()({**x, "decoder_padding_mask": start}, None)
        model.fit(x, y, sample_weight=weight, verbose=0, shuffle=False)
        results.append((np.asarray(answers["decoder_token_ids"]), model.prompt))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-5)


@pytest.mark.parametrize(("visibility", "remat"), [("full", False), ("prompt", True)])
def test_steps_with_gradients_written_out_are_the_same(visibility, remat):
    x, y, weight = toy.batch()
    exact, prompts = toy.backbone(gain=1.0, dtype="float64"), []
    for kernels in KERNELS:
        model = prompted(exact, visibility, remat=remat, kernels=kernels)
        model.fit(x, y, sample_weight=weight, epochs=3, verbose=0, shuffle=False)
        prompts.append(model.prompt)
    np.testing.assert_allclose(*prompts, rtol=1e-5, atol=1e-5)


# 17 positions are too many to absorb at these widths.
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("visibility", "length"), [*((v, 6) for v in PROMPT_ATTENTION), ("full", 17)]
)
def test_cached_decoding_is_the_full_pass(tokenizer, visibility, length, kernels):
    assert att.absorbed_is_cheaper(length + 1, None, 16, 2, 8) is (length == 6)
    backbone = toy.backbone(tokenizer.vocabulary_size())
    preprocessor = PromptedT5.preprocessor_cls(tokenizer, 32, length)
    model = prompted(backbone, visibility, preprocessor=preprocessor, kernels=kernels)
    texts = ["a fine film", "what a long and tiring evening it was"]
    rows = model.token_rows(texts)
    for row, answer in zip(rows, model.generate(texts, max_length=length)):
        decoded = np.zeros((1, length + 1), "int32")
        for i in range(length):
            given = (np.array([row]), np.ones((1, len(row))), decoded, np.ones_like(decoded))
            x = {key: value.astype("int32") for key, value in zip(INPUTS, given)}
            decoded[0, i + 1] = np.asarray(model(x))[0, i].argmax()
            if decoded[0, i + 1] == 1:
                break
        assert model.detokenize(decoded[:, 1:], np.ones((1, length))) == [answer]


def test_a_single_row_is_decoded_as_among_others(backbone, monkeypatch):
    x, _, _ = toy.batch(targets=8)
    x["decoder_padding_mask"] = np.eye(1, 8, dtype="int32").repeat(4, axis=0)
    copied, pieces = [], cached._pieces
    monkeypatch.setattr(cached, "_pieces", lambda *a: copied.append(a) or pieces(*a))
    monkeypatch.setattr(cached, "PIECE", 16)
    monkeypatch.setattr(devices, "by_onednn", lambda: True)
    results = []
    for rows, few, limit in (4, 1, 2**29), (1, 9, 2**29), (1, 1, 0), (1, 1, 2**29):
        assert not copied  # but by the last
        monkeypatch.setattr(cached, "FEW", few)
        monkeypatch.setattr(cached, "LARGEST_COPY", limit)
        generate = prompted(backbone, "full", kernels="fast").make_generate_function()
        ids = generate({key: value[:rows] for key, value in x.items()})["decoder_token_ids"]
        results.append(np.asarray(ids)[0])
    assert copied
    assert len(set(results[0])) > 2
    for row in results[1:]:
        np.testing.assert_array_equal(row, results[0])


def test_the_greedy_sampler_takes_what_keras_hub_takes(backbone):
    x, _, _ = toy.batch()
    start = np.eye(1, 4, dtype="int32").repeat(4, axis=0)
    results = []
    for sampler in ("greedy", keras_hub.samplers.GreedySampler()):
        model = prompted(backbone, "full")
        model.compile(sampler=sampler)
        ids = model.make_generate_function()({**x, "decoder_padding_mask": start})
        results.append(np.asarray(ids["decoder_token_ids"]))
    np.testing.assert_array_equal(*results)


@pytest.mark.usefixtures("out_of_sight")
@pytest.mark.parametrize("targets", [3, 12])
def test_a_quantized_backbone_gives_what_its_layers_give(targets):
    backbone = toy.shallow(gain=1.0)
    x, y, weight = toy.batch(targets=targets)
    exact = np.asarray(prompted(backbone, "full")(x))
    quantize(backbone, "int8")
    prompts = []
    for kernels in KERNELS:
        model = prompted(backbone, "full", kernels=kernels)
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        model.fit(x, y, sample_weight=weight, verbose=0)
        prompts.append(model.prompt)
        check_first_token(prompted(backbone, "full", kernels=kernels), x, exact)
    np.testing.assert_allclose(*prompts, atol=1e-5)


@pytest.mark.usefixtures("out_of_sight")
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_a_backbone_that_keras_quantized_whole_gives_what_its_layers_give():
    backbone = toy.shallow(gain=1.0)
    x, _, _ = toy.batch(targets=3)
    exact = np.asarray(prompted(backbone, "full")(x))
    backbone.quantize("int8")
    check_first_token(prompted(backbone, "full"), x, exact)


def check_first_token(model, x, exact):
    """Check the logits against those before quantising, the first token against the logits."""
    logits = np.asarray(model(x))
    assert np.abs(logits - exact).mean() < 0.02
    targets = logits.shape[1]
    start = np.eye(1, targets, dtype="int32").repeat(len(logits), axis=0)
    ids = model.make_generate_function()({**x, "decoder_padding_mask": start})
    first = np.asarray(ids["decoder_token_ids"])[:, 1]
    np.testing.assert_array_equal(first, logits[:, 0].argmax(-1))


@pytest.mark.parametrize("kernels", KERNELS)
def test_bfloat16_stays_close(kernels):
    x, _, _ = toy.batch()
    half = toy.backbone(gain=1.0, dtype=keras.DTypePolicy("mixed_bfloat16"))
    narrow = prompted(half, "prompt", kernels=kernels)(x, training=True)
    difference = narrow - prompted(toy.backbone(gain=1.0), "prompt")(x)
    assert np.abs(difference).mean() < 0.03


def test_saved_models_keep_the_visibility(backbone, tmp_path):
    model = prompted(backbone, "causal")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x, _, _ = toy.batch()
    assert loaded.prompt_attention == "causal"
    np.testing.assert_array_equal(loaded(x), model(x))


def test_files_and_runs_record_what_their_prompt_sees(backbone, tmp_path):
    model = prompted(backbone, "causal")
    file, run = tmp_path / "prompt.npz", tmp_path / "run"
    model.save_prompt(file)
    x, y, weight = toy.batch()
    callbacks = [PromptCheckpoint(run)]
    model.fit(x, y, sample_weight=weight, callbacks=callbacks, verbose=0)
    for path in (file, run):
        assert build(backbone, path).prompt_attention == "causal"
        assert build(backbone, path, prompt_attention="full").prompt_attention == "full"
    full = prompted(backbone, "full")
    with pytest.raises(ValueError) as caught:
        full.load_prompt(file)
    rule = "`path` must hold a prompt trained with prompt_attention='full'. Received: "
    assert str(caught.value) == f"{rule}'causal' in {file}"
    with pytest.raises(ValueError) as caught:
        model.save_prompt(tmp_path / "adapter", form="peft")
    rule = "`form` must not be 'peft' for a prompt that PEFT would let see the inputs. "
    assert str(caught.value) == f"{rule}Received: prompt_attention='causal'"
    full.save_prompt(tmp_path / "full.npz")
    with pytest.raises(ValueError) as caught:
        build(backbone, initializers.mean_of([file, tmp_path / "full.npz"]))
    rule = "`prompt_init` must hold prompts of one prompt_attention, unless that is given. "
    assert str(caught.value) == f"{rule}Received: causal, full"


def test_unknown_visibility(backbone):
    with pytest.raises(ValueError) as caught:
        prompted(backbone, "promt")
    assert str(caught.value) == (
        "`prompt_attention` must be a known name. Received: prompt_attention='promt' "
        "(did you mean 'prompt'?)"
    )
