"""What a training run leaves in its folder: the one place that knows where and in which form.

run.json           what was asked for, on what, and the best step so far
state.npz          prompt, optimiser variables and step of the newest checkpoint
state.previous.npz the same of the checkpoint before, for when that file is damaged
metrics.jsonl      one line a checkpoint: step, loss, scores, seconds
tensorboard/       the same for TensorBoard
numpy_checkpoints/ the prompts, in the reference's layout (`prompts.forms.reference`)

A bank's folder has a folder of this kind for each prompt, whose state is the bank's.
"""

import contextlib
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot import prompts
from keras_spot.base import ownership, reading, remote
from keras_spot.base.atomic import atomic_write
from keras_spot.base.errors import DamagedFile, invalid, missing_file, naming_file
from keras_spot.base.fields import check_text
from keras_spot.base.json_text import to_json
from keras_spot.prompts.names import folder as folder_of
from keras_spot.training.owner import LOCK, TRANSFER_LOCK, Owner
from keras_spot.training.state import State, checksum, read_state

__all__ = ["METRICS", "RAN_ON", "TENSORBOARD", "Line", "RunFolder"]

STATE, PREVIOUS = "state.npz", "state.previous.npz"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
RAN_ON = {"versions", "strategy", "devices", "backend", "kernels", "kernels_used", "remat"}
# May differ between a run and its continuation: how far it goes, where things lie, what it ran on,
# how much it forgives.
_FREE = {"best", "steps", "backbone_name", "tokenizer", "skip_nonfinite", *RAN_ON}
_FREE_WITHIN = {"recipe.steps"}
_BY_TASK = ("tasks.", "files.")
# Of a file only the contents count, not the path.
_PATHS = "path"
_LEFT_BY_A_KILL = 2  # checkpoints after the newest whole state: one, or two if it is the one before
_OWN = {prompts.RUN_FILE, STATE, PREVIOUS, METRICS, TENSORBOARD, prompts.CHECKPOINTS}
# Of a transfer, whose other runs are folders of runs.
_OWN |= {"transfer.json", "sources", "weights.svg"}

Line = dict[str, Any]


