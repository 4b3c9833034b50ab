"""Token cross-entropy with z-loss, normalised as the T5X trainer does it, and token accuracy."""

import math
from collections.abc import Callable

import keras
from keras import ops

from keras_spot.base.devices import global_sum, replicas
from keras_spot.base.errors import invalid
from keras_spot.base.types import Record, Tensor

__all__ = ["LabelAccuracy", "TokenAccuracy", "TokenCrossEntropy"]


def per_prompt(losses, sample_weight, prompt_index, num_prompts):
    """Return the losses `[K]` that the prompts of a bank would have alone, and which have rows.

    Each is the weighted mean over the target tokens of the prompt's own rows in the GLOBAL batch;
    under a tf.distribute strategy, this replica's part of it.

    Args:
        losses: `[B, D]` float32, of every position.
        sample_weight: `[B, D]` weights, 0 on padding; `None` weighs every position 1.
        prompt_index: `[B]` int32.
        num_prompts: K.

    Returns:
        Two float32 `[K]`; the second is 1 for a prompt with weights in the batch, else 0.

    >>> losses, present = per_prompt(
    ...     keras.ops.array([[2.0, 4.0], [1.0, 3.0]]), None, keras.ops.array([2, 0]), 3
    ... )
    >>> losses.numpy().tolist(), present.numpy().tolist()
    ([2.0, 0.0, 3.0], [1.0, 0.0, 1.0])
    """
    # Under a strategy integers reach the loss as floats.
    prompt_index = ops.cast(prompt_index, "int32")
    weight = ops.ones_like(losses) if sample_weight is None else ops.cast(sample_weight, "float32")
    sums, totals = (
        ops.segment_sum(ops.sum(values, axis=-1), prompt_index, num_segments=num_prompts)
        for values in (losses * weight, weight)
    )
    totals = global_sum(totals)
    return sums / ops.maximum(totals, 1e-6), ops.cast(totals > 0, "float32")


def bank_loss(losses, sample_weight, prompt_index, metrics):
    """Return the mean of K prompts' losses whose gradient is that of their sum.

    So each prompt has the gradient of its own loss, and the number stays readable.

    Args:
        losses: `[B, D]` float32, of every position.
        sample_weight: see `per_prompt`.
        prompt_index: `[B]` int32.
        metrics: K means, updated with each prompt's own loss.
    """
    losses, present = per_prompt(losses, sample_weight, prompt_index, len(metrics))
    count = replicas()  # whose parts a metric averages
    for number, metric in enumerate(metrics):
        metric.update_state(losses[number] * count, sample_weight=present[number])
    return sum_shown_as_mean(losses, present)


def sum_shown_as_mean(losses, present):
    """Return the mean of K losses whose gradient is that of their sum.

    Args:
        losses: `[K]` float32.
        present: `[K]`, 1 for those that count in the mean, else 0.
    """
    total = ops.sum(losses)
    mean = ops.stop_gradient(total / ops.maximum(ops.sum(present), 1.0))
    return mean + (total - ops.stop_gradient(total))


