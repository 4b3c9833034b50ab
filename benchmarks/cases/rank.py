"""Scoring a labelled split by rank classification, against decoding, ours and the peer's."""

import functools
from typing import Any

from benchmarks.bench import Bench, Part, in_turn
from benchmarks.protocol import Skip
from benchmarks.settings import Settings

TARGET = 1.5
BACKBONES = ("T5 1.1 small", "tiny")
ROWS = 32
ALL = 8
"""Positions that a task's answers may have by default."""


def parts(settings: Settings) -> list[Part]:
    """Return either backbone against decoding as far as a label goes, and all positions."""
    return [
        Part(
            "rank",
            f"{settings.ranked}, {backbone}, decoding {how}",
            functools.partial(rank, backbone, length),
        )
        for backbone in BACKBONES
        for how, length in (("to the longest label's end", None), (f"{ALL} positions", ALL))
    ]


def rank(backbone: str, target_length: int | None, bench: Bench) -> dict[str, Any]:
    """Time `evaluate` by either method."""
    settings = bench.settings
    data_dir = task_data(bench, settings.ranked)
    if backbone == "tiny":
        width = 256
        bench.load("ours", backbone="tiny", prompt=[settings.prompt, width])
    else:
        bench.load("ours", tokenizer=str(bench.tokenizer))
    asked = {
        "task": settings.ranked,
        "split": "validation",
        "data_dir": data_dir,
        "limit": settings.rank_limit,
        "target_length": target_length,
    }
    counted = []

    def turn(method: str) -> dict[str, list[float]]:
        answer = bench.ask("ours", "score", **asked, method=method)
        counted[:] = answer["examples"]
        return {key: answer[key] for key in ("wall", "cpu")}

    turns = {
        name: functools.partial(turn, method)
        for name, method in (("rank", "rank"), ("decode", "generate"))
    }
    if backbone != "tiny" and bench.has_peer:
        rows = {"rows": ROWS, "path": str(bench.scratch / "rank.npz")}
        split = {key: asked[key] for key in ("task", "split", "data_dir")}
        bench.ask("ours", "export", **split, examples=settings.rank_limit, **rows)
        bench.load("peer")
        length = bench.ask("ours", "score", **{**asked, "limit": 1}, method="rank")["positions"][0]
        turns["peer's decode"] = functools.partial(
            bench.ask, "peer", "decode", **rows, length=length
        )
    in_turn(turns, 1)  # compiles
    return {
        "sides": in_turn(turns, settings.rounds),
        "comparisons": [["rank", other, TARGET] for other in turns if other != "rank"],
        "faster": True,
        "items": [counted[0], "examples"],
    }


def task_data(bench: Bench, task: str) -> str:
    """Return the folder of a task's data.

    Raises:
        Skip: it has none.
    """
    if task.startswith("synthetic/"):
        return str(bench.scratch / "tfds")
    if not (bench.data_dir / task).is_dir():
        raise Skip(f"needs {task} prepared in --data-dir, which has none")
    return str(bench.data_dir)
