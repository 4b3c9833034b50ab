"""Sizes of everything that is measured, for a full run and for a quick test of the runner."""

import dataclasses
from typing import Any

from benchmarks.workload import Shape


@dataclasses.dataclass(frozen=True)
class Chip:
    """What to measure on an accelerator.

    Attributes:
        kinds: what counts as one.
        shapes: models that train on it, the largest last.
        batch: (B, T, D) of their steps.
        steps: steps in a lap, of which the mean counts.
        gemm: rows of the square matrices.
    """

    kinds: tuple[str, ...] = ("gpu", "tpu")
    shapes: dict[str, Shape] = dataclasses.field(
        default_factory=lambda: {
            "base": Shape(layers=12, width=768, inner=2048, heads=12),
            "large": Shape(layers=24, width=1024, inner=2816, heads=16),
        }
    )
    batch: tuple[int, int, int] = (32, 512, 16)
    steps: int = 10
    gemm: int = 8192


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure; the defaults are those of a full run.

    Attributes:
        shape: of the model.
        prompt: P.
        targets: D.
        rounds: how often either side has its turn.
        laps: steps or generations in a turn.
        batches: (B, T) of the training steps; the last is also compared between attentions.
        generations: tokens to generate.
        generation_rows: B of them.
        generation_tokens: T of them.
        engine_rows: B of what exported models answer.
        engine_tokens: T of texts like those of a task.
        epochs: task to the number of its first examples that make the epoch, and B.
        epoch_rounds: turns of whole epochs.
        wide: T to which the reference pads all.
        wide_laps: steps of that width that are timed.
        ranked: task whose validation split is scored.
        rank_limit: examples of it.
        bank: K and the rows of each prompt.
        served: words of the texts that a SavedModel answers.
        memory_batches: (B, T) whose memory is measured.
        memory_laps: steps that may reach the peak.
        slopes: what is varied to its values.
        slope_base: the others' values meanwhile.
        gemm: rows of the square matrices.
        chip: what is measured on an accelerator.
    """

    shape: Shape = dataclasses.field(default_factory=Shape)
    prompt: int = 100
    targets: int = 8
    rounds: int = 3
    laps: int = 2
    batches: tuple[tuple[int, int], ...] = ((8, 64), (32, 32))
    generations: tuple[int, ...] = (8, 64)
    generation_rows: tuple[int, ...] = (1, 32)
    generation_tokens: int = 64
    engine_rows: tuple[int, ...] = (1, 8, 32)
    engine_tokens: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"SST-2": 37, "BoolQ": 160}  # the means of their validation splits
    )
    epochs: dict[str, tuple[int, int]] = dataclasses.field(
        default_factory=lambda: {
            "glue/sst2": (640, 32),
            "glue/rte": (320, 32),
            "super_glue/boolq": (160, 16),
        }
    )
    epoch_rounds: int = 1
    wide: int = 512
    wide_laps: int = 2
    ranked: str = "glue/sst2"
    rank_limit: int | None = 256
    bank: tuple[int, int] = (8, 4)
    served: tuple[int, ...] = (16, 128)
    memory_batches: tuple[tuple[int, int], ...] = ((32, 32), (8, 512))
    memory_laps: int = 3
    startup_rounds: int = 3
    slopes: dict[str, tuple[int, ...]] = dataclasses.field(
        default_factory=lambda: {
            "T": (16, 32, 64, 128, 256),
            "P": (25, 50, 100, 150, 200),
            "B": (4, 8, 16, 24, 32),
            "L": (2, 4, 8, 12),
            "K": (1, 2, 4, 8, 16),
        }
    )
    slope_base: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"T": 64, "P": 100, "B": 16, "L": 8}
    )
    gemm: int = 2048
    chip: Chip = dataclasses.field(default_factory=Chip)

    def as_json(self) -> dict[str, Any]:
        """Return all but the chip's, which stand in the names of its measurements."""
        return {name: size for name, size in dataclasses.asdict(self).items() if name != "chip"}


QUICK = Settings(
    shape=Shape(layers=2, width=32, inner=48, heads=2, head_width=16, vocabulary=8128),
    prompt=5,
    rounds=2,
    laps=2,
    batches=((2, 8), (4, 6)),
    generations=(3,),
    generation_rows=(1, 2),
    generation_tokens=8,
    engine_rows=(2,),
    engine_tokens={"a task": 8},
    epochs={"synthetic/movies": (40, 8)},
    epoch_rounds=1,
    wide=64,
    wide_laps=1,
    ranked="synthetic/movies",
    rank_limit=16,
    bank=(2, 2),
    served=(3,),
    memory_batches=((4, 6),),
    memory_laps=1,
    startup_rounds=1,
    slopes={"T": (4, 8), "P": (3, 6), "B": (2, 4), "L": (1, 2), "K": (1, 2)},
    slope_base={"T": 6, "P": 5, "B": 4, "L": 2},
    gemm=256,
    chip=Chip(
        kinds=("gpu", "tpu", "cpu"),
        shapes={"toy": Shape(layers=1, width=32, inner=48, heads=2, head_width=16, vocabulary=96)},
        batch=(4, 6, 3),
        steps=2,
        gemm=256,
    ),
)
