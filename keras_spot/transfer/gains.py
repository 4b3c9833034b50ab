"""What transfer brings, and what similarity tells of it beforehand."""

import dataclasses
from collections.abc import Sequence
from typing import overload

import numpy as np

from keras_spot.base.errors import invalid
from keras_spot.base.types import Array

__all__ = ["GainPrediction", "correlation", "predict_gain", "relative_error_reduction"]


@overload
def relative_error_reduction(score: float, baseline: float) -> float: ...


@overload
def relative_error_reduction(score: Array, baseline: float | Array) -> np.ndarray: ...


@overload
def relative_error_reduction(score: float, baseline: Array) -> np.ndarray: ...


def relative_error_reduction(score: float | Array, baseline: float | Array) -> float | np.ndarray:
    """Return which share of the baseline's error is gone: (score - baseline) / (100 - baseline).

    Vu et al. 2022, section 3. Scores are percentages; the result is a fraction, negative where
    transfer hurts. Numbers or arrays.

    Raises:
        InvalidArgument: a baseline of 100 or more, which leaves no error.

    >>> round(relative_error_reduction(97.0, 92.7), 3)
    0.589
    """
    error = 100 - np.asarray(baseline, "float64")
    if not (error > 0).all():
        raise invalid("baseline", "must be below 100", f"baseline={baseline}")
    reduced = (np.asarray(score, "float64") - np.asarray(baseline, "float64")) / error
    return reduced if reduced.ndim else float(reduced)


@dataclasses.dataclass(frozen=True)
class GainPrediction:
    """Gains that a straight line through known ones predicts, and how sure it is.

    Attributes:
        gain: float64, one predicted gain for each new similarity.
        standard_error: of a single new gain around its prediction.
        low: lower end of the prediction interval.
        high: upper end.
        slope: of the line.
        intercept: of the line.
    """

    gain: np.ndarray
    standard_error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    slope: float
    intercept: float


def predict_gain(
    similarities: Sequence[float],
    gains: Sequence[float],
    new: float | Sequence[float] | Array,
    level: float = 0.95,
) -> GainPrediction:
    """Predict gains from similarities by ordinary least squares.

    The standard error is `s * sqrt(1 + 1/n + (x - mean)^2 / Sxx)` with `s^2` the residual sum of
    squares over n - 2; the interval is that times Student's t of n - 2 degrees of freedom (any
    textbook on regression, e.g. Draper & Smith 1998, section 3.1). It is wide for few points,
    and so should it be.

    Args:
        similarities: `[n]` numbers, n at least 3, not all equal.
        gains: `[n]` numbers, in any unit.
        new: similarities to predict for, one or an array.
        level: probability that a new gain lies in the interval.

    Raises:
        InvalidArgument: fewer than 3 points, different lengths, NaN or infinity, similarities that
            are all equal, or a level outside (0, 1).

    >>> gain = predict_gain([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 2.0, 3.0], 0.5)
    >>> [round(float(number), 3) for number in (gain.gain, gain.low, gain.high)]
    [3.5, 1.349, 5.651]
    """
    from scipy import stats

    x, y = _points(similarities, gains)
    if np.ptp(x) == 0:
        raise invalid("similarities", "must not all be equal", f"similarities={similarities}")
    if not 0 < level < 1:
        raise invalid("level", "must lie between 0 and 1", f"{level=}")
    wanted = np.asarray(new, "float64")
    distance = x - x.mean()
    spread = distance @ distance
    slope = (distance @ y) / spread
    intercept = y.mean() - slope * x.mean()
    residuals = y - intercept - slope * x
    deviation = np.sqrt(residuals @ residuals / (len(x) - 2))
    error = deviation * np.sqrt(1 + 1 / len(x) + (wanted - x.mean()) ** 2 / spread)
    gain = intercept + slope * wanted
    reach = error * stats.t.ppf((1 + level) / 2, len(x) - 2)
    return GainPrediction(gain, error, gain - reach, gain + reach, float(slope), float(intercept))


def correlation(similarities: Sequence[float], gains: Sequence[float]) -> tuple[float, float]:
    """Return Pearson's r of similarity with gain and its two-sided p-value.

    As in Vu et al. 2022, section 3, over the sources of one target. Both are NaN where all
    similarities or all gains are equal: there is no correlation to speak of.

    Args:
        similarities: `[n]` numbers, n at least 3.
        gains: `[n]` numbers.

    Raises:
        InvalidArgument: fewer than 3 points, different lengths, NaN or infinity.

    >>> r, p = correlation([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 2.0, 3.0])
    >>> round(r, 3), round(p, 3)
    (0.949, 0.051)
    """
    from scipy import stats

    x, y = _points(similarities, gains)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan"), float("nan")
    result = stats.pearsonr(x, y)
    return float(result.statistic), float(result.pvalue)


def _points(similarities: Sequence[float], gains: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(similarities, "float64"), np.asarray(gains, "float64")
    if x.ndim != 1 or x.shape != y.shape or len(x) < 3:
        rule = "must be at least 3 numbers, as many as `gains`"
        raise invalid("similarities", rule, f"shapes {x.shape} and {y.shape}")
    for name, values in (("similarities", x), ("gains", y)):
        if not np.isfinite(values).all():
            raise invalid(name, "must be finite", f"{name}={values}")
    return x, y
