"""Exported models in their engines, float32 and 8 bits, beside the peer's generation."""

import dataclasses
import functools
from typing import Any

from benchmarks.bench import Bench, Part, in_turn, without_loss
from benchmarks.protocol import Skip, WorkerError
from benchmarks.settings import Settings

FORMS = (
    ("TensorFlow", "savedmodel", None),
    ("CTranslate2", "ctranslate2", None),
    ("CTranslate2 int8", "ctranslate2", "int8"),
    ("ONNX Runtime", "onnx", None),
    ("ONNX Runtime int8", "onnx", "int8"),
)
# Ours over the peer's speed that is aimed at: of few tokens and of more, exact and in 8 bits.
TARGETS = {None: (2.5, 2.0), "int8": (4.0, 2.5)}
PIECES = 8000
"""Inputs are of ids below: pieces of every vocabulary, none of them special."""


def parts(settings: Settings) -> list[Part]:
    """Return texts of every task with labels' lengths, the shortest with longer answers, too."""
    few, shortest = min(settings.generations), min(settings.engine_tokens.values())
    return [
        Part(
            "engines",
            f"texts like {task}'s, {length} tokens, B={rows}",
            functools.partial(engines, rows, tokens, length),
        )
        for task, tokens in settings.engine_tokens.items()
        for length in settings.generations
        if length == few or tokens == shortest
        for rows in settings.engine_rows
    ]


def engines(rows: int, tokens: int, length: int, bench: Bench) -> dict[str, Any]:
    """Time greedy answers of every engine that is installed, in turns with the peer."""
    settings = bench.settings
    asked = {"rows": rows, "tokens": tokens, "length": length}
    turns, first, notes = {}, {}, []
    for name, form, quantize in FORMS:
        try:
            asks = functools.partial(
                bench.ask,
                "ours",
                "answer",
                path=_exported(bench, form, quantize, length),
                pieces=PIECES,
                **asked,
            )
            first[name] = asks(count=1)["ids"]
        except (Skip, WorkerError) as reason:
            notes.append(f"{name}: {reason}")
        else:
            turns[name] = functools.partial(_laps, asks, settings.laps)
    if bench.has_peer:
        bench.load("peer")
        asks = functools.partial(bench.ask, "peer", "generate", **asked, pieces=PIECES)
        first["peer"] = asks(count=1)["ids"]
        turns["peer"] = functools.partial(_laps, asks, settings.laps)
    exact = first["peer" if bench.has_peer else FORMS[0][0]]
    for name, ids in first.items():
        same = sum(one == other for one, other in zip(ids, exact))
        notes.append(f"{name}: {same} of {rows} answers alike")
    few = length == min(settings.generations)
    alone = {}
    if rows > 1:
        sizes = {"shape": dataclasses.asdict(settings.shape), "prompt": settings.prompt}
        seconds = bench.ask("ours", "products_alone", **sizes, **asked, dtype="float32")
        alone = {"alone": seconds}  # what an exact answer costs at least
    return {
        **alone,
        "sides": in_turn(turns, settings.rounds),
        "comparisons": [
            [name, "peer", TARGETS[quantize][0 if few else 1] if rows > 8 else None]
            for name, _, quantize in FORMS
            if name in turns
        ],
        "faster": True,
        "items": [rows * length, "tokens"],
        "notes": notes,
    }


def _laps(asks: Any, count: int) -> dict[str, list[float]]:
    return without_loss(asks(count=count))


def _exported(bench: Bench, form: str, quantize: str | None, length: int) -> str:
    """Return the folder of an exported model, written once; a SavedModel's length is fixed."""
    name = f"{form}-{quantize}" + (f"-{length}" if form == "savedmodel" else "")
    path = bench.scratch / name
    if not path.exists():
        bench.load("ours", tokenizer=str(bench.tokenizer))
        options = {} if quantize is None else {"quantize": quantize}
        bench.ask("ours", "export_model", path=str(path), length=length, format=form, **options)
    return str(path)
