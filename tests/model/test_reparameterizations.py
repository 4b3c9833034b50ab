"""Whatever trains in a prompt's place ends as the plain prompt, with the same logits."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy

import keras_spot
from keras_spot import SoftPrompt, reparameterizations
from keras_spot.model import build
from keras_spot.model.export.core import Core
from keras_spot.prompts import initializers
from keras_spot.training.options import REPARAMETERIZATIONS

P, H, V = 5, 16, 64
PROMPT = np.random.default_rng(7).normal(size=(P, H)).astype("float32")
SMALL = {
    "residual": {"bottleneck": 6},
    "low-rank": {"rank": 3},
    "vocabulary-mixture": {"tokens": 4, "vocabulary": 30},
    "shared": {"rank": 2},
}
SOURCES = np.random.default_rng(8).normal(size=(3, P, H)).astype("float32")
EXACT = [
    {"residual": {"bottleneck": 6}},
    {"residual": {"bottleneck": 6, "layer_norm": False}},
    {"low-rank": {"rank": 3}},
    {"low-rank": {"rank": 3, "frozen": None}},
    {"vocabulary-mixture": {"tokens": 4, "vocabulary": 30}},
    {"shared": {"rank": 2}},
]
MORE = [*EXACT, {"low-rank": {"rank": 3, "offset": False}}]


@functools.cache
def backbone(**options):
    return toy.shallow(V, **options)


def layer_of(spec, shape=(P, H)):
    """Return a built layer whose variables are all drawn."""
    layer = reparameterizations.get(spec)
    layer = layer.completed(np.random.default_rng(3).normal(size=(V, shape[1])))
    (layer,) = layer.for_prompts(1)
    layer.build(shape)
    layer.start(PROMPT[: shape[0], : shape[1]])
    scatter(layer)
    return layer


def scatter(layer, seed=1):
    rng = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.3, variable.shape))


def by_formula(layer):
    """Return the fold of a layer as its paper has it, in float64."""
    v = {
        variable.name: keras.ops.convert_to_numpy(variable).astype("float64")
        for variable in layer.variables
    }
    if layer.name_in_records == "residual":
        hidden = np.maximum(v["prompt"] @ v["down"] + v["down_bias"], 0)
        x = hidden @ v["up"] + v["up_bias"]
        if layer.layer_norm:
            x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
            x = x * v["gain"] + v["shift"]
        return v["prompt"] + x
    if layer.name_in_records == "shared":
        return v["shared"] * (v["left"] @ v["right"])
    if layer.name_in_records == "vocabulary-mixture":
        return v["initial"] + v["weights_of_tokens"] @ v["sampled"]
    x = v["left"] @ v["right"]
    if layer.frozen:
        x = x * v["scale"] + v["shift"]
    return x + v.get("initial", 0)


@pytest.mark.parametrize("spec", MORE, ids=str)
def test_fold_is_the_papers_formula(spec):
    layer = layer_of(spec)
    folded = keras.ops.convert_to_numpy(layer.fold())
    assert folded.dtype == "float32"
    np.testing.assert_allclose(folded, by_formula(layer), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", MORE, ids=str)
def test_gradients_are_finite_differences(spec):
    layer = layer_of(spec, (2, 4))
    weight = np.random.default_rng(5).normal(size=(2, 4))
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(layer.fold() * weight.astype("float32"))
    gradients = tape.gradient(loss, [v.value for v in layer.trainable_variables])
    for variable, gradient in zip(layer.trainable_variables, gradients):
        value = keras.ops.convert_to_numpy(variable)
        place = tuple(np.random.default_rng(6).integers(0, n) for n in value.shape)
        sides = []
        for step in (1e-2, -1e-2):
            moved = value.copy()
            moved[place] += step
            variable.assign(moved)
            sides.append((by_formula(layer) * weight).sum())
        variable.assign(value)
        expected = (sides[0] - sides[1]) / 2e-2
        assert gradient.numpy()[place] == pytest.approx(expected, rel=0.02, abs=2e-3), variable.name


@pytest.mark.parametrize("spec", EXACT, ids=str)
def test_it_starts_at_the_given_prompt_bit_for_bit(spec):
    model = build.build(backbone(), PROMPT * 300, reparameterization=spec)
    np.testing.assert_array_equal(model.prompt, PROMPT * 300)
    drawn = build.build(backbone(), "uniform", prompt_length=P, reparameterization=spec)
    plain = build.build(backbone(), "uniform", prompt_length=P)
    np.testing.assert_array_equal(drawn.prompt, plain.prompt)


def test_a_low_rank_start_without_offset_says_what_it_misses():
    layer = reparameterizations.LowRank(rank=4, offset=False)
    layer.build((P, H))
    with pytest.warns(UserWarning, match=r"rank 4 misses \d\d\.\d% of the trained prompt"):
        layer.start(PROMPT, trained=True)
    missed = np.linalg.norm(PROMPT - layer.fold()) / np.linalg.norm(PROMPT)
    assert layer.start_error == pytest.approx(missed, rel=1e-4)
    assert 0.1 < missed < 1
    for whole in (
        reparameterizations.LowRank(rank=H, offset=False),
        reparameterizations.LowRank(rank=P + 1, frozen=None, offset=False),
    ):
        whole.build((P, H))
        whole.start(PROMPT, trained=True)
        np.testing.assert_allclose(whole.fold(), PROMPT, atol=1e-4)
        assert whole.start_error < 1e-6


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("weights", ["softmax", "free"])
def test_a_mixture_of_sources(weights, joint, tmp_path):
    mixture = reparameterizations.SourceMixture(SOURCES, weights, joint)
    start = SOURCES.mean(axis=0)
    model = build.build(backbone(), start, reparameterization=mixture)
    np.testing.assert_array_equal(model.prompt, start)
    layer = model.soft_prompt.reparameterization
    np.testing.assert_allclose(layer.shares(), [1 / 3] * 3, rtol=1e-6)
    assert [v.name for v in model.trainable_variables] == ["scores", *(["initial"] * joint)]
    scores = np.array([0.5, -1.0, 2.0], "float32")
    layer.scores.assign(scores)
    shares = np.exp(scores) / np.exp(scores).sum() if weights == "softmax" else scores
    np.testing.assert_allclose(layer.shares(), shares, rtol=1e-5)
    np.testing.assert_allclose(model.prompt, np.tensordot(shares, SOURCES, 1), atol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.describe() == layer.describe()
    np.testing.assert_array_equal(again.sources, SOURCES)
    single = reparameterizations.SourceMixture(SOURCES[:1], weights, joint)
    single.build((P, H))
    single.start(SOURCES[0])
    np.testing.assert_array_equal(single.fold(), SOURCES[0])  # and no warning of one source


def test_sources_that_do_not_fit():
    for make, message in {
        lambda: reparameterizations.SourceMixture(
            SOURCES[0]
        ): "`sources` must have the shape [k, P",
        lambda: reparameterizations.SourceMixture(
            SOURCES, "hard"
        ): "`weights` must be 'softmax' or",
        lambda: reparameterizations.SourceMixture(
            SOURCES, joint="no"
        ): "`joint` must be true or false",
        lambda: reparameterizations.SourceMixture(SOURCES).build(
            (P + 1, H)
        ): "`sources` must be pro",
    }.items():
        with pytest.raises(keras_spot.InvalidArgument) as caught:
            make()
        assert str(caught.value).startswith(message)


# === In a model ===


def moved(spec, **options):
    """Return a model whose reparameterization is somewhere."""
    options = {"prompt_length": P, **options}
    model = build.build(backbone(), "uniform", reparameterization=spec, **options)
    for layer in model.soft_prompt.reparameterized:
        scatter(layer)
    return model


@pytest.mark.parametrize("spec", MORE, ids=str)
def test_the_folded_prompt_has_the_same_logits(spec):
    model = moved(spec)
    plain = build.build(backbone(), model.prompt)
    x, _, _ = toy.batch()
    np.testing.assert_array_equal(model(x), plain(x))
    np.testing.assert_array_equal(model(x, training=True), plain(x, training=True))


@pytest.mark.parametrize("spec", ["residual", "low-rank"])
def test_so_it_has_in_compiled_functions_after_every_step(spec):
    model = moved(spec)
    x, y, weight = toy.batch()
    model.predict_on_batch(x)
    model.train_on_batch(x, y, weight)
    plain = build.build(backbone(), model.prompt)
    predicted = [one.predict_on_batch(x) for one in (model, plain)]
    np.testing.assert_array_equal(*predicted)
    losses = [one.test_on_batch(x, y, weight) for one in (model, plain)]
    np.testing.assert_array_equal(*losses)
    answers = [one.make_generate_function()(x)["decoder_token_ids"] for one in (model, plain)]
    np.testing.assert_array_equal(*answers)
    model.train_on_batch(x, y, weight)
    plain.soft_prompt.start(0, model.prompt)
    np.testing.assert_array_equal(*[one.predict_on_batch(x) for one in (model, plain)])


@pytest.mark.parametrize(
    ("spec", "kernels"), [*[(spec, "plain") for spec in MORE], ({"low-rank": {"rank": 3}}, "fast")]
)
def test_its_gradient_is_the_plain_prompts_through_the_fold(spec, kernels):
    model = moved(spec, kernels=kernels)
    plain = build.build(backbone(), model.prompt, kernels=kernels)
    x, y, weight = toy.batch()

    def gradients(of, variables):
        with tf.GradientTape() as tape:
            loss = of.compute_loss(x, y, of(x, training=True), weight)
        return float(loss), tape.gradient(loss, [v.value for v in variables])

    loss, mine = gradients(model, model.trainable_variables)
    plain_loss, (of_prompt,) = gradients(plain, plain.trainable_variables)
    assert loss == plain_loss
    layer = model.soft_prompt.reparameterization
    with tf.GradientTape() as tape:
        folded = layer.fold()
    variables = [v.value for v in layer.trainable_variables]
    assert [v.path for v in model.trainable_variables] == [
        v.path for v in layer.trainable_variables
    ]
    expected = tape.gradient(folded, variables, output_gradients=of_prompt)
    for own, other in zip(mine, expected):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def shared_bank(**options):
    """Return a bank whose prompts share a part, and its prompts as models of their own."""
    exact = backbone(dtype="float64", gain=1.0)
    options = {"prompt_init": PROMPT, "reparameterization": "shared", **options}
    bank = build.build(exact, prompt_names=["a", "b", "c"], **options)
    scatter(bank.soft_prompt)
    solos = []
    for layer in bank.soft_prompt.reparameterized:
        solo = build.build(exact, PROMPT, reparameterization=layer.describe())
        own = solo.soft_prompt.reparameterization
        for mine, theirs in zip(
            (own.common.prompt, own.left, own.right),
            (layer.common.prompt, layer.left, layer.right),
        ):
            mine.assign(theirs)
        solos.append(solo)
    return bank, solos


def test_the_gradient_of_the_shared_part_is_the_sum_of_the_solo_ones():
    bank, solos = shared_bank()
    assert len(bank.trainable_variables) == 2 * 3 + 1
    x, y, weight = toy.batch(rows=7)
    index = np.array([2, 0, 1, 1, 0, 2, 1], "int32")

    def gradients(model, x, y, weight):
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True), weight)
        actual = tape.gradient(loss, [v.value for v in variables])
        return {v.name: g.numpy() for v, g in zip(variables, actual)}

    whole = gradients(bank, {**x, "prompt_index": index}, y, weight)["shared"]
    parts = []
    for number, solo in enumerate(solos):
        rows = index == number
        np.testing.assert_array_equal(solo.prompt, bank.prompt[number])
        of_rows = {key: value[rows] for key, value in x.items()}
        parts.append(gradients(solo, of_rows, y[rows], weight[rows])["shared"])
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-4, atol=1e-6)
    assert min(np.abs(part).max() for part in parts) > 1e-3


def test_shared_prompts_are_kept_and_refuse_what_would_part_them(tmp_path):
    bank, _ = shared_bank()
    bank.save(tmp_path / "bank.keras")
    again = keras.saving.load_model(tmp_path / "bank.keras")
    np.testing.assert_array_equal(again.prompt, bank.prompt)
    assert len({id(r.common) for r in again.soft_prompt.reparameterized}) == 1
    path = bank.save_prompt(tmp_path / "p.npz", prompt="b")
    np.testing.assert_array_equal(keras_spot.prompts.read(path).values, bank.prompt[1])
    with pytest.raises(ValueError, match="`prompt` must not be replaced alone where prompts share"):
        bank.load_prompt(path, prompt="b")
    with pytest.raises(ValueError, match="`prompt_init` must be one trained prompt for all"):
        shared_bank(prompt_init=[PROMPT, PROMPT, PROMPT + 1])
    rates = {"learning_rate": [0.1, 0.2], "reparameterization": "shared"}
    with pytest.raises(ValueError, match="`learning_rate` must be one for all prompts that share"):
        keras_spot.Run(task="synthetic/movies", **rates)


@pytest.mark.parametrize("submodules", [1, 2])
def test_a_multitask_adapter_of_peft_goes_on(tmp_path, submodules):
    from safetensors.numpy import save_file

    rng = np.random.default_rng(4)
    values = rng.normal(size=(P * submodules, H)).astype("float32")
    cols = rng.normal(size=(2, P * submodules, 3)).astype("float32")
    rows = rng.normal(size=(2, 3, H)).astype("float32")
    tensors = {"prompt_embeddings": values, "prefix_task_cols": cols, "prefix_task_rows": rows}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "MULTITASK_PROMPT_TUNING", "num_virtual_tokens": P, "num_ranks": 3}
    config |= {"task_type": "SEQ_2_SEQ_LM", "num_transformer_submodules": submodules}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    starts = initializers.multitask(tmp_path)
    names = {"prompt_names": ["a", "b"]}
    shared = {"shared": {"rank": 3}}
    bank = build.build(backbone(), starts, **names, reparameterization=shared)
    expected = values[:P] * (cols[:, :P] @ rows)
    np.testing.assert_allclose(bank.prompt, expected, rtol=1e-5)
    np.testing.assert_array_equal(bank.soft_prompt.shared, values[:P])
    plain = build.build(backbone(), starts, **names)
    np.testing.assert_allclose(plain.prompt, expected, rtol=1e-5)
    x, y, weight = toy.batch()
    before = [keras.ops.convert_to_numpy(v) for v in bank.trainable_variables]
    bank.train_on_batch({**x, "prompt_index": np.array([0, 1, 1, 0], "int32")}, y, weight)
    for variable, old in zip(bank.trainable_variables, before):
        assert (keras.ops.convert_to_numpy(variable) != old).any(), variable.path
    with pytest.raises(ValueError, match=r"`rank` must be the adapter's 3\. Received: rank=1"):
        build.build(backbone(), starts, **names, reparameterization="shared")


def test_only_what_is_meant_to_train_does():
    model = moved("low-rank")
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == P * 64 + 2 * H
    fixed = [v for v in model.variables if not any(v is t for t in model.trainable_variables)]
    fixed = [(v, keras.ops.convert_to_numpy(v)) for v in fixed if "optimizer" not in v.path]
    before = model.prompt
    x, y, weight = toy.batch()
    model.train_on_batch(x, y, weight)
    assert (model.prompt != before).mean() > 0.9
    names = {v.name for v, _ in fixed}
    assert {"right", "initial"} <= names
    moving = ("token_accuracy", "label_accuracy", "total", "count")
    for variable, value in fixed:
        if variable.name not in moving and "loss" not in variable.path:
            np.testing.assert_array_equal(variable.value, value, err_msg=variable.path)
    lines: list[str] = []
    model.summary(print_fn=lambda text, line_break=False: lines.append(text))
    assert "soft_prompt (SoftPrompt, low-rank)" in "".join(lines)
    assert f"{P * 64 + 2 * H:,}" in "".join(lines)
    with pytest.raises(ValueError, match=r"`reparameterization` must be None for a prompt to be a"):
        model.prompt_variable()


def test_a_multiplier_is_on_the_network_alone():
    specs = [{"residual": {"bottleneck": 6, "rate_multiplier": m}} for m in (1.0, 0.5)]
    x, y, weight = toy.batch()
    steps = []
    for spec in specs:
        model = moved(spec)
        before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
        model.train_on_batch(x, y, weight)
        after = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
        steps.append({v.name: b - a for v, a, b in zip(model.trainable_variables, before, after)})
    for name, step in steps[0].items():
        factor = 1.0 if name == "prompt" else 0.5
        np.testing.assert_allclose(steps[1][name], factor * step, rtol=0.01, atol=2e-4)
    again = keras_spot.optimizers.Adafactor.from_config(model.optimizer.get_config())
    assert again.rate_multipliers == model.optimizer.rate_multipliers
    with pytest.raises(ValueError, match="`rate_multipliers` must be 7, one for each variable"):
        keras_spot.optimizers.Adafactor(rate_multipliers=[1.0]).build(model.trainable_variables)
    model.compile(optimizer=again)
    for other in ("adam", keras_spot.optimizers.Adafactor()):
        with pytest.warns(UserWarning, match="(?i)^ada[a-z]* has one rate for all that is trained"):
            model.compile(optimizer=other)


@pytest.mark.parametrize("spec", ["residual", MORE[-1]], ids=str)
def test_each_prompt_of_a_bank_is_as_it_would_be_alone(spec):
    bank = build.build(
        backbone(dtype="float64", gain=1.0),
        "uniform",
        prompt_length=P,
        prompt_names=["a", "b"],
        reparameterization=spec,
    )
    x, y, weight = toy.batch(rows=5)
    index = np.array([1, 0, 1, 1, 0], "int32")
    alone = build.build(
        backbone(dtype="float64", gain=1.0),
        bank.prompt[1],
        reparameterization=bank.soft_prompt.reparameterized[1].reseeded(1),
    )
    for variable, other in zip(
        alone.soft_prompt.reparameterization.variables,
        bank.soft_prompt.reparameterized[1].variables,
    ):
        variable.assign(other)
    options = {"weight_decay": None}
    for model in (bank, alone):
        model.compile(optimizer=keras_spot.optimizers.Adafactor(**options))
    for _ in range(3):
        bank.train_on_batch({**x, "prompt_index": index}, y, weight)
        rows = index == 1
        alone.train_on_batch({k: v[rows] for k, v in x.items()}, y[rows], weight[rows])
    np.testing.assert_allclose(bank.prompt[1], alone.prompt, atol=1e-4)


@pytest.mark.parametrize("spec", [MORE[0], *MORE[-2:]], ids=str)
def test_a_keras_file_keeps_it(spec, tmp_path):
    model = moved(spec, num_prompts=2)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    x, _, _ = toy.batch()
    x["prompt_index"] = np.array([1, 0, 0, 1], "int32")
    np.testing.assert_array_equal(again(x), model(x))
    np.testing.assert_array_equal(again.prompt, model.prompt)
    for key in ("reparameterization", "length", "num_prompts"):
        assert again.soft_prompt.get_config()[key] == model.soft_prompt.get_config()[key]
    assert [v.name for v in again.trainable_variables] == [
        v.name for v in model.trainable_variables
    ]


def test_a_served_model_holds_the_folded_prompt_alone():
    model = moved("residual")
    with model.soft_prompt.folded():
        held = {variable.name: variable for variable in Core(model, 3).variables}
    np.testing.assert_array_equal(held["prompts:0"], model.prompt[None])
    assert not {"down:0", "up:0", "folded_0:0", "prompt:0"} & set(held)


def test_files_hold_the_folded_prompt_and_can_be_gone_on_from(tmp_path):
    model = moved("residual")
    path = model.save_prompt(tmp_path / "p.npz")
    np.testing.assert_array_equal(keras_spot.prompts.read(path).values, model.prompt)
    other = moved({"low-rank": {"rank": 2}})
    other.load_prompt(path)
    np.testing.assert_array_equal(other.prompt, model.prompt)


def test_a_layer_of_ones_own_folds_in_any_model():
    layer = SoftPrompt(P, initializers.from_numpy(PROMPT), reparameterization="residual")
    tokens = keras.Input((None, H))
    model = keras.Model(tokens, layer(tokens))
    assert layer.reparameterization.bottleneck == 800
    x = np.zeros((2, 3, H), "float32")
    np.testing.assert_array_equal(model(x)[1, :P], PROMPT)


def test_mixed_precision_leaves_the_fold_in_float32():
    model = moved("residual", dtype=None)
    half = build.build(
        backbone(dtype="mixed_bfloat16"),
        "uniform",
        prompt_length=P,
        reparameterization="residual",
    )
    for variable, other in zip(half.soft_prompt.factors, model.soft_prompt.factors):
        variable.assign(other)
    np.testing.assert_array_equal(half.prompt, model.prompt)
    plain = build.build(backbone(dtype="mixed_bfloat16"), model.prompt)
    x, _, _ = toy.batch()
    np.testing.assert_array_equal(half(x), plain(x))


# === What it is called, and what is refused ===


def test_names_and_records():
    assert tuple(reparameterizations.NAMED) == REPARAMETERIZATIONS == tuple(SMALL)
    for name, settings in SMALL.items():
        record = reparameterizations.describe(json.dumps({name: settings}))
        assert record == reparameterizations.describe({name: settings})
        assert record == reparameterizations.describe(record)
        assert set(settings) < set(record[name])
        assert json.loads(json.dumps(record)) == record
    assert reparameterizations.describe(None) is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("residul", "Received: reparameterization='residul' (did you mean 'residual'?)"),
        ({"low-rank": {"ranks": 3}}, r"reparameterization='ranks' (did you mean 'rank'?)"),
        ({"low-rank": 3}, "`reparameterization` must be a name, or one name with its settings"),
        ({}, "`reparameterization` must be a name, or one name with its settings"),
        ("{low}", "`reparameterization` must be a name or JSON. Received: {low}"),
        ({"low-rank": {"rank": 0}}, "`rank` must be a positive integer. Received: rank=0"),
        ({"low-rank": {"frozen": "zeros"}}, "`frozen` must be 'random' or None. Received: frozen="),
        ({"residual": {"bottleneck": 1.5}}, "`bottleneck` must be a positive integer."),
        ({"residual": {"rate_multiplier": 0}}, "`rate_multiplier` must be a positive number."),
        (
            {"residual": {"layer_norm": "no"}},
            "`layer_norm` must be true or false. Received: ",
        ),
        ({"low-rank": {"offset": 0}}, "`offset` must be true or false. Received: offset=0"),
        ({"residual": {"seed": -1}}, "`seed` must be an integer from 0 on. Received: seed=-1"),
        ({"vocabulary-mixture": {"tokens": 9, "vocabulary": 8}}, "`tokens` must be at most the 8"),
    ],
)
def test_what_is_refused(spec, message):
    with pytest.raises(keras_spot.InvalidArgument) as caught:
        reparameterizations.get(spec)
    assert message in str(caught.value)


def test_a_mixture_outside_of_build_needs_its_entries():
    layer = SoftPrompt(P, reparameterization="vocabulary-mixture")
    with pytest.raises(ValueError, match=r"`rows` must be given for prompts of width 16 outside"):
        layer(np.zeros((1, 2, H), "float32"))
