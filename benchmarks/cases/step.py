"""One training step on one padded batch: forward, backward and update."""

import dataclasses
import functools
from typing import Any

from benchmarks import flops
from benchmarks.bench import PRECISIONS, Bench, Part, in_turn, without_loss
from benchmarks.settings import Settings

TARGET = 0.70
SHARED_TARGET = 0.38
JAX_TARGET = 1.1
AGREEMENT = 1e-4
"""Largest relative difference of the two sides' first losses in float32."""


def parts(settings: Settings) -> list[Part]:
    """Return ours against the peer's for every batch and precision, then prefix against full."""
    parts = [
        Part("step", f"B={rows} T={tokens} {p}", functools.partial(against_peer, rows, tokens, p))
        for rows, tokens in settings.batches
        for p in PRECISIONS
    ]
    rows, tokens = settings.batches[-1]
    name = f"B={rows} T={tokens} float32, shared prefix against full"
    parts.append(Part("step", name, functools.partial(shared_prefix, rows, tokens)))
    rows, tokens = settings.batches[0]
    name = f"B={rows} T={tokens} float32, JAX against TensorFlow, plain"
    return [*parts, Part("step", name, functools.partial(backends, rows, tokens))]


def against_peer(rows: int, tokens: int, precision: str, bench: Bench) -> dict[str, Any]:
    """Time both sides' step; their first losses must be the same."""
    settings = bench.settings
    batch = bench.batch(rows, tokens)
    sides = bench.sides
    losses, notes = {}, []
    for side in sides:
        bench.load(side, precision)
        (losses[side],) = bench.ask(side, "step", **batch, count=1)["loss"]
        bench.ask(side, "step", **batch, count=1)
    if bench.has_peer:
        difference = abs(losses["ours"] / losses["peer"] - 1)
        notes.append(f"first losses differ by {difference:.0e} relative")
        if precision == "bfloat16":
            notes.append(bench.peers_bfloat16()[1])
        elif difference > AGREEMENT:
            raise ValueError(f"the first losses differ: {losses}")
    xla = precision == "float32"
    measured = bench.against_peer("step", precision, TARGET, warm=2, xla=xla, **batch)
    operations = flops.training_step(settings.shape, settings.prompt, **batch)
    return {
        **measured,
        "precision": precision,
        "operations": dict.fromkeys(measured["sides"], operations),
        "losses": losses,
        "notes": notes,
    }


def shared_prefix(rows: int, tokens: int, bench: Bench) -> dict[str, Any]:
    """Time our step with `prompt_attention="prompt"` and with `"full"`, without and with XLA."""
    settings = bench.settings
    batch = bench.batch(rows, tokens)
    variants = {
        name + how: {"prompt_attention": attention, "xla": bool(how)}
        for how in ("", ", XLA")
        for name, attention in (("shared prefix", "prompt"), ("full", "full"))
    }
    samples = bench.own_in_turn("step", variants, warm=2, **batch)
    return {
        "sides": samples,
        "comparisons": [
            [f"shared prefix{how}", f"full{how}", SHARED_TARGET] for how in ("", ", XLA")
        ],
        "precision": "float32",
        "operations": {
            name: flops.training_step(
                settings.shape, settings.prompt, **batch, shared=name.startswith("shared")
            )
            for name in samples
        },
    }


def backends(rows: int, tokens: int, bench: Bench) -> dict[str, Any]:
    """Time the plain step with JAX and with TensorFlow, the mean of several steps of a `fit`."""
    settings = bench.settings
    batch = bench.batch(rows, tokens)
    model = {"shape": dataclasses.asdict(settings.shape), "prompt": settings.prompt}
    workers = {}
    try:
        for backend in ("jax", "tensorflow"):
            worker = workers[backend] = bench.fresh_with(backend, JAX_PLATFORMS="cpu")
            worker.request("load", **model, mode="plain", dtype="float32")
            worker.request("step", **batch, count=2)  # compiles
        turns = {
            backend: functools.partial(bench.watched, worker, "step", **batch, count=10)
            for backend, worker in workers.items()
        }
        samples = in_turn(turns, settings.rounds)
    finally:
        for worker in workers.values():
            worker.stop()
    operations = flops.training_step(settings.shape, settings.prompt, **batch)
    return {
        "sides": {side: without_loss(sample) for side, sample in samples.items()},
        "comparisons": [["jax", "tensorflow", JAX_TARGET]],
        "precision": "float32",
        "operations": dict.fromkeys(samples, operations),
    }
