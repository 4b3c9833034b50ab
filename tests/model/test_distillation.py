"""What prompts learn from trained prompts, beside their tasks."""

import functools
import json

import numpy as np
import pytest
import tensorflow as tf
import toy

import keras_spot
from keras_spot import prompts
from keras_spot.model import build

P, H, V = 5, 16, 64
TEACHERS = np.random.default_rng(2).normal(size=(3, P + 2, H)).astype("float32")


@functools.cache
def backbone():
    return toy.shallow(V, dtype="float64", gain=1.0)


def made(**options):
    options = {"prompt_init": "uniform", "prompt_length": P, **options}
    model = build.build(backbone(), **options)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.3, variable.shape))
    return model


def gradients(model, x, y, weight):
    """Return the loss and the gradients by the name of the variable."""
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True), weight)
    actual = tape.gradient(loss, [v.value for v in variables])
    return float(loss), {v.name: np.asarray(g) for v, g in zip(variables, actual)}


def outputs(model, x):
    """Return encoder states of tokens, decoder states behind their norm, and log-probabilities."""
    plain = model.forward_pass.plain
    states, mask = plain.encode(x["encoder_token_ids"], x["encoder_padding_mask"])
    targets = x["decoder_token_ids"], x["decoder_padding_mask"]
    hidden = plain.decoder_states(*targets, states, mask)
    normed = plain.norm(model.backbone.decoder_layer_norm, hidden)
    logits = np.asarray(model(x), "float64")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    tokens = x["encoder_token_ids"].shape[1]
    return np.asarray(states)[:, -tokens:], np.asarray(normed), logs


@pytest.mark.parametrize("attention", ["full", "prompt"])
def test_the_loss_is_the_papers(attention):
    student = made(prompt_attention=attention)
    teacher = build.build(backbone(), TEACHERS[0], prompt_attention=attention)
    x, y, weight = toy.batch()
    task, _ = gradients(student, x, y, weight)
    student.distill(TEACHERS[0], weight=0.7)
    both, _ = gradients(student, x, y, weight)
    (t_states, t_hidden, t_logs), (states, hidden, logs) = (
        outputs(model, x) for model in (teacher, student)
    )
    of_targets, of_tokens = x["decoder_padding_mask"], x["encoder_padding_mask"]
    divergence = (np.exp(t_logs) * (t_logs - logs)).sum(axis=-1)
    squares = [((a - b) ** 2).mean(axis=-1) for a, b in ((t_states, states), (t_hidden, hidden))]
    squared = (squares[0] * of_tokens).sum() + (squares[1] * of_targets).sum()
    expected = (divergence * of_targets).sum() / of_targets.sum()
    expected += squared / (of_tokens.sum() + of_targets.sum())
    assert both - task == pytest.approx(0.7 * expected, rel=1e-4)
    assert student.evaluate(x, y, sample_weight=weight, verbose=0)[0] == pytest.approx(
        task, rel=1e-4
    )
    student.distill(None)
    assert gradients(student, x, y, weight)[0] == task


def test_teachers_see_what_they_were_trained_to_see(tmp_path):
    files = {}
    for seen in ("prompt", "causal"):
        teacher = build.build(backbone(), TEACHERS[0], prompt_attention=seen)
        files[seen] = teacher.save_prompt(tmp_path / f"{seen}.npz")
    student = made()
    student.distill(files["prompt"])
    assert student.prompt_attention == "full"
    assert student.forward_pass.distillation.teachers.prompt_attention == "prompt"
    bank = made(prompt_names=["a", "b"])
    with pytest.raises(ValueError, match="`teachers` must have been trained with one prompt_atten"):
        bank.distill(list(files.values()))


def test_a_student_comes_nearer_to_its_teacher_also_when_it_is_compiled_before():
    student = made()
    teacher = build.build(backbone(), TEACHERS[0])
    x, y, weight = toy.batch()
    weight = np.zeros_like(weight)  # nothing of the task

    def distance():
        return np.abs(outputs(student, x)[2] - outputs(teacher, x)[2]).mean()

    student.train_on_batch(x, y, weight)
    before = distance()
    student.distill(TEACHERS[0])
    student.optimizer.learning_rate = 0.05
    for _ in range(30):
        student.train_on_batch(x, y, weight)
    assert distance() < 0.7 * before


