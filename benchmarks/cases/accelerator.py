"""A training step in bfloat16 on one GPU or TPU, with JAX and with TensorFlow.

The fast kernels are for CPUs. What there is to choose on an accelerator is what a step keeps for
its way back: layers' inner values, or what they are computed from (`recomputed`, the default), or
nothing but what goes from layer to layer (`remat`).
"""

import dataclasses
import functools
import os
import statistics
from typing import Any

from benchmarks import flops
from benchmarks.bench import Bench, Part, without_loss
from benchmarks.protocol import gathered
from benchmarks.settings import Settings

TARGET = 0.45
"""Of the chip's own best product, what a step's operations should reach with the largest shape."""
DEFAULT = "recomputed"
MODES = {"jax": (DEFAULT, "kept", "remat"), "tensorflow": (DEFAULT,)}


def parts(settings: Settings) -> list[Part]:
    """Return every shape with both backends."""
    rows, tokens, targets = settings.chip.batch
    return [
        Part(
            "accelerator",
            f"{name}, {backend}, B={rows} T={tokens} D={targets}",
            functools.partial(step, name, backend),
        )
        for name in settings.chip.shapes
        for backend in MODES
    ]


def step(name: str, backend: str, bench: Bench) -> dict[str, Any]:
    """Time a step in each mode, each in a process of its own, and its peak of memory."""
    chip, prompt = bench.settings.chip, bench.settings.prompt
    batch = dict(zip(("rows", "tokens", "targets"), chip.batch))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    sides, rates, notes = {}, {}, []
    for mode in MODES[backend]:
        worker = bench.fresh_with(backend, CUDA_VISIBLE_DEVICES=visible)
        try:
            present = worker.request("hello", kinds=list(chip.kinds))
            rates[mode] = worker.request("gemm", size=chip.gemm)
            shape = dataclasses.asdict(chip.shapes[name])
            worker.request("load", shape=shape, prompt=prompt, mode=mode, dtype="bfloat16")
            worker.request("step", **batch, count=2)  # compiles
            samples = [
                bench.watched(worker, "step", **batch, count=chip.steps)
                for _ in range(bench.settings.rounds)
            ]
            peak = worker.request("memory") / 2**30
        finally:
            worker.stop()
        sides[mode] = gathered([without_loss(sample) for sample in samples])
        notes.append(f"{mode}: {peak:.2f} GiB at the peak, loss {samples[-1]['loss'][0]:.3f}")
    operations = flops.training_step(chip.shapes[name], prompt, **batch)
    best = max(rates.values())
    share = operations / statistics.median(sides[DEFAULT]["wall"]) / 1e9 / best
    wanted = f", wanted {TARGET:.0%}" if name == list(chip.shapes)[-1] else ""
    of_what = f"of the {best:.0f} GFLOP/s of its own product{wanted}"
    return {
        "sides": sides,
        "comparisons": [[DEFAULT, other, None] for other in MODES[backend][1:] or (None,)],
        "precision": "bfloat16",
        "operations": dict.fromkeys(sides, operations),
        "gemm": {"bfloat16": rates},
        "notes": [f"{present['name']}: {share:.0%} {of_what}", *notes],
    }
