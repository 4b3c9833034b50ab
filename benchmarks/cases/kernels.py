"""Our own fast kernels against plain ones, and what each piece of them is worth."""

import functools
from typing import Any

from benchmarks import flops
from benchmarks.bench import Bench, Part
from benchmarks.cases.memory import peak
from benchmarks.settings import Settings

PIECES = ("feed_forward", "attend", "log_partition")
"""Methods of `FastT5`: without one, `PlainT5` computes that part."""
WORTH = 0.98
"""What fast should take of the time or the memory without a piece, in one of the cases."""


def parts(settings: Settings) -> list[Part]:
    """Return time and memory of a step in every shape, then time of generation."""
    shapes = dict.fromkeys((*settings.batches, *settings.memory_batches))
    parts = []
    for rows, tokens in shapes:
        name = f"B={rows} T={tokens}"
        parts.append(Part("kernels", f"step, {name}", functools.partial(step, rows, tokens)))
        parts.append(Part("kernels", f"memory, {name}", functools.partial(memory, rows, tokens)))
    for length in settings.generations:
        for rows in settings.generation_rows:
            name = f"generation, B={rows}, {length} tokens"
            parts.append(Part("kernels", name, functools.partial(generation, rows, length)))
    return parts


def _sides() -> dict[str, dict[str, Any]]:
    """Return the options of every side."""
    sides: dict[str, dict[str, Any]] = {"fast": {"kernels": "fast"}, "plain": {"kernels": "plain"}}
    for piece in PIECES:
        sides[f"fast without {piece}"] = {"kernels": "fast", "without": piece}
    return sides


def _comparisons() -> list[list[Any]]:
    return [["fast", "plain", None]] + [["fast", f"fast without {p}", WORTH] for p in PIECES]


def step(rows: int, tokens: int, bench: Bench) -> dict[str, Any]:
    """Time a training step of each side, in turns."""
    settings = bench.settings
    batch = bench.batch(rows, tokens)
    samples = bench.own_in_turn("step", _sides(), warm=2, **batch)
    operations = flops.training_step(settings.shape, settings.prompt, **batch)
    return {
        "sides": samples,
        "comparisons": _comparisons(),
        "precision": "float32",
        "operations": dict.fromkeys(samples, operations),
    }


def memory(rows: int, tokens: int, bench: Bench) -> dict[str, Any]:
    """Measure each side's peak of the first steps, each in a new process."""
    sides = {
        side: peak(bench, "ours", rows, tokens, "float32", **options)
        for side, options in _sides().items()
    }
    return {"sides": sides, "comparisons": _comparisons(), "unit": "bytes"}


def generation(rows: int, length: int, bench: Bench) -> dict[str, Any]:
    """Time greedy generation of both sides, in turns."""
    asked = {"rows": rows, "tokens": bench.settings.generation_tokens, "length": length}
    variants = {kernels: {"kernels": kernels} for kernels in ("fast", "plain")}
    return {
        "sides": bench.own_in_turn("generate", variants, warm=1, **asked),
        "comparisons": [["fast", "plain", None]],
    }