@keras.saving.register_keras_serializable("keras_spot")
class TokenCrossEntropy(keras.losses.Loss):
    """Cross-entropy summed over target tokens, divided by their number.

    For logits `z` of one position with target `y`:
    `-log softmax(z)[y] + z_loss * logsumexp(z)^2` (T5X `cross_entropy_with_logits`).
    The divisor is the sum of the weights of the GLOBAL batch: under a tf.distribute
    strategy it is summed over the replicas, so that replicas with unequal padding add up
    to exactly the loss one device would have seen.

    Args:
        z_loss: weight of the squared log-partition function. Default 1e-4.
        label_smoothing: mass in [0, 1) spread evenly over the other V - 1 tokens. Default 0.
        name: name of the loss.
        dtype: ignored; the loss is always computed in float32.

    Call arguments:
        y_true: `[B, D]` integer target ids.
        y_pred: `[B, D, V]` logits, any floating dtype.
        sample_weight: `[B, D]` weights, 0 on padding; `None` weighs every position 1.

    Raises:
        InvalidArgument: a negative `z_loss` or a `label_smoothing` outside [0, 1).
    """

    def __init__(
        self,
        z_loss: float = 1e-4,
        label_smoothing: float = 0.0,
        name: str = "token_cross_entropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction="sum", dtype="float32")
        self._log_partition = log_partition
        if z_loss < 0:
            raise invalid("z_loss", "must not be negative", f"z_loss={z_loss}")
        if not 0 <= label_smoothing < 1:
            raise invalid("label_smoothing", "must be in [0, 1)", f"{label_smoothing=}")
        self.z_loss = z_loss
        self.label_smoothing = label_smoothing

    def computed_with(self, log_partition: Callable[..., Tensor]) -> "TokenCrossEntropy":
        """Return the same loss with another function for `log_partition`."""
        loss = type(self).from_config(self.get_config())
        loss._log_partition = log_partition
        return loss

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss `[B, D]` of every position, float32, unweighted."""
        # The published form: the target keeps 1 - s, each other token gets s / (V - 1), and the
        # entropy of that distribution is subtracted, so that a perfect guess costs 0.
        low = self.label_smoothing / (y_pred.shape[-1] - 1)
        both = self._log_partition(y_pred, ops.cast(y_true, "int32"), low)
        log_z, expected = both[0], both[1]
        loss = log_z - expected + self.z_loss * ops.square(log_z)
        if self.label_smoothing:
            high = 1.0 - self.label_smoothing
            loss += high * math.log(high) + self.label_smoothing * math.log(low + 1e-20)
        return loss

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        loss = self.call(y_true, y_pred)
        if sample_weight is None:
            weight = ops.ones_like(loss)
        else:
            weight = ops.broadcast_to(ops.cast(sample_weight, "float32"), ops.shape(loss))
        total = global_sum(ops.sum(weight))
        return ops.sum(loss * weight) / ops.maximum(total, 1e-6)

    def get_config(self) -> Record:
        return {
            "z_loss": self.z_loss,
            "label_smoothing": self.label_smoothing,
            "name": self.name,
        }


def log_partition(logits, targets, low=0.0):
    """Return the log-partition and the expected logit of every position, `[2, B, D]` in float32.

    Args:
        logits: `[B, D, V]`.
        targets: `[B, D]` int32.
        low: in the expectation, the share of each token but the target. Default 0.
    """
    logits = ops.cast(logits, "float32")
    picked = ops.squeeze(ops.take_along_axis(logits, targets[..., None], axis=-1), -1)
    if low:
        picked = (1.0 - low * logits.shape[-1]) * picked + low * ops.sum(logits, axis=-1)
    return ops.stack([ops.logsumexp(logits, axis=-1), picked])


@keras.saving.register_keras_serializable("keras_spot")
class TokenAccuracy(keras.metrics.MeanMetricWrapper):
    """Share of target tokens, end of sequence included, whose logit no other token's exceeds.

    Keras' own accuracy compares token ids as numbers of the logits' dtype: in bfloat16 it takes
    3000 for 3003.

    Args:
        name: name of the metric. Default `"token_accuracy"`.
        dtype: dtype of the mean. Default: Keras' float.

    Call arguments:
        y_true: `[B, D]` integer target ids.
        y_pred: `[B, D, V]` logits, any floating dtype.
        sample_weight: `[B, D]` weights, 0 on padding; `None` weighs every position 1.
    """

    def __init__(self, name: str = "token_accuracy", dtype: str | None = None) -> None:
        super().__init__(token_hits, name, dtype)

    def get_config(self) -> Record:
        return {"name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable("keras_spot")
class LabelAccuracy(keras.metrics.Mean):
    """Share of rows with every target token right: of a labelled task, the share of right labels.

    Greedy decoding writes exactly the targets of these rows.

    Args:
        name: name of the metric. Default `"label_accuracy"`.
        dtype: dtype of the mean. Default: Keras' float.

    Call arguments:
        y_true: `[B, D]` integer target ids.
        y_pred: `[B, D, V]` logits, any floating dtype.
        sample_weight: `[B, D]` weights, 0 on padding; a row without any does not count. `None`
            counts every position and row.
    """

    def __init__(self, name: str = "label_accuracy", dtype: str | None = None) -> None:
        super().__init__(name, dtype)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        hits = token_hits(y_true, y_pred)
        if sample_weight is None:
            return super().update_state(ops.min(hits, axis=-1))
        counts = ops.cast(ops.cast(sample_weight, "float32") > 0, "float32")
        right = 1.0 - ops.max(counts * (1.0 - hits), axis=-1)
        return super().update_state(right, sample_weight=ops.max(counts, axis=-1))

    def get_config(self) -> Record:
        return {"name": self.name, "dtype": self.dtype}


def token_hits(y_true, y_pred):
    """Return 1 where the target `[B, D]` is a most likely token of logits `[B, D, V]`, else 0.

    >>> token_hits(keras.ops.array([[1, 0]]), keras.ops.array([[[0.0, 2.0], [0.0, 2.0]]])).numpy()
    array([[1., 0.]], dtype=float32)
    """
    logits = ops.cast(ops.reshape(y_pred, (-1, y_pred.shape[-1])), "float32")
    hits = ops.in_top_k(ops.reshape(ops.cast(y_true, "int32"), (-1,)), logits, k=1)
    return ops.reshape(ops.cast(hits, "float32"), ops.shape(y_true))
