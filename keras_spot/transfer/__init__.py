"""Arithmetic on prompts as task embeddings: similarity, averages, task vectors, gain (NumPy alone).

A similarity is a function of a query `[P, H]` and prompts `[N, Q, H]` that gives float64 `[N]`,
larger for what is more alike. `by` takes the name of one of `SIMILARITIES` or any such function;
there is nothing to register.
"""

from keras_spot.prompts.arithmetic import add_task_vectors, average, task_vector
from keras_spot.prompts.similarity import (
    SIMILARITIES,
    SUMMARIES,
    Similarity,
    average_token_cosine,
    max_inner_product,
    mean_unit,
    per_token_cosine,
    rank,
    similarities,
    similarity,
    unit_mean,
)
from keras_spot.transfer.gains import (
    GainPrediction,
    correlation,
    predict_gain,
    relative_error_reduction,
)

__all__ = [
    "SIMILARITIES",
    "SUMMARIES",
    "GainPrediction",
    "Similarity",
    "add_task_vectors",
    "average",
    "average_token_cosine",
    "correlation",
    "max_inner_product",
    "mean_unit",
    "per_token_cosine",
    "predict_gain",
    "rank",
    "relative_error_reduction",
    "similarities",
    "similarity",
    "task_vector",
    "unit_mean",
]
