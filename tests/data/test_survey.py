"""Labels as tokens, lengths that cut, limits of one's own data, weights, and exact losses."""

import dataclasses
import warnings

import numpy as np
import pytest

from keras_spot import data, tasks


def task_of(rows, **fields):
    return tasks.Task(**{"name": "mine", "input": "{s}", "rows": {"train": rows}, **fields})


def labelled(labels, **fields):
    rows = [{"s": "good film", "label": labels[i % len(labels)]} for i in range(4)]
    return task_of(rows, labels=labels, **fields)


# === Labels ===


@pytest.mark.parametrize("labels", [("😀", "😡"), ("not good", "not  good"), ("①", "1")])
def test_labels_of_the_same_tokens_are_refused(labels, t5_tokenizer):
    task = labelled(labels)
    for method in ("rank", "generate"):
        with pytest.raises(ValueError, match=r"^`labels` must be of different tokens\. Received: "):
            data.check_labels(task, t5_tokenizer, method)
    with pytest.raises(ValueError, match="must be of different tokens"):
        data.load_task(task, "train", t5_tokenizer)
    with pytest.raises(ValueError, match="must be of different tokens"):
        data.load_bank([task, task], "train", t5_tokenizer)


@pytest.mark.parametrize("labels", [("{a}", "b"), ("a  b", "c"), ("½", "b"), ("naïve\u200b", "b")])
def test_labels_that_do_not_come_back(labels, t5_tokenizer):
    task = labelled(labels)
    with pytest.raises(ValueError, match=r"must come back from their tokens \(or be ranked"):
        data.check_labels(task, t5_tokenizer, "generate")
    with pytest.warns(data.DataWarning, match="a label does not come back from its tokens"):
        data.load_task(task, "train", t5_tokenizer)


def test_labels_of_the_catalogue_come_back(t5_tokenizer):
    for name in tasks.names():
        data.check_labels(tasks.get(name), t5_tokenizer, "generate")


def test_free_text_has_no_labels_to_check(tokenizer):
    data.check_labels(task_of([], target="{s}"), tokenizer, "generate")


# === Lengths ===


def rows_of(lengths, tokenizer):
    word = "good"
    assert len(tokenizer(word)) == 1
    return [{"s": " ".join([word] * i), "t": " ".join([word] * j)} for i, j in lengths]


def test_one_warning_with_counts(tokenizer):
    task = task_of(rows_of([(9, 1), (10, 3), (19, 4), (5, 2)], tokenizer), target="{t}")
    message = (
        r"^mine train: 2 of 4 inputs \(50.0%\) are longer than 10 tokens and cut \(up to 20\); "
        r"1 of 4 targets \(25.0%\) are longer than 4 tokens and cut \(up to 5\)$"
    )
    lengths = {"input_length": 10, "target_length": 4}
    with pytest.warns(data.DataWarning, match=message) as caught:
        data.load_task(task, "train", tokenizer, 2, **lengths)
    assert len(caught) == 1
    actual = data.survey(task, "train", tokenizer, **lengths)
    assert (actual.inputs_cut, actual.targets_cut, actual.rows, actual.whole) == (2, 1, 4, True)
    assert (actual.longest_input, actual.longest_target) == (20, 5)
    with pytest.warns(data.DataWarning, match=r"^mine train \(first 3 rows\): 2 of 3 inputs"):
        data.load_task(task, "train", tokenizer, 2, limit=3, **lengths)
    with pytest.warns(data.DataWarning, match=message):
        data.load_bank([task, task], "train", tokenizer, 2, **lengths)
    mixture = tasks.Mixture("two", (task,), weights={task: 1.0})
    with pytest.warns(data.DataWarning, match=message):
        data.load_mixture(mixture, "train", tokenizer, 2, **lengths)


