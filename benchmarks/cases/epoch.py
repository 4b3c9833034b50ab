"""An epoch of real examples: length buckets against padding to the longest of a random batch."""

import functools
import math
from typing import Any

from benchmarks.bench import Bench, Part, in_turn
from benchmarks.cases.rank import task_data
from benchmarks.settings import Settings

TARGETS = {"glue/sst2": 0.60, "glue/rte": 0.55, "super_glue/boolq": 0.45}
SHARED_TARGET = 0.30
SIDES = (
    ("ours", "full", False),
    ("ours, XLA", "full", True),
    ("ours, shared prefix", "prompt", False),
    ("ours, shared prefix, XLA", "prompt", True),
)
WIDE_TARGETS = {"glue/sst2": 0.16, "super_glue/boolq": 0.35}


def parts(settings: Settings) -> list[Part]:
    """Return one measurement a task, of which come three comparisons."""
    return [
        Part(
            "epoch",
            f"{task}, {count} examples, B={rows}, float32",
            functools.partial(epoch, task, count, rows),
        )
        for task, (count, rows) in settings.epochs.items()
    ]


def epoch(task: str, count: int, rows: int, bench: Bench) -> dict[str, Any]:
    """Time whole epochs of both attentions and of the peer, and the peer's widest steps."""
    settings = bench.settings
    data = {"task": task, "data_dir": task_data(bench, task), "examples": count, "rows": rows}
    seconds, turns, notes = {}, {}, []
    path = str(bench.scratch / "epoch.npz")
    for name, attention, xla in SIDES:
        options = {"prompt_attention": attention, "xla": xla}
        bench.load("ours", key=name, tokenizer=str(bench.tokenizer), **options)
        turns[name] = functools.partial(bench.ask, "ours", "epoch", **data, key=name)
        warm = bench.ask("ours", "warm_up", **data, key=name)
        seconds[name] = f"{name} {warm['wall'][0]:.0f} s"
    notes.append(
        f"compiling {warm['lengths'][0]} lengths beforehand: {', '.join(seconds.values())}"
    )
    exported = bench.ask("ours", "export", **data, path=path, key="ours")
    batches = math.ceil(exported["examples"] / rows)
    positions = {"ours": exported["positions"]}
    if bench.has_peer:
        bench.load("peer")
        wide = {"path": path, "rows": rows, "tokens": settings.wide}
        bench.ask("peer", "padded_steps", **wide, count=1)

        def peer() -> dict[str, list[float]]:
            answer = bench.ask("peer", "epoch", path=path, rows=rows)
            (positions["peer"],) = answer.pop("positions")
            return answer

        turns["peer"] = peer
    samples = in_turn(turns, settings.epoch_rounds)
    if bench.has_peer:
        steps = bench.ask("peer", "padded_steps", **wide, count=settings.wide_laps)
        samples["peer, all padded"] = {
            key: [batches * value for value in values] for key, values in steps.items()
        }
        notes.append(
            f"the peer padded to {settings.wide}: {settings.wide_laps} steps were timed, "
            f"each counts for all {batches}, which cost the same"
        )
        tokens = ", ".join(
            f"{side} {n / exported['examples']:.0f}" for side, n in positions.items()
        )
        notes.append(f"input positions an example, padding included: {tokens}")
        notes.append(
            "targets padded to the task's longest label here, to the longest of a batch there"
        )
    return {
        "sides": samples,
        "comparisons": [
            ["ours", "peer", TARGETS.get(task)],
            ["ours, XLA", "peer", TARGETS.get(task)],
            ["ours, shared prefix", "peer", SHARED_TARGET],
            ["ours, shared prefix, XLA", "peer", SHARED_TARGET],
            ["ours", "peer, all padded", WIDE_TARGETS.get(task)],
        ],
        "items": [exported["examples"], "examples"],
        "notes": notes,
    }
