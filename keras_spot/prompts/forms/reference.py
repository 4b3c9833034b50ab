"""Where a run keeps its prompts: the layout of google-research/prompt-tuning."""

import os
import re
from pathlib import Path
from typing import Any

from keras_spot.base import reading
from keras_spot.base.errors import damaged, invalid, missing_file

__all__ = [
    "CHECKPOINTS",
    "REFERENCE_NAME",
    "RUN_FILE",
    "STEP",
    "choose_step",
    "provenance",
    "read_run",
    "step_path",
    "steps",
    "steps_with",
]

REFERENCE_NAME = "encoder.prompt.prompt.prompt"
CHECKPOINTS = "numpy_checkpoints"
RUN_FILE = "run.json"
STEP = re.compile(r"checkpoint_(\d+)")


def step_path(run_dir: str | os.PathLike, step: int) -> Path:
    """Return where the reference keeps the prompt of `step`.

    >>> step_path("run", 500).as_posix()
    'run/numpy_checkpoints/checkpoint_500/encoder.prompt.prompt.prompt'
    """
    return Path(run_dir) / CHECKPOINTS / f"checkpoint_{step}" / REFERENCE_NAME


def steps(run_dir: str | os.PathLike) -> list[int]:
    """Return the steps whose prompts lie in a run directory, ascending."""
    return steps_with(Path(run_dir) / CHECKPOINTS, REFERENCE_NAME)


def steps_with(folder: Path, name: str) -> list[int]:
    """Return the steps of the folders `checkpoint_{step}` that hold a file `name`, ascending."""
    if not folder.is_dir():
        return []
    matches = ((STEP.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return sorted(int(m[1]) for m, entry in matches if m and (entry / name).is_file())


def read_run(run_dir: str | os.PathLike) -> dict[str, Any]:
    """Return a run directory's `run.json`, `{}` where there is none."""
    file = Path(run_dir) / RUN_FILE
    if not os.path.lexists(file):  # a folder or a pipe of that name is a damaged record
        return {}
    rule = f"must hold a readable {RUN_FILE}"
    # A score that is no number stands there as NaN, which is more than JSON knows.
    record = reading.read_record(file, argument="run_dir", rule=rule, finite=False)
    best = record.get("best", {})
    kinds = [type(best.get(key)) for key in ("step", "score")] if isinstance(best, dict) else []
    if best != {} and (kinds[:1] != [int] or kinds[1] not in (int, float)):
        raise damaged(file, rule, f"best={best!r}", argument="run_dir")
    return record


def choose_step(run_dir: Path, known: list[int], step: int | str | None) -> int:
    """Return the step that `step` stands for: a number, "best", "newest", or None for either."""
    asked, best = step, read_run(run_dir).get("best", {}).get("step")
    if step is None:
        step = "newest" if best is None else "best"
    if step == "best":
        if best is None:
            raise invalid("step", "must not be 'best' where the run recorded none", str(run_dir))
        step = best
    elif step == "newest":
        step = known[-1]
    if step not in known:
        shown = ", ".join(map(str, known[-10:]))
        if asked in (None, "best"):
            file = run_dir / RUN_FILE
            rule = f"must name one of the run's steps ({shown}) as its best"
            raise missing_file("run_dir", rule, f"step={step!r} in {file}")
        raise missing_file("step", f"must be one of the run's steps ({shown})", f"step={step!r}")
    return int(step)


def provenance(file: Path) -> dict[str, Any]:
    """Return what a file's place in a run tells: its step, and the run's own record."""
    match = STEP.fullmatch(file.parent.name)
    if file.name != REFERENCE_NAME or not match:
        return {}
    record = read_run(file.parents[2]) if file.parent.parent.name == CHECKPOINTS else {}
    kept = (
        "task",
        "backbone",
        "backbone_name",
        "prompt_attention",
        "seed",
        "learning_rate",
        "versions",
    )
    provenance: dict[str, Any] = {key: record[key] for key in kept if key in record}
    task, tasks = record.get("task"), record.get("tasks")
    if isinstance(task, str) and isinstance(tasks, dict) and task in tasks:
        provenance["task_record"] = tasks[task]
    provenance["step"] = int(match[1])
    if record.get("best", {}).get("step") == provenance["step"]:
        provenance["score"] = record["best"].get("score")
    return provenance