class RunFolder:
    """A run's folder.

    Args:
        path: the folder; made when something is written.

    Raises:
        InvalidArgument: an address, which is no folder of this machine, or nothing.
    """

    def __init__(self, path: str | os.PathLike):
        ownership.check_name(path, "run_dir")
        if remote.is_remote(path):
            raise invalid("run_dir", "must be a folder of this machine", remote.address(path))
        self.path = Path(path)
        self.owner = Owner(self.path)

    def check_place(self) -> None:
        """Raise InvalidArgument if others have put something in the folder, and no run of ours."""
        ownership.check_shared(self.path, "run", "run_dir", _is_of_run)

    def check_owned(self) -> None:
        """Raise if the folder was taken away while a run works in it.

        Raises:
            MissingFile: it was removed, or another process has taken it over.
        """
        if not (self.path / prompts.RUN_FILE).is_file() or self.owner.is_lost:
            rule = "must stay where it is while a run works in it"
            raise missing_file("run_dir", rule, f"{self.path} was removed or taken over")

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def tensorboard(self) -> Path:
        """Where TensorBoard's events go."""
        return self.path / TENSORBOARD

    def of_prompt(self, name: str) -> "RunFolder":
        """Return the folder of one prompt of a bank."""
        return RunFolder(self.path / folder_of(name))

    # === Record ===

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` holds, `{}` where there is none."""
        return prompts.read_run(self.path)

    def own_record(self) -> dict[str, Any]:
        """Return what `run.json` holds, `{}` where a run may begin.

        Raises:
            InvalidArgument: a `run.json` that is not ours, or files of a run's names without one.
        """
        record = self.record
        if (self.path / prompts.RUN_FILE).is_file():
            versions = record.get("versions")
            if not isinstance(versions, dict) or "keras_spot" not in versions:
                rule = f"must have a {prompts.RUN_FILE} that keras_spot wrote, or none"
                raise invalid("run_dir", rule, str(self.path))
            return record
        taken = [name for name in (STATE, PREVIOUS, METRICS) if (self.path / name).exists()]
        taken += ["checkpoints"] if prompts.steps(self.path) else []
        if taken:
            rule = f"must be new or hold a {prompts.RUN_FILE}"
            raise invalid("run_dir", rule, f"{', '.join(taken)} alone in {self.path}")
        return {}

    @property
    def best(self) -> dict[str, Any] | None:
        """The best step and its score, None where none is recorded."""
        return self.record.get("best") or None

    def check_best(self) -> None:
        """Raise InvalidArgument if the prompt of the best step is not there."""
        best = self.best
        if best is not None and not prompts.step_path(self.path, best["step"]).is_file():
            rule = "must hold the prompt of its best step; restart=True (--restart) sets it aside"
            raise invalid("run_dir", rule, f"none of step {best['step']} in {self.path}")

    def check(self, record: Mapping[str, Any], partly: bool = False) -> None:
        """Raise InvalidArgument if the folder holds another run than the one of a record.

        Files of the names that a run writes, without the record of one, are not ours either.

        Args:
            record: what the run is asked to be.
            partly: the record is not yet complete; what it does not say may be anything.
        """
        check_text(record)
        old = self.own_record()
        if not old:
            return
        record = json.loads(json.dumps(record))
        if partly:
            old = {key: old[key] for key in old if key in record or key == "bank"}
        differences = list(_differences(old, record))
        if ("bank" in old) != ("bank" in record):  # which decides the others
            differences = [d for d in differences if d[0] == "bank"]
        if any(name.startswith("recipe.") for name, *_ in differences):  # which decides it
            differences = [d for d in differences if not d[0].startswith("optimizer.")]
        if not differences:
            return
        names = ", ".join(name for name, *_ in differences)
        shown = "; ".join(f"{n} was {was!r}, asked {asked!r}" for n, was, asked in differences)
        rule = f"must be new or hold a run with the same {names}"
        raise invalid("run_dir", rule, f"{shown}, in {self.path}")

    def open(
        self,
        record: Mapping[str, Any],
        step: int | None = None,
        monitor: str = "score",
        mode: str = "max",
    ) -> int:
        """Start or continue a run; return the step to continue from, 0 for a new one.

        That is the step of the folder's own state, or `step` where the state is kept elsewhere.

        What lies beyond the newest complete state (of a run that was killed while it saved) is
        removed: the continued run writes it again, and the best step is that of the lines that
        stay, by the score `monitor`, the largest or, with the mode `"min"`, the smallest.

        Raises:
            InvalidArgument: the folder holds another run, checkpoints without their state, or not
                the prompt of its best step; of a bank's prompt that went on, no record.
            OSError: the folder cannot be written to.
        """
        self.check(record)
        best = self.best
        if step and not (self.path / prompts.RUN_FILE).is_file():
            rule = "must hold the folder of each prompt; restart=True (--restart) sets it aside"
            raise invalid("run_dir", rule, f"no {prompts.RUN_FILE} in {self.path}")
        self.check_best()
        step = self.newest_step() if step is None else step
        later = self._later(step)
        if best and (best["step"] > step or not math.isfinite(best["score"])):
            first = max if mode == "max" else min
            best = first(self._scores(monitor, step), default=None, key=lambda line: line["score"])
        # Before what it no longer names goes: a kill between the two is tried again.
        self._write_record({**record, **({"best": best} if best else {})})
        self._trim(step, later)
        return step

    def record_best(self, step: int, score: float, better: Callable[[float, float], bool]) -> bool:
        """Note a step as the run's best if `better(score, best so far)`; return whether it is.

        A score that is not a number is never the best.
        """
        record = self.record
        best = record.get("best")
        if math.isnan(score) or (best and not better(score, best["score"])):
            return False
        self._write_record({**record, "best": {"step": step, "score": score}})
        return True

    def _write_record(self, record: Mapping[str, Any]) -> None:
        with atomic_write(self.path / prompts.RUN_FILE, "w") as file:
            json.dump(record, file, indent=2, sort_keys=True, allow_nan=False)
            file.write("\n")

    # === Prompts ===

    def write_prompt(self, step: int, values: np.ndarray) -> None:
        """Write a step's prompt `[P, H]`."""
        prompts.write(prompts.step_path(self.path, step), values)

    # === State ===

    def newest_step(self) -> int:
        """Return the step of the newest state, 0 where nothing was trained yet.

        Raises:
            InvalidArgument: there are checkpoints, and no whole state to continue them from.
        """
        state = self.read_state()
        return 0 if state is None else int(state["step"])

    def read_state(self) -> State | None:
        """Return the newest whole state; None where nothing was trained yet.

        Raises:
            InvalidArgument: there are checkpoints, and no whole state to continue them from.
        """
        reasons = []
        for name in (STATE, PREVIOUS):
            file = self.path / name
            if not file.is_file():
                continue
            try:
                state = read_state(file)
            except DamagedFile as error:
                reasons.append(str(error))
                continue
            if reasons:
                step = int(state["step"])
                warnings.warn(f"{reasons[0]}; going on from step {step} of {file}", stacklevel=2)
            return state
        known = prompts.steps(self.path)
        if not known and not reasons:
            return None
        rule = f"must hold a whole {STATE} to continue; restart=True (--restart) sets it aside"
        missing = "; ".join(reasons) or f"checkpoints up to {known[-1]} without one in {self.path}"
        raise invalid("run_dir", rule, missing)

    def save_state(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write what an exact continuation needs; tens of kilobytes, never the backbone."""
        state: State = {**arrays, "step": np.array(step)}
        file = self.path / STATE
        with atomic_write(file) as stream:
            # Without `allow_pickle`, which older NumPy does not have and saves as one more array.
            named: dict[str, Any] = {**state, "checksum": np.array(checksum(state))}
            np.savez(stream, **named)
            if file.is_file():
                os.replace(file, self.path / PREVIOUS)

    # === Metrics ===

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to `metrics.jsonl`, on disk before the state that stands for it.

        A number that is not finite is written as null.
        """
        place = self.path / METRICS
        with naming_file(place), open(place, "a", encoding="utf-8") as file:
            file.write(to_json(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def metrics(self) -> list[Line]:
        """Return the lines of `metrics.jsonl`; one that was damaged or cut off is left out."""
        return [line for _, line in self._raw_metrics() if line is not None]

    def _raw_metrics(self) -> list[tuple[bytes, Line | None]]:
        file = self.path / METRICS
        lines = file.read_bytes().split(b"\n") if file.is_file() else []
        return [(raw, _parsed(raw, file)) for raw in lines if raw.strip()]

    def _scores(self, monitor: str, last: int) -> list[dict[str, Any]]:
        lines = [line for line in self.metrics() if line["step"] <= last]
        scored = [line for line in lines if line.get(monitor) is not None]
        return [{"step": line["step"], "score": line[monitor]} for line in scored]

    def _later(self, step: int) -> list[int]:
        """Return the steps after a state's that a kill can have left; raises where it cannot."""
        later = [known for known in prompts.steps(self.path) if known > step]
        if len(later) > _LEFT_BY_A_KILL:
            rule = f"must hold the {STATE} of its newest checkpoints to continue"
            received = f"one of step {step} for checkpoints to {later[-1]} in {self.path}"
            raise invalid("run_dir", rule, received)
        return later

    def _trim(self, step: int, later: Iterable[int]) -> None:
        for known in later:
            place = prompts.step_path(self.path, known)
            place.unlink()
            with contextlib.suppress(OSError):  # somebody has put files beside it
                place.parent.rmdir()
        lines = self._raw_metrics()
        # A line that cannot be read stays, unless it is the last: that one a kill has cut off.
        kept = [
            raw
            for number, (raw, line) in enumerate(lines, 1)
            if (number < len(lines) if line is None else line["step"] <= step)
        ]
        if len(kept) < len(lines):
            with atomic_write(self.path / METRICS) as file:
                file.writelines(raw + b"\n" for raw in kept)

    # === Other runs ===

    def adopt(self, winner: "RunFolder") -> None:
        """Copy another run into this folder; its prompts, by which a run is known, come last."""
        files = [winner.path / name for name in (prompts.RUN_FILE, METRICS, STATE)]
        files += [prompts.step_path(winner.path, step) for step in prompts.steps(winner.path)]
        for source in files:
            with atomic_write(self.path / source.relative_to(winner.path)) as file:
                file.write(source.read_bytes())

    def set_aside(self) -> Path | None:
        """Move the run out of the way; return where it is now, None if there was none.

        Files of another stay where they are; without any the folder is renamed.
        """
        there = list(self.path.iterdir()) if self.path.is_dir() else []
        ours = [entry for entry in there if _is_of_run(entry)]
        if not ours:
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old{number}")).exists():
            number += 1
        if len(ours) == len(there):
            return self.path.rename(aside)
        aside.mkdir()
        for entry in ours:
            entry.rename(aside / entry.name)
        return aside


def _is_of_run(entry: Path) -> bool:
    """Whether a file or folder is of a run, by its name, or is the folder of another run in it."""
    of_run = entry.name in _OWN or entry.name.startswith((f"{LOCK}.", f"{TRANSFER_LOCK}."))
    return of_run or (entry / prompts.RUN_FILE).is_file()


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], within: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, was, asked) of every field that differs, those of inner records by dots."""
    for key in sorted({*old, *new}):
        name = f"{within}{key}"
        if key == _PATHS or name in _FREE_WITHIN or (not within and key in _FREE):
            continue
        if key == "name" and within.startswith("optimizer."):  # Keras counts those of a process
            continue
        was, asked = old.get(key), new.get(key)
        if within in _BY_TASK and None in (was, asked):  # another task, which `task` says
            continue
        if None in (was, asked) and within.startswith("files."):  # not known, or not read
            continue
        if isinstance(was, Mapping) and isinstance(asked, Mapping):
            yield from _differences(was, asked, f"{name}.")
        elif was != asked:
            yield name, was, asked


def _parsed(raw: bytes, file: Path) -> Line | None:
    try:
        line = reading.parse_json(raw.decode("utf-8"), file, finite=False)
    except ValueError:
        return None
    return line if isinstance(line, dict) and type(line.get("step")) is int else None
