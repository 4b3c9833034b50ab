"""A training step with something else in the prompt's place, against the plain prompt's."""

import functools
from typing import Any

from benchmarks.bench import Bench, Part, in_turn, without_loss
from benchmarks.settings import Settings

TARGET = 1.05
METHODS = ("residual", "low-rank", "vocabulary-mixture", "shared")


def parts(settings: Settings) -> list[Part]:
    """Return one comparison for every batch."""
    return [
        Part("methods", f"B={rows} T={tokens}", functools.partial(step, rows, tokens))
        for rows, tokens in settings.batches
    ]


def step(rows: int, tokens: int, bench: Bench) -> dict[str, Any]:
    """Time a step of each method and of the plain prompt, in turns."""
    settings = bench.settings
    batch = bench.batch(rows, tokens)
    turns = {}
    for name in (*METHODS, "plain"):
        bench.load("ours", key=name, reparameterization=None if name == "plain" else name)
        bench.ask("ours", "step", **batch, key=name, count=2)
        turns[name] = functools.partial(
            bench.ask, "ours", "step", **batch, key=name, count=settings.laps
        )
    samples = in_turn(turns, settings.rounds)
    return {
        "sides": {side: without_loss(sample) for side, sample in samples.items()},
        "comparisons": [[name, "plain", TARGET] for name in METHODS],
    }
