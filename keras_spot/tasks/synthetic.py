"""The package's own synthetic tasks, served by `keras_spot.tasks.synthetic_data`."""

from keras_spot.tasks.task import Task

__all__ = ["TASKS"]

TASKS = (
    Task(
        name="synthetic/movies",
        tfds="synthetic/movies:1.0.0",
        input="movies sentence: {sentence}",
        labels=("negative", "positive"),
        metrics=("accuracy",),
    ),
    Task(
        name="synthetic/products",
        tfds="synthetic/products:1.0.0",
        input="products sentence: {sentence}",
        labels=("negative", "positive"),
        metrics=("accuracy",),
    ),
    Task(
        name="synthetic/entailment",
        tfds="synthetic/entailment:1.0.0",
        input="entailment hypothesis: {hypothesis} premise: {premise}",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
    ),
    Task(
        name="synthetic/paraphrase",
        tfds="synthetic/paraphrase:1.0.0",
        input="paraphrase sentence1: {sentence1} sentence2: {sentence2}",
        labels=("not_equivalent", "equivalent"),
        metrics=("accuracy",),
    ),
    Task(
        name="synthetic/topic",
        tfds="synthetic/topic:1.0.0",
        input="topic sentence: {sentence}",
        labels=("sports", "business", "science", "food"),
        metrics=("accuracy",),
    ),
)
