"""Prompts that lie beside a model: taken up, replaced and removed while it serves.

    PROMPTS/sst2.npz         a prompt file, served as `sst2`
            glue%2Fcb/       an entry of a library, a run or an adapter, served as `glue/cb`

A file that takes its name when it is whole (`save_prompt`, `keras-spot convert`, `mv`) is taken up
whole or not at all. One that cannot be read, or that does not fit the model, is named in the log;
a prompt that it would replace goes on serving.
"""

import dataclasses
import logging
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot import prompts
from keras_spot.base.errors import invalid
from keras_spot.base.types import PathLike
from keras_spot.tasks.card import TaskCard, card_of

__all__ = ["HeldPrompt", "Mark", "PromptFolder", "log"]

log = logging.getLogger("keras_spot.serving")

_SUFFIXES = (".npz", ".npy")
Mark = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class HeldPrompt:
    """A prompt in memory, as it was when it was read.

    Attributes:
        name: what it is served as.
        values: float32 `[P, H]`.
        card: how it is asked.
    """

    name: str
    values: np.ndarray
    card: TaskCard


class PromptFolder:
    """A folder of prompts, looked at again and again.

    Args:
        path: the folder; it may come later.
        facts: what the model says of itself: `width`, and where it is known `backbone` and
            `prompt_attention`.

    Attributes:
        held: the prompts by name; replaced, never changed.
        problems: what is wrong with a file or folder that is not served, by its name.
    """

    def __init__(self, path: PathLike, facts: Mapping[str, Any]) -> None:
        self.path, self._facts = Path(path), facts
        self.held: Mapping[str, HeldPrompt] = {}
        self.problems: dict[str, str] = {}
        self._marks: dict[str, Mark] = {}

    def poll(self) -> bool:
        """Look at the folder; return whether the prompts are others than before."""
        marks: dict[str, Mark] = {}
        hidden: dict[str, str] = {}
        for name, mark in self._entries():
            if name in marks:
                hidden[marks[name][0]] = f"has the name of {mark[0]}, which is served"
            marks[name] = mark
        held = {name: prompt for name, prompt in self.held.items() if name in marks}
        for name, mark in marks.items():
            if mark == self._marks.get(name):
                continue
            try:
                held[name] = self._read(name, mark[0])
                self.problems.pop(name, None)
                log.info("prompt %s: %s", name, "replaced" if name in self.held else "taken up")
            except Exception as error:  # whatever is wrong with one, the others are served
                problem = str(error) or type(error).__name__
                # Callers, who read it, need not know where the folder lies.
                self.problems[name] = problem.replace(f"{self.path}{os.sep}", "")
                log.warning("prompt %s is not taken up: %s", name, problem)
        for name in set(self.held) - set(marks):
            log.info("prompt %s: removed", name)
        for file in set(hidden) - set(self.problems):
            log.warning("prompt %s %s", file, hidden[file])
        known = {n: problem for n, problem in self.problems.items() if n in marks}
        self.problems = {**known, **hidden}
        changed = held != self.held
        self.held, self._marks = held, marks
        return changed

    def _entries(self) -> Any:
        """Yield the name and the mark of each prompt: its place, and what changes with it."""
        try:
            entries = sorted(os.scandir(self.path), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if entry.name.startswith("."):
                continue
            stem = stem if suffix in _SUFFIXES else entry.name
            try:
                if entry.is_dir():
                    stem = entry.name
                    inside = sorted(os.scandir(entry.path), key=lambda file: file.name)
                    mark = (entry.name, *(_mark(file.name, file.stat()) for file in inside))
                elif suffix in _SUFFIXES:
                    mark = entry.name, _mark("", entry.stat())
                else:
                    continue
            except OSError as error:
                if isinstance(error, FileNotFoundError) and not entry.is_symlink():
                    continue  # removed while we look
                mark = entry.name, str(error)  # reading it will say the same
            yield urllib.parse.unquote(stem), mark

    def _read(self, name: str, file: str) -> HeldPrompt:
        prompt = prompts.read(self.path / file)
        recorded = prompt.provenance
        width = self._facts.get("width")
        if width is not None and prompt.values.shape[1] != width:
            rule = f"must have the model's width {width}"
            raise invalid("prompt", rule, f"shape={prompt.values.shape} in {file}")
        for key in ("backbone", "prompt_attention"):
            own, its = self._facts.get(key), recorded.get(key)
            if own is not None and its is not None and own != its:
                raise invalid(
                    "prompt", f"must be of the model's {key} {own!r}", f"{its!r} in {file}"
                )
        values = prompt.values
        values.flags.writeable = False
        return HeldPrompt(name, values, card_of(recorded, name))


def _mark(name: str, known: os.stat_result) -> Mark:
    # What becomes readable has another time of change, and the same content.
    return name, known.st_ino, known.st_mtime_ns, known.st_ctime_ns, known.st_size
