"""Texts of many requests computed together: whatever waits when the engine is free.

Nothing waits for a batch to fill, so a lone request loses no time; under load batches grow by
themselves.
"""

import asyncio
import dataclasses
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from keras_spot.serving.limits import Refused

__all__ = ["Batcher", "Compute", "Job", "log"]

log = logging.getLogger("keras_spot.serving")

Compute = Callable[[Sequence[Any]], Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Job:
    """A row that waits.

    Attributes:
        group: rows of one group may be computed together.
        compute: the function of a list of the group's `given` to as many results.
        given: what it needs of this row.
        result: where the result goes; cancelled, the row is not computed.
    """

    group: Hashable
    compute: Compute
    given: Any
    result: "asyncio.Future[Any]"


class Batcher:
    """One thread that computes, and a queue of bounded length before it.

    Args:
        rows: most rows of a batch.
        limit: most rows that wait.
        observe: called after each batch with its number of rows and the seconds it took.
    """

    def __init__(
        self,
        rows: int,
        limit: int,
        observe: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        self._rows, self._limit, self._observe = rows, limit, observe
        self._waiting: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "engine")
        self._worker: asyncio.Task[None] | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def compute(self, jobs: Sequence[tuple[Hashable, Compute, Any]]) -> list[Any]:
        """Return the result of each row, an exception where the function raised one.

        If the caller is cancelled, rows that wait are forgotten.

        Args:
            jobs: group, function and input of each row, see `Job`.

        Raises:
            Refused: 429 where the queue is full, 503 while the server stops, 422 for more rows than
                the queue could ever hold.
        """
        if self._closing:
            raise Refused(503, "the server is stopping")
        if len(jobs) > self._limit:
            raise Refused(422, f"at most {self._limit} texts can wait; send fewer in a request")
        if len(self._waiting) + len(jobs) > self._limit:
            raise Refused(429, f"{len(self._waiting)} texts are waiting; try again", retry=1)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        loop = asyncio.get_running_loop()
        waiting = [Job(*job, loop.create_future()) for job in jobs]
        self._waiting.extend(waiting)
        self._arrived.set()
        try:
            results = (job.result for job in waiting)
            return list(await asyncio.gather(*results, return_exceptions=True))
        finally:
            for job in waiting:
                job.result.cancel()

    async def close(self) -> None:
        """Answer what waits, then stop."""
        self._closing = True
        self._arrived.set()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = self._take()
            if not batch:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            started = time.perf_counter()
            results = await loop.run_in_executor(self._thread, _results, batch)
            self._observe(len(batch), time.perf_counter() - started)
            for job, result in zip(batch, results, strict=True):
                if job.result.done():
                    continue
                if isinstance(result, Exception):
                    job.result.set_exception(result)
                else:
                    job.result.set_result(result)

    def _take(self) -> list[Job]:
        """Return the oldest row that still counts and others of its group."""
        batch: list[Job] = []
        others: deque[Job] = deque()
        while self._waiting and len(batch) < self._rows:
            job = self._waiting.popleft()
            if job.result.done():
                continue
            (batch if not batch or job.group == batch[0].group else others).append(job)
        self._waiting.extendleft(reversed(others))
        return batch


def _results(batch: Sequence[Job]) -> Sequence[Any]:
    """Return the result of each row, an exception where there is none.

    A batch that fails is computed once more, row by row: one row shall not spoil the others.
    """
    try:
        return batch[0].compute([job.given for job in batch])
    except Exception as error:
        # Its message may hold a caller's text.
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("the engine failed with %s\n%s", type(error).__name__, frames)
        if len(batch) == 1:
            return [error]
        return [result for job in batch for result in _results([job])]
