"""Answering one text at a time from a SavedModel: a prompt encoded at export or with every text."""

import functools
from typing import Any

from benchmarks.bench import Bench, Part, in_turn
from benchmarks.settings import Settings

SIDES = (("shared prefix", "prompt"), ("full", "full"))


def parts(settings: Settings) -> list[Part]:
    """Return one measurement a length of the text."""
    return [
        Part(
            "serve",
            f"one text of {words} words, {settings.targets} tokens at most",
            functools.partial(serve, words),
        )
        for words in settings.served
    ]


def serve(words: int, bench: Bench) -> dict[str, Any]:
    """Time the text signature of both kinds of prompt."""
    turns = {}
    for name, attention in SIDES:
        path = str(bench.scratch / f"served-{attention}")
        bench.load("ours", tokenizer=str(bench.tokenizer), prompt_attention=attention)
        bench.ask("ours", "export_model", path=path, length=bench.settings.targets)
        asked = {"path": path, "words": words}
        bench.ask("ours", "serve_text", **asked, count=3)
        turns[name] = functools.partial(bench.ask, "ours", "serve_text", **asked, count=10)
    return {
        "sides": in_turn(turns, bench.settings.rounds),
        "comparisons": [["shared prefix", "full", None]],
        "items": [1, "texts"],
    }
