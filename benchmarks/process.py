"""What a worker measures of itself: laps, memory, and the cores that it may use."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

Samples = dict[str, list[float]]

_STATUS = Path("/proc/self/status")


def threads() -> int:
    """Return the number of cores that this worker may use, after binding it to them."""
    count = int(os.environ["BENCHMARK_THREADS"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    return count


class Laps:
    """Wall and CPU seconds (all threads of the process) of repeated work."""

    def __init__(self) -> None:
        self.samples: Samples = {"wall": [], "cpu": []}

    @contextlib.contextmanager
    def lap(self) -> Iterator[None]:
        """Time the block."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.samples["wall"].append(time.perf_counter() - wall)
        self.samples["cpu"].append(time.process_time() - cpu)


def repeated(work: Callable[[], object], count: int) -> Samples:
    """Return the laps of `work`, called `count` times."""
    laps = Laps()
    for _ in range(count):
        with laps.lap():
            work()
    return laps.samples


def gemm_rate(multiply: Callable[[], object], size: int, seconds: float = 0.5) -> float:
    """Return the best GFLOP/s of a product of two square matrices within some seconds."""
    multiply()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, *repeated(multiply, 1)["wall"])
    return 2 * size**3 / best / 1e9


def memory() -> dict[str, int]:
    """Return bytes of physical memory: now, and the peak since the start or `forget_peak`."""
    if not _STATUS.is_file():
        raise OSError("peak memory is read from /proc, which this system does not have")
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    now, peak = (1024 * int(lines[key].split()[0]) for key in ("VmRSS", "VmHWM"))
    return {"now": now, "peak": peak}


def forget_peak() -> None:
    """Let the peak of `memory` start again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
