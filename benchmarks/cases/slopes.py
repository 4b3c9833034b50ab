"""How our own step grows with the tokens, the prompt, the rows, the layers and the prompts."""

import functools
from typing import Any

from benchmarks.bench import Bench, Part
from benchmarks.settings import Settings

NAMES = {
    "T": "input tokens",
    "P": "prompt tokens",
    "B": "rows",
    "L": "layers of encoder and decoder",
    "K": "prompts in a bank, rows the same",
}


def parts(settings: Settings) -> list[Part]:
    """Return one line a letter and attention."""
    return [
        Part("slopes", f"{letter}, {attention}", functools.partial(slope, letter, attention))
        for letter in settings.slopes
        for attention in ("full", "prompt")
    ]


def slope(letter: str, attention: str, bench: Bench) -> dict[str, Any]:
    """Time steps at each value of one letter, the others at their base."""
    settings = bench.settings
    medians, minima = [], []
    for value in settings.slopes[letter]:
        point = {**settings.slope_base, letter: value}
        options: dict[str, Any] = {"num_prompts": value} if letter == "K" else {}
        bench.load(
            "ours",
            backbone=bench.backbone(layers=point["L"]),
            prompt=[point["P"], settings.shape.width],
            prompt_attention=attention,
            **options,
        )
        batch = bench.batch(point["B"], point["T"])
        asked = {**batch, "prompts": value if letter == "K" else None}
        bench.ask("ours", "step", **asked, count=2)
        laps = bench.ask("ours", "step", **asked, count=settings.laps * 2)["wall"]
        medians.append(sorted(laps)[len(laps) // 2])
        minima.append(min(laps))
    return {
        "letter": letter,
        "attention": attention,
        "values": list(settings.slopes[letter]),
        "median": medians,
        "min": minima,
        "base": settings.slope_base,
    }
