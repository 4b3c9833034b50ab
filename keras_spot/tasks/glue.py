"""GLUE (Wang et al. 2019): the text forms of the T5 paper (Raffel et al. 2020, appendix D)."""

from keras_spot.tasks.task import Task

__all__ = ["TASKS"]

_TEST_ONLY = {"test": "test"}
_MNLI_SPLITS = {
    "train": "train",
    "validation": "validation_matched",
    "validation_matched": "validation_matched",
    "validation_mismatched": "validation_mismatched",
    "test": "test_matched",
    "test_matched": "test_matched",
    "test_mismatched": "test_mismatched",
}

TASKS = (
    Task(
        name="glue/cola",
        tfds="glue/cola:2.0.0",
        input="cola sentence: {sentence}",
        labels=("unacceptable", "acceptable"),
        metrics=("matthews",),
    ),
    Task(
        name="glue/sst2",
        tfds="glue/sst2:2.0.0",
        input="sst2 sentence: {sentence}",
        labels=("negative", "positive"),
        metrics=("accuracy",),
    ),
    Task(
        name="glue/mrpc",
        tfds="glue/mrpc:2.0.0",
        input="mrpc sentence1: {sentence1} sentence2: {sentence2}",
        labels=("not_equivalent", "equivalent"),
        metrics=("f1", "accuracy"),
    ),
    Task(
        name="glue/qqp",
        tfds="glue/qqp:2.0.0",
        input="qqp question1: {question1} question2: {question2}",
        labels=("not_duplicate", "duplicate"),
        metrics=("f1", "accuracy"),
    ),
    Task(
        name="glue/stsb",
        tfds="glue/stsb:2.0.0",
        input="stsb sentence1: {sentence1} sentence2: {sentence2}",
        metrics=("pearson", "spearman"),
        preprocess="similarity",
    ),
    Task(
        name="glue/mnli",
        tfds="glue/mnli:2.0.0",
        input="mnli hypothesis: {hypothesis} premise: {premise}",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        splits=_MNLI_SPLITS,
        validation=("validation_matched", "validation_mismatched"),
    ),
    Task(
        name="glue/mnli_matched",
        tfds="glue/mnli_matched:2.0.0",
        input="mnli hypothesis: {hypothesis} premise: {premise}",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        splits={"validation": "validation", "test": "test"},
    ),
    Task(
        name="glue/mnli_mismatched",
        tfds="glue/mnli_mismatched:2.0.0",
        input="mnli hypothesis: {hypothesis} premise: {premise}",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        splits={"validation": "validation", "test": "test"},
    ),
    Task(
        name="glue/qnli",
        tfds="glue/qnli:2.0.0",
        input="qnli question: {question} sentence: {sentence}",
        labels=("entailment", "not_entailment"),
        metrics=("accuracy",),
    ),
    Task(
        name="glue/rte",
        tfds="glue/rte:2.0.0",
        input="rte sentence1: {sentence1} sentence2: {sentence2}",
        labels=("entailment", "not_entailment"),
        metrics=("accuracy",),
    ),
    Task(
        name="glue/wnli",
        tfds="glue/wnli:2.0.0",
        input="wnli sentence1: {sentence1} sentence2: {sentence2}",
        labels=("not_entailment", "entailment"),
        metrics=("accuracy",),
    ),
    Task(
        name="glue/ax",
        tfds="glue/ax:2.0.0",
        input="mnli hypothesis: {hypothesis} premise: {premise}",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("matthews",),
        splits=_TEST_ONLY,
        validation=(),
    ),
)
