"""How long a library of many prompts takes to rank, and how much memory.

    python benchmarks/rank_prompts.py [--prompts N] [--folder DIR]

Cost: the library is made first, in a temporary folder: 600 KB of disk a prompt, 6 minutes for
10,000. Every row is a process of its own, so that its peak memory is its own. The plain loops
hold all embeddings in memory and compare token with token, as the formulas read. Expected of
10,000 prompts: each similarity under 10 s and 1 GB. Measured in November 2026 on 2 cores,
files cached, at real-time priority because the machine was shared:

|                      | seconds | peak MB | plain loop: seconds | peak MB |
|---|---|---|---|---|
| list                 | 0.4 | 68  |     |      |
| average_token_cosine | 1.6 | 218 | 9.8 | 2985 |
| per_token_cosine     | 1.2 | 218 | 9.9 | 2985 |
| max_inner_product    | 5.0 | 98  | 8.3 | 2985 |
"""

import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Annotated

import numpy as np
import typer

from keras_spot import PromptLibrary, transfer

LENGTH, WIDTH = 100, 768


def main(
    prompts: Annotated[int, typer.Option(help="Prompts in the library.")] = 10_000,
    folder: Annotated[
        pathlib.Path | None, typer.Option(help="Where the temporary folder goes.")
    ] = None,
    row: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Make a library of random prompts, list it, and rank it by every similarity."""
    if row:
        measure(folder, row)
        return
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        began = time.perf_counter()
        fill(PromptLibrary(scratch), prompts)
        seconds = time.perf_counter() - began
        title = f"{prompts} prompts of {LENGTH} x {WIDTH}, added in {seconds:.0f} s"
        rows = ["list", *transfer.SIMILARITIES, *(f"loop {name}" for name in LOOPS)]
        print(f"{title}\n\n| | seconds | peak MB |\n|---|---|---|")
        for row in rows:
            words = [sys.executable, __file__, "--folder", scratch, "--row", row]
            print(subprocess.run(words, check=True, capture_output=True, text=True).stdout, end="")


def fill(library: PromptLibrary, count: int) -> None:
    """Add random prompts; a quarter of each token is common to all, as in trained prompts."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(LENGTH, WIDTH)).astype("float32")
    for i in range(count):
        prompt = 300 * (rng.standard_normal((LENGTH, WIDTH), "float32") + common / 4)
        library.add(f"task {i}", prompt, prompt / 2, task=f"task {i}", backbone="0" * 16)


def cosines(query: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Return the cosines of all pairs of tokens, `[P, Q]`."""
    lengths = np.linalg.norm(query, axis=1)[:, None] * np.linalg.norm(prompt, axis=1)
    return query @ prompt.T / lengths


LOOPS = {
    "average_token_cosine": lambda a, b: cosines(a.mean(0)[None], b.mean(0)[None]).mean(),
    "per_token_cosine": lambda a, b: cosines(a, b).mean(),
    "max_inner_product": lambda a, b: cosines(a, b).max(axis=0).mean(),
}


def measure(folder: pathlib.Path, row: str) -> None:
    """Print one row of the table: seconds and the peak of this process."""
    library = PromptLibrary(folder)
    query = np.random.default_rng(1).standard_normal((LENGTH, WIDTH), "float32")
    began = time.perf_counter()
    if row == "list":
        library.entries()
    elif row.startswith("loop "):
        loop = LOOPS[row.removeprefix("loop ")]
        embeddings = {name: library.embedding(name).values for name in library}
        similarities = {
            name: float(loop(query, embedding)) for name, embedding in embeddings.items()
        }
        sorted(similarities.items(), key=lambda pair: -pair[1])
    else:
        library.rank(query, by=row)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {row} | {seconds:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    typer.run(main)
