"""What libraries print as they start and that nobody can act on, kept off the terminal."""

import contextlib
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from keras_spot.base.registration import when_imported

__all__ = ["quiet_logger", "quiet_tensorflow", "quiet_tqdm", "without_start_up_notes"]

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Lines of absl's logging below an error, its own preamble, and what continues such a line.
_NOTE = re.compile(
    r"[IW]\d{4} \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] "
    r"|WARNING: All log messages before absl::InitializeLog|To enable the following instructions"
    r"|E\d{4} .*(?:cuInit|cuda_|cudart|Unable to register cu)"
)


class _Stderr:
    """A stream that writes to another, for loggers that keep the stderr they were made with."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def without_start_up_notes() -> Iterator[None]:
    """Take the notes out of what C++ libraries write to stderr in the block; the rest follows it.

    They log before Python can set their level. What Python writes goes out at once.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    python_stderr = sys.stderr
    with tempfile.TemporaryFile() as written, open(terminal, "w", closefd=False) as direct:
        stderr = _Stderr(direct)
        if python_stderr is sys.__stderr__:
            sys.stderr = stderr  # type: ignore[assignment]
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            stderr.stream = sys.stderr = python_stderr
            written.seek(0)
            lines = written.read().splitlines(keepends=True)
            rest = [line for line in lines if not _NOTE.match(line.decode(errors="replace"))]
            if rest:
                os.write(2, b"".join(rest))
            os.close(terminal)


def quiet_tensorflow() -> None:
    """Keep what TensorFlow's C++ logs off stderr if it is imported later on.

    Its errors are raised in Python, too, and warnings of Python stay. With
    `TF_CPP_MIN_LOG_LEVEL=0` everything is shown.
    """
    if "tensorflow" not in sys.modules:
        when_imported("tensorflow", lambda: None, _without_logs)


def quiet_tqdm() -> None:
    """Keep tqdm, if it is imported later on, from asking for widgets that a notebook lacks.

    Libraries of ours bring it; bars of ours need no widgets.
    """
    if "tqdm.auto" not in sys.modules:
        when_imported("tqdm.auto", lambda: None, _without_widgets)


@contextlib.contextmanager
def _without_widgets() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        yield


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    if os.environ.setdefault(_LEVEL, "3") == "0":
        yield
        return
    with without_start_up_notes():
        yield


@contextlib.contextmanager
def quiet_logger(name: str) -> Iterator[None]:
    """Let a logger of Python's write errors alone in the block."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