def test_the_default_target_limit_is_that_of_the_data(tokenizer):
    task = task_of(rows_of([(1, 3), (1, 11)], tokenizer), target="{t}")
    assert data.target_limit(task, tokenizer) == 12
    _, y, weight = next(iter(data.load_task(task, "train", tokenizer, 2)))
    assert y.shape == (2, 12)
    assert sorted(np.sum(weight, axis=1)) == [4, 12]
    given = dataclasses.replace(task, max_target_length=20)
    assert data.target_limit(given, tokenizer) == 20
    long = task_of(rows_of([(1, 600)], tokenizer), target="{t}")
    assert data.target_limit(long, tokenizer) == 512
    labels = labelled(("good", "good good good"))
    assert data.target_limit(labels, tokenizer) == 4
    with pytest.raises(ValueError, match="`max_target_length` must be given for a task of free"):
        data.target_limit(dataclasses.replace(task, rows={"test": []}), tokenizer)
    # Those of the catalogue have the published limits.
    assert data.target_limit("glue/sst2", tokenizer) == 8
    assert data.target_limit("super_glue/record", tokenizer) == 32


# === Weights and the number of batches ===


def test_label_weights_reach_the_loss(tokenizer):
    task = labelled(("bad", "good"), label_weights={"good": 0.25})
    bad = np.asarray([*tokenizer("bad"), 1])
    for options in ({}, {"repeat": True}, {"shuffle": False}):
        _, y, weight = next(iter(data.load_task(task, "train", tokenizer, 4, **options)))
        for ids, weights in zip(y.numpy(), weight.numpy()):
            expected = 1.0 if list(ids[ids != 0]) == list(bad) else 0.25
            assert set(weights[ids != 0]) == {expected}
            assert not weights[ids == 0].any()
    bank = data.load_bank(
        [task, dataclasses.replace(task, label_weights={})], "train", tokenizer, 4
    )
    _, _, weight = next(iter(bank))
    assert set(weight.numpy()[:4].ravel()) >= {0.25, 1.0}
    assert set(weight.numpy()[4:].ravel()) <= {0.0, 1.0}


@pytest.mark.parametrize("drop_remainder", [False, True])
def test_finite_data_know_their_number(drop_remainder, tokenizer, data_dir):
    options = {"data_dir": data_dir, "drop_remainder": drop_remainder}
    for split in ("train[:100]", "validation[:31]"):
        for size in (7, 31):
            dataset = data.load_task("synthetic/movies", split, tokenizer, size, **options)
            assert dataset.cardinality() == len(list(dataset))
    filtered = task_of(
        [{"s": "a", "label": ("bad", "good")[i % 2]} for i in range(9)],
        labels=("bad", "good"),
        train_label=1,
        preprocess=lambda row: [row] * 3,
    )
    dataset = data.load_task(filtered, "train", tokenizer, 5, drop_remainder=drop_remainder)
    assert dataset.cardinality() == len(list(dataset)) == (2 if drop_remainder else 3)


@pytest.mark.parametrize("rows", [4, 16, 18])
def test_the_loss_is_the_mean_over_all_targets(rows, tokenizer, data_dir):
    import toy
    from keras_hub.models import T5Seq2SeqLMPreprocessor

    from keras_spot import PromptedT5

    model = PromptedT5(
        toy.shallow(tokenizer.vocabulary_size(), dropout=0.0),
        T5Seq2SeqLMPreprocessor(tokenizer),
        prompt_length=2,
        prompt_initializer="uniform",
    )
    dataset = data.load_task(
        "synthetic/movies", f"validation[:{rows}]", tokenizer, 4, data_dir=data_dir, buckets=(),
        input_length=48,
    )  # fmt: skip
    losses, targets = [], []
    for x, y, weight in dataset:
        value = model.loss(y, model(x), sample_weight=weight)
        losses.append(float(value))
        targets.append(np.sum(weight))
    assert len(losses) == -(-rows // 4)
    mean = np.average(losses, weights=targets)
    assert model.evaluate(dataset, verbose=0)[0] == pytest.approx(mean, rel=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = model.fit(dataset, validation_data=dataset, verbose=0, shuffle=False).history
    assert history["val_loss"][0] == pytest.approx(model.evaluate(dataset, verbose=0)[0], rel=1e-5)
