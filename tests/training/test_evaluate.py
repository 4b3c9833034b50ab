import json

import keras
import numpy as np
import pytest
import toy

from keras_spot import tasks
from keras_spot.model import build
from keras_spot.training.evaluate import evaluate, label_log_likelihoods, submit
from keras_spot.training.predict import predict


@pytest.fixture(scope="module")
def model(tokenizer):
    backbone = toy.shallow(tokenizer.vocabulary_size())
    return build.build(backbone, tokenizer=tokenizer, prompt_length=3)


def likelihood(model, text, label):
    """Log-likelihood by one full forward pass and a loop over the target."""
    row, target = model.token_rows([text, label])
    x = {
        "encoder_token_ids": np.array([row], "int32"),
        "encoder_padding_mask": np.ones((1, len(row)), "int32"),
        "decoder_token_ids": np.array([[0, *target[:-1]]], "int32"),
        "decoder_padding_mask": np.ones((1, len(target)), "int32"),
    }
    logits = keras.ops.convert_to_numpy(model(x))[0].astype("float64")
    return sum(z[t] - np.log(np.exp(z - z.max()).sum()) - z.max() for z, t in zip(logits, target))


def test_ranking_equals_a_loop_over_labels(model):
    texts = ["a fine film", "it broke at once and the shop never answered", "soup"]
    labels = ["negative", "positive", "neutral"]
    actual = label_log_likelihoods(model, texts, labels, batch_size=2)
    expected = [[likelihood(model, text, label) for label in labels] for text in texts]
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_rank_picks_the_likeliest_label(model, data_dir):
    actual = evaluate(model, "synthetic/movies", method="rank", data_dir=data_dir, limit=20)
    assert actual.examples == 20
    assert actual.scores["invalid"] == 0
    right = [r["prediction"] == r["target"] for r in actual.predictions]
    assert actual.scores["accuracy"] == pytest.approx(100 * np.mean(right))
    for record in actual.predictions:
        assert record["prediction"] == max(record["scores"], key=record["scores"].get)


def test_decoding_counts_invalid_answers_as_wrong(model, data_dir, tmp_path):
    actual = evaluate(model, "synthetic/movies", data_dir=data_dir, limit=10)
    labels = tasks.get("synthetic/movies").labels
    answers = [r["prediction"] for r in actual.predictions]
    assert actual.scores["invalid"] == sum(a not in labels for a in answers)
    assert answers == model.generate([r["input"] for r in actual.predictions], max_length=8)
    actual.write(tmp_path / "p.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == answers
    assert set(lines[0]) >= {"split", "index", "idx", "input", "target", "prediction"}


def test_several_validation_splits_are_averaged(model, data_dir):
    import dataclasses

    task = dataclasses.replace(
        tasks.get("synthetic/movies"), validation=("validation[:5]", "validation[5:20]")
    )
    actual = evaluate(model, task, method="rank", data_dir=data_dir)
    parts = [actual.scores[f"{split}/score"] for split in task.validation]
    assert actual.scores["score"] == pytest.approx(np.mean(parts))
    assert actual.examples == 20


def test_beams_find_likelier_answers_and_leave_the_sampler_alone(model, data_dir):
    sampler = model.sampler
    beam = evaluate(model, "synthetic/movies", method="beam", data_dir=data_dir, limit=4)
    again = evaluate(model, "synthetic/movies", method="beam", data_dir=data_dir, limit=4)
    assert beam.predictions == again.predictions
    assert model.sampler is sampler
    greedy = evaluate(model, "synthetic/movies", data_dir=data_dir, limit=4)
    for wide, narrow in zip(beam.predictions, greedy.predictions):
        both = [wide["prediction"], narrow["prediction"]]
        if all(both) and max(len(row) for row in model.token_rows(both)) <= 8:
            actual = label_log_likelihoods(model, [wide["input"]], both)[0]
            assert actual[0] >= actual[1] - 1e-3


def test_submission_files_come_from_test_splits(model, data_dir, tmp_path, monkeypatch):
    import dataclasses

    task = dataclasses.replace(tasks.get("synthetic/movies"), name="glue/sst2")
    with monkeypatch.context() as patch:  # another process writes it
        patch.setattr("keras_spot.base.hosts.is_chief", lambda: False)
        path = submit(model, task, tmp_path, "test", method="rank", data_dir=data_dir)
    assert not path.exists()
    assert path == submit(model, task, tmp_path, "test", method="rank", data_dir=data_dir)
    lines = path.read_text().splitlines()
    assert path.name == "SST-2.tsv"
    assert lines[0] == "index\tprediction"
    assert [line.split("\t")[0] for line in lines[1:4]] == ["0", "1", "2"]
    assert {line.split("\t")[1] for line in lines[1:]} <= {"0", "1"}


def test_predict_answers_unlabelled_splits(model, data_dir):
    records = list(predict(model, "synthetic/movies", "test", data_dir=data_dir, limit=3))
    assert [r["index"] for r in records] == [0, 1, 2]
    assert {r["target"] for r in records} == {"<unk>"}
    assert all(isinstance(r["prediction"], str) for r in records)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "synthetic/movie"}, "(did you mean 'synthetic/movies'"),
        ({"split": "tset"}, "(did you mean 'test'"),
        ({"split": "test"}, "`split` must have labelled examples to score. Received: split='test'"),
        ({"method": "bean"}, "`method` must be a known name. Received: method='bean'"),
        (
            {"task": "super_glue/wsc", "method": "rank"},
            "`method` must be 'generate' where the target is no label. Received: super_glue/wsc",
        ),
    ],
)
def test_bad_arguments(model, data_dir, arguments, message):
    arguments = {"task": "synthetic/movies", **arguments}
    with pytest.raises(ValueError) as error:
        evaluate(model, **arguments, data_dir=data_dir, limit=2)
    assert message in str(error.value)


def test_predicting_knows_the_methods_too(model, data_dir):
    with pytest.raises(
        ValueError, match=r"`method` must be a known name\. Received: method='bean'"
    ):
        list(predict(model, "synthetic/movies", method="bean", data_dir=data_dir, limit=1))


def test_a_model_without_tokenizer_cannot_read_texts(data_dir):
    bare = build.build(toy.shallow(64), prompt_length=2)
    with pytest.raises(ValueError, match=r"`model` must have a preprocessor to read texts"):
        evaluate(bare, "synthetic/movies", data_dir=data_dir, limit=2)
