"""Greedy generation of a given number of tokens; no token ends a row."""

import dataclasses
import functools
from typing import Any

from benchmarks import flops
from benchmarks.bench import PRECISIONS, Bench, Part
from benchmarks.settings import Settings

TARGET = 2.0


def parts(settings: Settings) -> list[Part]:
    """Return every length and batch size."""
    return [
        Part(
            "generate",
            f"{length} tokens, B={rows} {precision}",
            functools.partial(generate, rows, length, precision),
        )
        for precision in PRECISIONS
        for length in settings.generations
        for rows in settings.generation_rows
    ]


def generate(rows: int, length: int, precision: str, bench: Bench) -> dict[str, Any]:
    """Time both sides; in float32 they must write the same."""
    settings = bench.settings
    sides = bench.sides
    asked = {"rows": rows, "tokens": settings.generation_tokens, "length": length}
    ids, notes, cast = {}, [], None
    if bench.has_peer and precision == "bfloat16":
        cast, note = bench.peers_bfloat16("generate", **asked)
        notes.append(note)
    for side in sides:
        bench.load(side, precision, cast)
        ids[side] = bench.ask(side, "generate", **asked, count=1)["ids"]
    if bench.has_peer and precision == "float32":
        if ids["ours"] != ids["peer"]:
            raise ValueError("the two sides generate different tokens")
        different = len({token for row in ids["ours"] for token in row})
        notes.append(f"same tokens, {different} different ones")
    # XLA's bfloat16 products on CPU are slow; of a single row reading the weights takes longer.
    xla = precision == "float32" or rows == 1
    measured = bench.against_peer("generate", precision, TARGET, warm=1, xla=xla, **asked)
    operations = flops.generation(settings.shape, settings.prompt, **asked)
    if rows > 1:
        sizes = {"shape": dataclasses.asdict(settings.shape), "prompt": settings.prompt}
        measured["alone"] = bench.ask("ours", "products_alone", **sizes, **asked, dtype=precision)
    return {
        **measured,
        "precision": precision,
        "operations": dict.fromkeys(measured["sides"], operations),
        "faster": True,
        "items": [rows * length, "tokens"],
        "notes": notes,
    }
