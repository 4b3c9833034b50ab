"""The largest batch that fits a chip, found by compiling a few."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from keras_spot.base import meshes
from keras_spot.base.errors import invalid
from keras_spot.model.plan import CHIPS, CPU, Cost, Plan, Request, plan

__all__ = ["Largest", "largest", "next_batch"]

_TRIES = 3  # batches that are compiled beside the first two
_CLOSE = 32  # an answer is good to a part of so many


@dataclasses.dataclass(frozen=True)
class Largest:
    """The largest batch whose training step was compiled and fits.

    Attributes:
        batch: rows; None where nothing that was tried fits.
        cost: of its step.
        too_large: the smallest batch that was tried and does not fit, None where all fit.
    """

    batch: int | None
    cost: Cost | None
    too_large: int | None


def largest(
    request: Request, made: Plan, report: Callable[[str], object] = lambda stage: None
) -> Largest:
    """Search for the largest batch that fits; every answer is compiled.

    The peak is taken to grow with the batch as a line: two batches give a line, which gives a batch
    to try, which bends the line.

    Args:
        request: with the batch that was compiled already.
        made: the plan of it.
        report: see `plan`.

    Raises:
        InvalidArgument: a topology without a chip, whose memory is not known.
    """
    if request.chip == CPU:
        raise invalid("topology", "must be a TPU's to say what fits", repr(request.topology))
    unit, room = request.sizes[meshes.batch_axis(request.sizes)], CHIPS[request.chip][2]
    costs = {request.batch: made.costs["step"]}

    def compile_with(batch: int) -> None:
        tried = dataclasses.replace(request, batch=batch)
        answer = plan(tried, ("step",), lambda stage: report(f"batch {batch}: {stage}"))
        costs[batch] = answer.costs["step"]

    def limits() -> tuple[int | None, int | None]:
        fitting = [batch for batch, cost in costs.items() if cost.fits]
        return max(fitting, default=None), min(costs.keys() - fitting, default=None)

    second = 2 * request.batch if costs[request.batch].fits else request.batch // 2 // unit * unit
    if second:
        compile_with(second)
    for _ in range(_TRIES if second else 0):
        low, high = limits()
        peaks = {batch: cost.peak for batch, cost in costs.items()}
        batch = next_batch(peaks, low or 0, high, room, unit)
        if batch is None:
            break
        compile_with(batch)
    low, high = limits()
    return Largest(low, None if low is None else costs[low], high)


def next_batch(
    peaks: dict[int, int], low: int, high: int | None, room: int, unit: int
) -> int | None:
    """Return which batch to try, None where none is left that would be worth it.

    Args:
        peaks: bytes by batch, of two at least.
        low: the largest batch that fits, 0 for none.
        high: the smallest that does not fit, None for none.
        room: bytes of a chip.
        unit: batches are its multiples.

    >>> next_batch({8: 30, 16: 50}, 16, None, 100, 2), next_batch({8: 30, 36: 101}, 8, 36, 100, 2)
    (36, 34)
    >>> next_batch({32: 94, 34: 99}, 34, 36, 100, 2)
    """
    one, other = sorted(peaks, key=lambda batch: abs(peaks[batch] - room))[:2]
    slope = (peaks[one] - peaks[other]) / (one - other)
    if slope <= 0:
        return None
    batch = int(one + (room - peaks[one]) / slope)
    if high is not None:
        batch = min(batch, high - max(unit, high // _CLOSE))
    batch = batch // unit * unit
    return batch if batch - low >= max(unit, low // _CLOSE) and batch > low else None
