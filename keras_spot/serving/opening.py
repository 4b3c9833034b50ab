"""From paths to loaded engines: exported folders as they are, runs after an export."""

import functools
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_spot.base.errors import InvalidArgument, MissingExtra, Unfinished, invalid, unknown
from keras_spot.base.types import PathLike
from keras_spot.prompts import read_header
from keras_spot.serving.engines import ENGINES, Engine, open_engine
from keras_spot.tasks.card import TASK_FILE

__all__ = ["AUTO", "exported_folder", "log", "measured", "open_all", "warm_up"]

log = logging.getLogger("keras_spot.serving")

AUTO = "auto"
_SENTENCE = "the film was a fine one and nobody in the street had seen it before"
_ROWS, _ROUNDS = 32, 3


def open_all(
    paths: Sequence[PathLike],
    engine: str = AUTO,
    scratch: PathLike | None = None,
    backbone: str | None = None,
    takes_prompts: bool = False,
    batch_size: int = 32,
) -> tuple[list[Engine], str]:
    """Return engines for what is to be served, and in one line which they are and why.

    All prompts share an engine, the first where the first path is one; else it is the last.

    Args:
        paths: folders that `keras-spot export` wrote (or that hold one in a folder of its version's
            number), and prompts: runs, files, adapters, addresses.
        engine: a name out of `ENGINES`, or "auto": for prompts the one that measures fastest here.
        scratch: folder for what is exported to be served. Default: none may be needed.
        backbone: of prompts that do not say theirs.
        takes_prompts: whether prompts will come that were never exported, for the first model.
        batch_size: texts computed at once. Default 32.

    Raises:
        InvalidArgument: nothing to serve, an unknown engine, or one that cannot run a folder.
        MissingFile, MissingExtra: something is not there.
    """
    if engine not in (AUTO, *ENGINES):
        raise unknown("engine", engine, (AUTO, *ENGINES))
    if not paths:
        raise invalid("models", "must name at least one folder, run or prompt", "none")
    folders = [folder for folder in map(exported_folder, paths) if folder is not None]
    prompts = [str(path) for path in paths if exported_folder(path) is None]
    for prompt in prompts:  # a mistake in a path should not wait for an export
        read_header(prompt)
    named = None if engine == AUTO else engine
    engines = [open_engine(folder, named, batch_size=batch_size) for folder in folders]
    reasons = [f"{one.name} runs {one.folder}" for one in engines]
    if prompts:
        if scratch is None:
            raise invalid("models", "must be exported folders", prompts[0])
        export = functools.partial(_exported, prompts, Path(scratch), backbone, batch_size)
        is_first = str(paths[0]) in prompts  # the first takes the prompts that will come
        chosen, reason = _of_prompts(export, engine, takes_prompts and is_first)
        place = 0 if is_first else len(engines)
        engines.insert(place, chosen)
        reasons.insert(place, reason)
    for one in engines:
        warm_up(one)
    if takes_prompts and not engines[0].takes_prompts:
        rule = (
            "must be one that takes prompts that were not exported: tensorflow, or onnxruntime "
            "where texts see the prompt and it sees them"
        )
        raise invalid("engine", rule, f"{engines[0].name!r}")
    return engines, "; ".join(reasons)


def exported_folder(path: PathLike) -> Path | None:
    """Return the folder of an exported model: `path` or its newest version; None if it is none."""
    folder = Path(path)
    if (folder / TASK_FILE).is_file():
        return folder
    versions = [
        int(one.parent.name) for one in folder.glob(f"*/{TASK_FILE}") if one.parent.name.isdecimal()
    ]
    return folder / str(max(versions)) if versions else None


def _of_prompts(
    export: Callable[[str], Engine], engine: str, takes_prompts: bool
) -> tuple[Engine, str]:
    """Return the engine of prompts and why it is that one; `export` makes one of a name."""
    if engine != AUTO:
        return export(engine), f"{engine}, as asked"
    engines: dict[str, Engine] = {}
    notes = []
    for name in ENGINES:
        try:
            one = export(name)
        except (InvalidArgument, MissingExtra, Unfinished) as error:
            notes.append(f"{name} cannot: {error}")
            continue
        if takes_prompts and not one.takes_prompts:
            notes.append(f"{name} takes no prompts that were not exported")
            continue
        engines[name] = one
    if not engines:
        raise invalid("engine", "must be one that can run these prompts", "; ".join(notes))
    seconds = {name: measured(one) for name, one in engines.items()}
    best = min(seconds, key=seconds.__getitem__)
    times = ", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in sorted(seconds.items()))
    return engines[best], "; ".join([f"{best}, the fastest here ({_ROWS} texts: {times})", *notes])


def measured(engine: Engine) -> float:
    """Return the seconds that an engine takes to answer 32 texts; the best of three."""
    texts = _texts(_ROWS)
    prompt = next(iter(engine.cards))
    ask: Any = engine.classify if engine.cards[prompt].labels else engine.generate
    best = float("inf")
    for _ in range(1 + _ROUNDS):  # the first is to warm up
        started = time.perf_counter()
        ask(texts, [prompt] * len(texts))
        best = min(best, time.perf_counter() - started)
    return best


def warm_up(engine: Engine) -> None:
    """Let an engine answer once in each way, so that no caller waits for what is done once.

    The last are the largest batches that it may get: what memory they need is there from then on,
    or the server fails now.
    """
    labelled = [name for name, card in engine.cards.items() if card.labels]
    longest = [f"{_SENTENCE} " * (engine.facts["max_input_length"] // 10 + 1)] * engine.batch_size
    for texts in (_texts(1), _texts(2), longest):
        rows = len(texts)
        engine.generate(texts, [next(iter(engine.cards))] * rows)
        if labelled:
            engine.classify(texts, [labelled[0]] * rows)


def _texts(rows: int) -> list[str]:
    words = _SENTENCE.split()
    return [" ".join(words[: 3 + number % len(words)]) for number in range(rows)]


def _exported(
    prompts: Sequence[str], scratch: Path, backbone: str | None, batch_size: int, engine: str
) -> Engine:
    """Return an engine of prompts, exported in a process of its own: this one stays small."""
    form = ENGINES[engine][-1]
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix=f"{engine}-"))
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    words += [] if backbone is None else ["--backbone", backbone]
    command = [sys.executable, "-m", "keras_spot", "export", *words, "--format", form, str(folder)]
    log.info("exporting %d prompts for %s", len(prompts), engine)
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = list(_lines(done.stderr)) or [f"exit code {done.returncode}"]
        message = lines[-1].removeprefix("error: ")
        raise InvalidArgument(message) if done.returncode == 2 else Unfinished(message)
    return open_engine(folder, engine, batch_size=batch_size)


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())
