"""A training step with something else in the prompt's place, against the plain prompt's."""

import functools
from typing import Any

from benchmarks.bench import Bench, Part
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
    variants: dict[str, dict[str, Any]] = {name: {"reparameterization": name} for name in METHODS}
    variants["plain"] = {"reparameterization": None}
    return {
        "sides": bench.own_in_turn("step", variants, warm=2, **bench.batch(rows, tokens)),
        "comparisons": [[name, "plain", TARGET] for name in METHODS],
    }
