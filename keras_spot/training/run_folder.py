"""What a training run leaves in its folder besides prompts: record, state, metrics.

run.json           what was asked for, on what, and the best step so far
state.npz          prompt, optimiser variables and step of the newest checkpoint
metrics.jsonl      one line a checkpoint: step, loss, scores, seconds
tensorboard/       the same for TensorBoard
numpy_checkpoints/ the prompts, in the reference's layout
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot import prompts
from keras_spot.base import remote
from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import invalid

STATE = "state.npz"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
# May differ between a run and its continuation.
_FREE = {"best", "steps", "versions", "strategy"}


def open_run(run_dir: str | os.PathLike, record: Mapping[str, Any], step: int | None = None) -> int:
    """Start or continue a run; return the step to continue from, 0 for a new one.

    That is the step of the folder's own state, or `step` where the state is kept elsewhere.

    What lies beyond the newest complete state (a run that was killed while it saved) is
    removed: the continued run writes it again.

    Raises:
        ValueError: the folder holds a run that was asked for something else, or is an address.
        OSError: the folder cannot be written to.
    """
    if remote.is_remote(run_dir):
        raise invalid("run_dir", "must be a folder of this machine", remote.address(run_dir))
    run_dir = Path(run_dir)
    old = prompts.read_run(run_dir)
    if not old and prompts.steps(run_dir):
        rule = f"must be new or hold a {prompts.RUN_FILE}"
        raise invalid("run_dir", rule, f"checkpoints alone in {run_dir}")
    record = json.loads(json.dumps(record))
    for key in sorted((set(old) | set(record)) - _FREE) if old else ():
        if old.get(key) != record.get(key):
            rule = f"must be new or hold a run with the same {key} ({record.get(key)!r})"
            raise invalid("run_dir", rule, f"{key}={old.get(key)!r} in {run_dir}")
    step = newest_step(run_dir) if step is None else step
    best = old.get("best")
    _trim(run_dir, step)
    if best and best["step"] > step:
        best = max(_kept_scores(run_dir), default=None, key=lambda found: found["score"])
    _write_record(run_dir, {**record, **({"best": best} if best else {})})
    return step


def newest_step(run_dir: str | os.PathLike) -> int:
    """Return the step of the newest state, 0 where there is none."""
    file = Path(run_dir) / STATE
    if not file.is_file():
        return 0
    with _load(file) as state:
        return int(state["step"])


def save_state(run_dir: str | os.PathLike, prompt: Any, optimizer: Any, step: int) -> None:
    """Write what an exact continuation needs; tens of kilobytes, never the backbone."""
    from keras import ops

    slots = {f"slot_{i}": ops.convert_to_numpy(v) for i, v in enumerate(optimizer.variables)}
    with atomic_write(Path(run_dir) / STATE) as file:
        np.savez(file, prompt=np.asarray(prompt), step=np.int64(step), **slots)


def load_state(run_dir: str | os.PathLike, prompts: Sequence[Any], optimizer: Any) -> int:
    """Put the newest state into prompts' variables and a built optimiser; return its step."""
    file = Path(run_dir) / STATE
    with _load(file) as state:
        prompt = state["prompt"]
        values = [prompt] if prompt.ndim == 2 else list(prompt)
        values += [state[f"slot_{i}"] for i in range(len(state.files) - 2)]
        variables = [*prompts, *optimizer.variables]
        if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
            raise invalid("run_dir", "must hold a state of this model and optimiser", str(file))
        for variable, value in zip(variables, values):
            variable.assign(value)
        return int(state["step"])


def append_metrics(run_dir: str | os.PathLike, line: Mapping[str, Any]) -> None:
    """Add a line to `metrics.jsonl`."""
    with open(Path(run_dir) / METRICS, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_metrics(run_dir: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl`; a last line cut off by a kill is left out."""
    file = Path(run_dir) / METRICS
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def record_best(run_dir: str | os.PathLike, step: int, score: float, better: Any) -> bool:
    """Note a step as the run's best if `better(score, best so far)`; return whether it is."""
    record = prompts.read_run(run_dir)
    best = record.get("best")
    if best and not better(score, best["score"]):
        return False
    _write_record(Path(run_dir), {**record, "best": {"step": step, "score": score}})
    return True


def _write_record(run_dir: Path, record: Mapping[str, Any]) -> None:
    with atomic_write(run_dir / prompts.RUN_FILE, "w") as file:
        json.dump(record, file, indent=2, sort_keys=True)
        file.write("\n")


def _load(file: Path) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise invalid("run_dir", "must hold a whole state", f"{file} ({error})") from None


def _trim(run_dir: Path, step: int) -> None:
    for later in prompts.steps(run_dir):
        if later > step:
            shutil.rmtree(prompts.step_path(run_dir, later).parent)
    lines = read_metrics(run_dir)
    if lines:
        with atomic_write(run_dir / METRICS, "w") as file:
            for line in lines:
                if line["step"] <= step:
                    file.write(json.dumps(line) + "\n")


def _kept_scores(run_dir: Path) -> list[dict[str, Any]]:
    lines = [line for line in read_metrics(run_dir) if "score" in line]
    return [{"step": line["step"], "score": line["score"]} for line in lines]