def test_the_gradient_of_the_shared_part_is_the_sum_of_the_solo_ones():
    options = {"prompt_init": TEACHERS[0, :P], "reparameterization": "shared"}
    bank = made(**options, prompt_names=["a", "b", "c"])
    bank.distill(list(TEACHERS))
    x, y, weight = toy.batch(rows=7)
    index = np.array([2, 0, 1, 1, 0, 2, 1], "int32")
    loss, whole = gradients(bank, {**x, "prompt_index": index}, y, weight)
    losses, parts = [], []
    for number, layer in enumerate(bank.soft_prompt.reparameterized):
        solo = made(**options)
        own = solo.soft_prompt.reparameterization
        for mine, theirs in zip(
            (own.common.prompt, own.left, own.right),
            (layer.common.prompt, layer.left, layer.right),
        ):
            mine.assign(theirs)
        solo.distill(TEACHERS[number])
        rows = index == number
        of_rows = {key: value[rows] for key, value in x.items()}
        alone, gradient = gradients(solo, of_rows, y[rows], weight[rows])
        losses.append(alone)
        parts.append(gradient["shared"])
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    np.testing.assert_allclose(whole["shared"], np.sum(parts, axis=0), rtol=1e-3, atol=1e-5)
    without = [np.abs(part).max() for part in parts]
    assert min(without) > 1e-3
    path = [v.path for v in bank.variables]
    assert not any("teachers" in one for one in path)  # no part of the model


def test_teachers_that_do_not_fit(tmp_path, monkeypatch):
    student = made()
    other = prompts.write(tmp_path / "p.npz", TEACHERS[0], {"backbone": "0123456789abcdef"})
    for teachers, message in (
        (list(TEACHERS), "`teachers` must be 1, one for each prompt. Received: 3"),
        (TEACHERS[0][:, :4], "`teachers` must be prompts of one length and of the width 16."),
        (other, "`teachers` must come from this backbone"),
        (
            keras_spot.initializers.uniform(),
            "`teachers` must be a trained prompt. Received: a ",
        ),
    ):
        with pytest.raises(keras_spot.InvalidArgument) as caught:
            student.distill(teachers)
        assert str(caught.value).startswith(message)
    with pytest.raises(ValueError, match="`weight` must be a positive number"):
        student.distill(TEACHERS[0], weight=0)
    student.distill(keras_spot.initializers.mean_of(list(TEACHERS)))
    with pytest.raises(FileNotFoundError, match=r"`teachers` must be .* Received: teachers='unif"):
        student.distill("uniform")
    bank = made(prompt_names=["a", "b"])
    with pytest.raises(ValueError, match="of one length and of the width 16"):
        bank.distill([TEACHERS[0], TEACHERS[1][:-1]])
    for options, message in (
        ({"teacher": ["a", None]}, "`teacher` must be one for each prompt, or none"),
        ({"distillation_weight": 0.5}, "`distillation_weight` must be given with a teacher"),
        ({"teacher": "a", "distillation_weight": 0}, "`distillation_weight` must be a finite"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_spot.Run(task="synthetic/movies", **options)
    monkeypatch.setattr(keras_spot.backbones, "load", None)  # a path is looked at before that
    with pytest.raises(FileNotFoundError, match=r"`teacher` must be an .*: teacher='none'"):
        keras_spot.train("synthetic/movies", tmp_path / "run", teacher="none", validation_split="")
    assert not (tmp_path / "run").exists()


def test_a_run_learns_from_teachers_and_goes_on(tmp_path, data_dir, tokenizer):
    toy.shallow(tokenizer.vocabulary_size()).save_to_preset(tmp_path / "preset")
    tokenizer.save_to_preset(tmp_path / "preset")
    paths = [prompts.write(tmp_path / f"{n}.npz", t, {}) for n, t in zip("ab", TEACHERS)]
    recipe = keras_spot.Recipe(prompt_length=4, batch_size=4, checkpoint_every=1)
    options = {"backbone": tmp_path / "preset", "data_dir": data_dir, "recipe": recipe}
    options |= {"validation_split": "", "input_length": 16, "reparameterization": "shared"}
    options |= {"prompt_init": TEACHERS[0], "teacher": paths, "progress": None}
    tasks = ["synthetic/movies", "synthetic/products"]
    whole = keras_spot.train_bank(tasks, tmp_path / "whole", steps=2, **options)
    keras_spot.train_bank(tasks, tmp_path / "bank", steps=1, **options)
    bank = keras_spot.train_bank(tasks, tmp_path / "bank", steps=2, **options)
    np.testing.assert_array_equal(bank.model.prompt, whole.model.prompt)
    assert bank.model.forward_pass.distillation.weight == 0.9
    for number, run in enumerate(bank.runs.values()):  # every task folds
        np.testing.assert_array_equal(prompts.read(run.run_dir).values, bank.model.prompt[number])
    record = json.loads((tmp_path / "bank" / "run.json").read_text())
    assert [one["teacher"] for one in record["prompts"].values()] == list(map(str, paths))
    for one in record["prompts"].values():
        one["prompt_init"] = "uniform"
    run = keras_spot.Run.from_record(record)
    assert [member.teacher for member in run.members] == list(map(str, paths))
    for changes in ({"teacher": None}, {"distillation_weight": 0.5}):
        with pytest.raises(ValueError, match="must be new or hold a run with the same"):
            keras_spot.train_bank(tasks, tmp_path / "bank", steps=2, **{**options, **changes})
