"""A bank trains, answers and is saved as its prompts would be alone."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy

import keras_spot
from keras_spot import Recipe, prompts
from keras_spot.base.choices import PROMPT_ATTENTION
from keras_spot.data import batches
from keras_spot.model import build, optimizers
from keras_spot.prompts import names as prompt_names
from keras_spot.training.evaluate import evaluate, label_log_likelihoods

K, P, H = 3, 5, 16
NAMES = ["glue/sst2", "cb", "rte"]
INDEX = np.array([2, 0, 1, 1, 0, 2, 0, 0, 1], "int32")
RATES = [0.1, 0.3, 0.01]
TEXTS = ["a fine film", "what a long and tiring evening it was", "the plot", "a fine film"]


@pytest.fixture(scope="module")
def backbone(tokenizer):
    return toy.shallow(tokenizer.vocabulary_size(), gain=1.0)


@pytest.fixture(scope="module")
def exact():
    """A backbone in float64, in which batches of other shapes do not round otherwise."""
    return toy.shallow(gain=1.0, dtype="float64")


@pytest.fixture(scope="module")
def make(exact):
    """Return `(bank, its prompts as models of their own)`."""

    def call(visibility="full", start="uniform", names=NAMES, backbone=exact, **options):
        options = {"prompt_attention": visibility, **options}
        bank = build.build(backbone, start, prompt_length=P, prompt_names=names, **options)
        return bank, [build.build(backbone, prompt, **options) for prompt in bank.prompt]

    return call


@pytest.fixture(scope="module")
def full(make, backbone, tokenizer):
    return make(backbone=backbone, tokenizer=tokenizer)


def batch():
    x, y, weight = toy.batch(rows=len(INDEX))
    return {**x, "prompt_index": INDEX}, y, weight


def rows_of(number, data):
    """Return the rows of one prompt, as a model of its own takes them."""
    x, y, weight = keras.tree.map_structure(lambda a: a[number == INDEX], data)
    return {key: value for key, value in x.items() if key != "prompt_index"}, y, weight


def gradients(model, data):
    x, y, weight = data
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = model.compute_loss(x, y, logits, weight)
    actual = tape.gradient(loss, [prompt.value for prompt in model.soft_prompt.prompts])
    return logits.numpy(), float(loss), [gradient.numpy() for gradient in actual]


@pytest.mark.parametrize("visibility", PROMPT_ATTENTION)
def test_each_prompt_has_its_solo_logits_loss_and_gradient(make, visibility):
    bank, solos = make(visibility)
    assert [v.shape for v in bank.trainable_variables] == [(P, H)] * K
    assert len({prompt.tobytes() for prompt in bank.prompt}) == K
    logits, loss, actual = gradients(bank, batch())
    losses = []
    for number, solo in enumerate(solos):
        expected, its_loss, (gradient,) = gradients(solo, rows_of(number, batch()))
        losses.append(its_loss)
        np.testing.assert_allclose(logits[number == INDEX], expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(actual[number], gradient, rtol=1e-6, atol=1e-8)
        assert np.abs(gradient).max() > 1e-3
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)
    # Another prompt's numbers, and its rows, are none of a row's business.
    other = bank.soft_prompt.prompts[1]
    other.assign(other * -2.0)
    changed = bank(batch()[0]).numpy()
    np.testing.assert_array_equal(changed[INDEX != 1], logits[INDEX != 1])
    assert np.abs(changed[INDEX == 1] - logits[INDEX == 1]).min() > 0


def test_a_prompt_without_rows_has_no_gradient(make):
    bank, solos = make()
    x, y, weight = batch()
    weight = weight * (INDEX != 1)[:, None]
    _, loss, actual = gradients(bank, (x, y, weight))
    assert np.abs(actual[1]).max() == 0.0
    expected = [gradients(solos[k], rows_of(k, batch()))[1] for k in (0, 2)]
    assert loss == pytest.approx(np.mean(expected), rel=1e-6)


def test_steps_equal_those_of_each_prompt_alone_at_its_own_rate(make):
    bank, solos = make()
    bank.compile(optimizer=optimizers.Adafactor(learning_rates=RATES, weight_decay=1e-3))
    x, y, weight = batch()
    before = bank.prompt
    history = bank.fit(x, y, sample_weight=weight, batch_size=9, epochs=2, verbose=0).history
    for number, (solo, rate) in enumerate(zip(solos, RATES)):
        solo.compile(optimizer=optimizers.Adafactor(rate, weight_decay=1e-3))
        x, y, weight = rows_of(number, batch())
        alone = solo.fit(x, y, sample_weight=weight, batch_size=9, epochs=2, verbose=0).history
        np.testing.assert_allclose(bank.prompt[number], solo.prompt, rtol=0, atol=1e-6)
        assert np.abs(solo.prompt - before[number]).max() > rate / 2
        np.testing.assert_allclose(history[f"{NAMES[number]}_loss"], alone["loss"], rtol=1e-5)
    config = bank.optimizer.get_config()
    assert optimizers.Adafactor.from_config(config).learning_rates == tuple(RATES)


def test_one_prompt_in_a_bank_is_a_plain_model(make):
    bank, (solo,) = make("prompt", names=["only"])
    x, y, weight = toy.batch()
    actual = gradients(bank, ({**x, "prompt_index": np.zeros(4, "int32")}, y, weight))
    for mine, theirs in zip(actual, gradients(solo, (x, y, weight))):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)


def test_mixed_texts_are_answered_token_for_token_as_alone(full):
    bank, solos = full
    which = ["cb", 2, "glue/sst2", 0]
    actual = bank.generate(TEXTS, max_length=4, prompt=which, batch_size=3)
    numbers = bank.prompt_numbers(which, 4)
    assert numbers.tolist() == [1, 2, 0, 0]
    solo, each, alone, labels = solos[0], [], [], ["positive", "negative"]
    for prompt in bank.prompt:  # one model, so that its functions are compiled once
        solo.soft_prompt.prompt.assign(prompt)
        each.append(solo.generate(TEXTS, max_length=4))
        alone.append(label_log_likelihoods(solo, TEXTS, labels))
    solo.soft_prompt.prompt.assign(bank.prompt[0])
    assert actual == [each[number][i] for i, number in enumerate(numbers)]
    assert bank.generate(TEXTS[0], max_length=4, prompt="rte") == each[2][0]
    ranked = label_log_likelihoods(bank, TEXTS, labels, prompt=which, batch_size=3)
    expected = [alone[number][i] for i, number in enumerate(numbers)]
    np.testing.assert_allclose(ranked, expected, rtol=1e-5, atol=1e-5)


def test_evaluate_takes_the_prompt(full, data_dir):
    options = {"method": "rank", "data_dir": data_dir, "limit": 6}
    actual = evaluate(full[0], "synthetic/movies", prompt="cb", **options)
    solo = full[1][0]
    solo.soft_prompt.prompt.assign(full[0].prompt[1])
    alone = evaluate(solo, "synthetic/movies", **options)
    assert actual.scores == alone.scores
    assert [r["prediction"] for r in actual.predictions] == [
        r["prediction"] for r in alone.predictions
    ]


# === Building and files ===


def test_initial_prompts(backbone, tokenizer, tmp_path):
    def initial(start, **options):
        options = {"tokenizer": tokenizer, "prompt_length": 4, **options}
        return build.build(backbone, start, **options).prompt

    drawn = initial("sampled_vocab", num_prompts=2, seed=3)
    np.testing.assert_array_equal(drawn[0], initial("sampled_vocab", seed=3))
    np.testing.assert_array_equal(drawn[1], initial("sampled_vocab", seed=4))
    file = prompts.write(tmp_path / "p.npy", drawn[1])
    labels = [["good", "bad"], ["yes", "no"]]
    mixed = initial([file, "class_labels"], num_prompts=2, labels=labels, seed=[0, 7])
    np.testing.assert_array_equal(mixed[0], drawn[1])
    np.testing.assert_array_equal(mixed[1], initial("class_labels", labels=labels[1], seed=7))
    np.testing.assert_array_equal(initial(file, num_prompts=2), [drawn[1]] * 2)


def test_prompts_are_saved_and_loaded_one_by_one(full, tmp_path):
    bank, _ = full
    path = bank.save_prompt(tmp_path / "p.npz", prompt="cb", task="super_glue/cb")
    assert prompts.read(path).provenance["task"] == "super_glue/cb"
    np.testing.assert_array_equal(prompts.read(path).values, bank.prompt[1])
    before = bank.prompt
    bank.load_prompt(path, prompt=2)
    np.testing.assert_array_equal(bank.prompt, before[[0, 1, 1]])
    bank.soft_prompt.prompts[2].assign(before[2])


def test_a_keras_file_keeps_the_bank(make, tmp_path):
    bank, _ = make("causal")
    bank.compile(optimizer=optimizers.Adafactor(learning_rates=RATES))
    bank.optimizer.build(bank.trainable_variables)
    bank.save(tmp_path / "bank.keras")
    again = keras.saving.load_model(tmp_path / "bank.keras")
    assert again.prompt_names == tuple(NAMES)
    assert again.optimizer.learning_rates == tuple(RATES)
    np.testing.assert_array_equal(again.prompt, bank.prompt)
    x, _, _ = batch()
    np.testing.assert_array_equal(again(x), bank(x))


def test_a_saved_model_serves_many_tasks(full, tmp_path):
    bank, _ = full
    bank.export(tmp_path / "served", max_length=4)
    serve = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    which = ["cb", "rte", "glue/sst2", "cb"]
    actual = serve(text=tf.constant(TEXTS), prompt=tf.constant(which))["outputs"].numpy()
    expected = bank.generate(TEXTS, max_length=4, prompt=which)
    assert [answer.decode() for answer in actual] == expected
    answer = serve(text=tf.constant(TEXTS[:1]), prompt=tf.constant(["mnli"]))
    assert b"`prompt` must be a known name" in answer["error"].numpy()[0]


# === Data and training ===


def test_every_prompt_gets_the_batches_of_its_own_task(tokenizer, data_dir):
    members, seeds, size = ["synthetic/movies", "synthetic/products"], [0, 5], 2
    data = keras_spot.load_bank(members, "train", tokenizer, size, data_dir=data_dir, seeds=seeds)
    steps = batches.WINDOW + 1
    results = list(data.take(steps).as_numpy_iterator())
    longest = max(x["encoder_token_ids"].shape[1] for x, _, _ in results)

    def window(parts):
        return sorted(
            np.pad(x["encoder_token_ids"], [[0, 0], [0, longest - x["encoder_token_ids"].shape[1]]])
            .astype("int32")
            .tolist()
            for x in parts
        )

    for number, (task, seed) in enumerate(zip(members, seeds)):
        alone = keras_spot.load_task(
            task, "train", tokenizer, size, data_dir=data_dir, seed=seed, repeat=True
        )
        mine = [
            {key: value[x["prompt_index"] == number] for key, value in x.items()}
            for x, _, _ in results
        ]
        theirs = [x for x, _, _ in alone.take(batches.WINDOW).as_numpy_iterator()]
        assert all(len(x["encoder_token_ids"]) == size for x in mine)
        assert window(mine[: batches.WINDOW]) == window(theirs)
    late = keras_spot.load_bank(
        members, "train", tokenizer, size, data_dir=data_dir, seeds=seeds, start_step=steps - 2
    )
    for (x, y, weight), (a, b, c) in zip(results[-2:], late.take(2).as_numpy_iterator()):
        keras.tree.map_structure(np.testing.assert_array_equal, (x, y, weight), (a, b, c))


RECIPE = Recipe(prompt_length=3, batch_size=2, checkpoint_every=2, prompt_init="uniform")


@pytest.fixture(scope="module")
def train(backbone, tokenizer, data_dir):
    def call(run_dir, function=keras_spot.train_bank, **options):
        return function(
            options.pop("task", ["synthetic/movies", "synthetic/products"]),
            run_dir,
            **{
                "backbone": backbone,
                "tokenizer": tokenizer,
                "recipe": RECIPE,
                "steps": 4,
                "data_dir": data_dir,
                "devices": "one_device",
                "method": "rank",
                "validation_limit": 4,
                **options,
            },
        )

    return call


def test_a_bank_leaves_a_run_for_each_prompt_and_continues(train, backbone, tokenizer, tmp_path):
    options = {"seed": [0, 1], "learning_rate": [0.3, 0.1]}
    whole = train(tmp_path / "whole", **options)
    names = ["synthetic/movies-seed0-rate0.3", "synthetic/products-seed1-rate0.1"]
    assert list(whole.runs) == names == list(whole.model.prompt_names)
    for number, run in enumerate(whole.runs.values()):
        assert prompts.steps(run.run_dir) == [2, 4]
        np.testing.assert_array_equal(
            prompts.read(run.run_dir, 4).values, whole.model.prompt[number]
        )
        assert [line["step"] for line in run.history] == [2, 4]
        assert set(run.history[0]) == {"step", "seconds", "loss", "score", "accuracy", "invalid"}
        assert run.best["score"] == max(line["score"] for line in run.history)
        provenance = prompts.read(run.run_dir, 2).provenance
        assert provenance["seed"] == number
        assert provenance["learning_rate"] == [0.3, 0.1][number]
        assert provenance["task"] == f"synthetic/{['movies', 'products'][number]}"
        assert provenance["backbone"] == whole.model.fingerprint
    start = build.build(backbone, whole.runs[names[1]].run_dir, tokenizer=tokenizer).prompt
    np.testing.assert_array_equal(start, prompts.read(whole.runs[names[1]].run_dir).values)

    train(tmp_path / "halves", steps=2, **options)
    halves = train(tmp_path / "halves", **options)
    np.testing.assert_array_equal(halves.model.prompt, whole.model.prompt)
    for mine, theirs in zip(halves.runs.values(), whole.runs.values()):
        assert [line["step"] for line in mine.history] == [2, 4]
        assert mine.best == theirs.best
    with pytest.raises(ValueError, match=r"`run_dir` must be new or hold a run with the same prom"):
        train(tmp_path / "halves", seed=[0, 2], learning_rate=[0.3, 0.1], names=names)
    shutil.rmtree(halves.runs[names[1]].run_dir)
    with pytest.raises(ValueError, match=r"`run_dir` must hold the folder of each prompt"):
        train(tmp_path / "halves", **options)


def test_a_bank_trains_what_training_alone_does(train, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "WINDOW", 1)
    options = {"validation_split": "", "task": "synthetic/movies"}
    bank = train(tmp_path / "bank", seed=[3, 4], **options)
    assert list(bank.runs) == ["seed3", "seed4"]
    alone = train(tmp_path / "alone", keras_spot.train, seed=4, **options)
    np.testing.assert_allclose(bank.model.prompt[1], alone.model.prompt, rtol=0, atol=5e-4)
    results = [line["loss"] for line in bank.runs["seed4"].history]
    assert results == pytest.approx([line["loss"] for line in alone.history], rel=1e-3)


# === What is refused ===


def test_wrong_prompts_and_names(full, make, train, tmp_path):
    bank, solos = full
    known = "must be a name or a number below 3, the prompts of the bank. Received: prompt="
    wrong = {
        lambda: bank.generate(TEXTS, prompt="sst2"): "`prompt` must be a known name. "
        "Received: prompt='sst2' (did you mean 'glue/sst2'?)",
        lambda: bank.generate(TEXTS): f"`prompt` {known}None",
        lambda: bank.save_prompt(tmp_path / "p.npz", prompt=3): f"`prompt` {known}3",
        lambda: bank.load_prompt(tmp_path, prompt=-1): f"`prompt` {known}-1",
        lambda: bank.generate(TEXTS, prompt=["cb"]): "`prompt` must be one for all texts, or one "
        "for each. Received: 1 prompts for 4 texts",
        lambda: solos[0].generate(TEXTS, prompt="cb"): "`prompt` must be None for a model with one "
        "prompt. Received: prompt='cb'",
        lambda: make(num_prompts=2): "`prompt_names` must be 2 different names, good for folders. "
        f"Received: {NAMES}",
        lambda: bank.forward_pass.encode(*[np.ones((1, 2), "int32")] * 2): "`prompt_index` "
        "must be given for a bank of prompts, and only for one. Received: prompt_index=None",
        lambda: make(names=["a", "a"]): "`prompt_names` must be 2 different names, good for "
        "folders. Received: ['a', 'a']",
        lambda: make(names=["a/b", "a.b"]): "`prompt_names` must be 2 different names, good for "
        "folders. Received: ['a/b', 'a.b']",
        lambda: prompt_names.check([".."], 1): "`prompt_names` must be 1 different names, good for "
        "folders. Received: ['..']",
        lambda: prompt_names.check(["a"], None): "`prompt_names` must come with `num_prompts`. "
        "Received: ['a']",
        lambda: make(start=["uniform"] * 2): "`prompt_init` must be one, or a list of 3, one for "
        "each prompt. Received: 2",
        lambda: make(seed=[1]): "`seed` must be one, or a list of 3, one for each prompt. "
        "Received: 1",
        lambda: bank.compile(loss="mse"): "`loss` must be a keras.losses.Loss for a bank of "
        "prompts. Received: 'mse'",
        lambda: optimizers.Adafactor(learning_rates=[1.0]).build(
            bank.trainable_variables
        ): "`learning_rates` must be 3, one for each variable. Received: 1",
        lambda: train(tmp_path, seed=[1, 2, 3]): "`task` must be one for all prompts, or a "
        "list of 3. Received: 2",
        lambda: keras_spot.load_bank([]): "`members` must be at least one task. Received: []",
        lambda: keras_spot.load_bank(["glue/rte"], seeds=[1, 2]): "`seeds` must be 1, one for each "
        "task. Received: seeds=[1, 2]",
    }
    for call, message in wrong.items():
        with pytest.raises(ValueError) as error:
            call()
        assert message in str(error.value)
    assert not list(tmp_path.iterdir())
