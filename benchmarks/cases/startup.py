"""How long commands take, from their start to their end."""

import functools
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks import workload
from benchmarks.bench import Bench, Part
from benchmarks.protocol import ROOT, WorkerError
from benchmarks.settings import Settings

TARGET = 0.5
STEP_TARGET = 20.0
TASK = "synthetic/movies"


def parts(settings: Settings) -> list[Part]:
    """Return the commands that only show something, and a training run of one step."""
    commands = {
        "keras-spot --help": ["--help"],
        "keras-spot tasks": ["tasks"],
        "keras-spot inspect FILE": ["inspect", "{prompt}"],
    }
    parts = [
        Part("startup", name, functools.partial(command, words, settings.startup_rounds, TARGET))
        for name, words in commands.items()
    ]
    train = ["train", "--task", TASK, "--run-dir", "{run}", "--steps", "1", "--data-dir", "{data}"]
    train += ["--validation-split", ""]
    name = "keras-spot train, one step of the embedded backbone"
    rounds = min(3, settings.startup_rounds)
    return [*parts, Part("startup", name, functools.partial(command, train, rounds, STEP_TARGET))]


def command(words: list[str], rounds: int, target: float, bench: Bench) -> dict[str, Any]:
    """Time a command of the command line, each time in a new process."""
    import numpy as np

    prompt = bench.scratch / "prompt.npy"
    np.save(prompt, workload.prompt(bench.settings.prompt, bench.settings.shape.width))
    names = {"prompt": prompt, "data": bench.scratch / "tfds"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"}
    samples: dict[str, list[float]] = {"wall": []}
    for turn in range(rounds + 1):  # the first fills the file cache and prepares the data
        names["run"] = bench.scratch / f"run-{time.time_ns()}"
        line = [sys.executable, "-m", "keras_spot.cli", *(w.format(**names) for w in words)]
        began = time.perf_counter()
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise WorkerError(f"{' '.join(line[2:])} failed: {done.stderr[-500:]}")
        if turn:
            samples["wall"].append(seconds)
    return {"sides": {"ours": samples}, "limit": target}
