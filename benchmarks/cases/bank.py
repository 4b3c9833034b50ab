"""K prompts in one step of a bank, against K steps of a single prompt on the same rows."""

import functools
from typing import Any

from benchmarks.bench import Bench, Part, in_turn, without_loss
from benchmarks.settings import Settings

TARGET = 1.0


def parts(settings: Settings) -> list[Part]:
    """Return one comparison for either attention."""
    prompts, rows = settings.bank
    return [
        Part(
            "bank",
            f"K={prompts} prompts of {rows} rows, T={settings.batches[-1][1]}, {attention}",
            functools.partial(bank, attention),
        )
        for attention in ("full", "prompt")
    ]


def bank(attention: str, bench: Bench) -> dict[str, Any]:
    """Time a step of the bank and K single steps."""
    settings = bench.settings
    prompts, rows = settings.bank
    tokens = settings.batches[-1][1]
    bench.load("ours", key="bank", num_prompts=prompts, prompt_attention=attention)
    bench.load("ours", key="single", prompt_attention=attention)
    ask = functools.partial(bench.ask, "ours", "step")
    together = {**bench.batch(prompts * rows, tokens), "key": "bank", "prompts": prompts}
    apart = {**bench.batch(rows, tokens), "key": "single"}
    ask(**together, count=2)
    ask(**apart, count=2)

    def one_by_one() -> dict[str, list[float]]:
        steps = [without_loss(ask(**apart, count=prompts)) for _ in range(settings.laps)]
        return {
            key: [sum(step[key]) for step in steps]  # K steps together
            for key in ("wall", "cpu")
        }

    turns = {
        "one step of the bank": lambda: without_loss(ask(**together, count=settings.laps)),
        f"{prompts} single steps": one_by_one,
    }
    return {"sides": in_turn(turns, settings.rounds), "target": TARGET}
