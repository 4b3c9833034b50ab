"""Classification tasks outside the benchmarks: sentiment, subjectivity, topic, pairs.

mr, subj, mpqa, ling_nli and quora_pairs have no builder in TFDS: they are read from prepared
directories of these names and versions.
"""

from keras_spot.tasks.task import Task

__all__ = ["TASKS", "WITHOUT_BUILDER"]

WITHOUT_BUILDER = frozenset({"mr", "subj", "mpqa", "ling_nli", "quora_pairs"})
"""Tasks whose data TFDS can read but not prepare."""

_TRAIN_AND_TEST = {"train": "train", "validation": "test", "test": "test"}
_NO_TEST = {"train": "train", "validation": "validation"}

TASKS = (
    Task(
        name="mr",
        tfds="mr:1.0.0",
        input="mr sentence: {sentence}",
        labels=("negative", "positive"),
        metrics=("accuracy",),
        splits=_NO_TEST,
    ),
    Task(
        name="subj",
        tfds="subj:1.0.0",
        input="subj sentence: {sentence}",
        labels=("objective", "subjective"),
        metrics=("accuracy",),
        splits=_NO_TEST,
    ),
    Task(
        name="mpqa",
        tfds="mpqa:1.0.0",
        input="mpqa sentence: {sentence}",
        labels=("negative", "positive"),
        metrics=("accuracy",),
        splits=_NO_TEST,
    ),
    Task(
        name="trec",
        tfds="trec:1.0.0",
        input="trec text: {text}",
        labels=("DESC", "ENTY", "ABBR", "HUM", "NUM", "LOC"),
        label_feature="label-coarse",
        metrics=("accuracy",),
        splits=_TRAIN_AND_TEST,
    ),
    Task(
        name="imdb_reviews",
        tfds="imdb_reviews/plain_text:1.0.0",
        input="imdb_reviews text: {text}",
        labels=("neg", "pos"),
        metrics=("accuracy",),
        splits=_TRAIN_AND_TEST,
    ),
    Task(
        name="yelp_polarity_reviews",
        tfds="yelp_polarity_reviews:0.2.0",
        input="yelp_polarity_reviews text: {text}",
        labels=("negative", "positive"),
        metrics=("accuracy",),
        splits=_TRAIN_AND_TEST,
    ),
    Task(
        name="sentiment140",
        tfds="sentiment140:1.0.0",
        input="sentiment140 text: {text}",
        labels=("negative", "neutral", "positive"),
        metrics=("accuracy",),
        splits=_TRAIN_AND_TEST,
        preprocess="polarity",
    ),
    Task(
        name="goemotions",
        tfds="goemotions:0.1.0",
        input="goemotions text: {comment_text}",
        target="{emotions}",
        metrics=("exact_match",),
        preprocess="emotions",
        max_target_length=32,
    ),
    Task(
        name="ling_nli",
        tfds="ling_nli:1.0.0",
        input="ling_nli hypothesis: {hypothesis} premise: {premise}",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        splits=_NO_TEST,
    ),
    Task(
        name="quora_pairs",
        tfds="quora_pairs:1.0.0",
        input="quora_pairs question1: {question1} question2: {question2}",
        labels=("not_duplicate", "duplicate"),
        metrics=("f1", "accuracy"),
        splits=_NO_TEST,
    ),
)
