"""The cases, by name: each module has `parts(settings)`, the measurements it consists of."""

from benchmarks.bench import Part
from benchmarks.cases import (
    accelerator,
    bank,
    engines,
    epoch,
    generate,
    kernels,
    memory,
    methods,
    rank,
    serve,
    slopes,
    startup,
    step,
)
from benchmarks.settings import Settings

CASES = {
    "step": step,
    "epoch": epoch,
    "generate": generate,
    "rank": rank,
    "serve": serve,
    "engines": engines,
    "bank": bank,
    "memory": memory,
    "startup": startup,
    "slopes": slopes,
    "kernels": kernels,
    "methods": methods,
    "accelerator": accelerator,
}


def parts(settings: Settings, names: list[str]) -> list[Part]:
    """Return the measurements of the named cases."""
    return [part for name in names for part in CASES[name].parts(settings)]
