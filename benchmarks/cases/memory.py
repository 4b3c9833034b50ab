"""Peak resident memory of training steps, each in a process of its own."""

import functools
from typing import Any

from benchmarks.bench import PRECISIONS, Bench, Part
from benchmarks.settings import Settings

TARGET = 1.0


def parts(settings: Settings) -> list[Part]:
    """Return every batch and precision."""
    return [
        Part("memory", f"B={rows} T={tokens} {p}", functools.partial(measure, rows, tokens, p))
        for rows, tokens in settings.memory_batches
        for p in PRECISIONS
    ]


def measure(rows: int, tokens: int, precision: str, bench: Bench) -> dict[str, Any]:
    """Measure both sides' peak during the first steps, compilation included."""
    sides = bench.sides
    peaks = {side: peak(bench, side, rows, tokens, precision) for side in sides}
    peaks["ours, remat"] = peak(bench, "ours", rows, tokens, precision, remat=True)
    notes = [
        f"{side} {1e-6 * f['before'][0]:.0f} MB before the first step, "
        f"{1e-6 * f['life'][0]:.0f} MB at the most while loading and training"
        for side, f in peaks.items()
    ]
    if precision == "bfloat16" and bench.has_peer:
        notes.append(f"peer: {bench.peers_bfloat16()[0]}")
    pairs = [["ours", "peer", TARGET], ["ours, remat", "peer", TARGET]]
    pairs.append(["ours, remat", "ours", None])
    return {"sides": peaks, "comparisons": pairs, "unit": "bytes", "notes": notes}


def peak(
    bench: Bench, side: str, rows: int, tokens: int, precision: str, **options: Any
) -> dict[str, list[float]]:
    """Return bytes: resident before the first step, peak of the steps, peak since the start.

    Args:
        **options: of `keras_spot.build`.
    """
    settings = bench.settings
    if side == "peer" and precision == "bfloat16":
        precision, _ = bench.peers_bfloat16()
    worker = bench.fresh(side)
    try:
        worker.request(
            "load",
            backbone=bench.backbone(),
            prompt=[settings.prompt, settings.shape.width],
            precision=precision,
            **options,
        )
        loaded = worker.request("memory")
        worker.request("forget_peak")
        worker.request("step", **bench.batch(rows, tokens), count=settings.memory_laps)
        after = worker.request("memory")
    finally:
        worker.stop()
    return {
        "peak": [after["peak"]],
        "before": [loaded["now"]],
        "life": [max(loaded["peak"], after["peak"])],
    }
