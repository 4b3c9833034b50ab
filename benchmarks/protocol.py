"""Worker processes that answer requests, JSON lines over their standard input and output."""

import collections
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class WorkerError(RuntimeError):
    """A worker failed or died; the message says why."""


class Skip(Exception):
    """A measurement that cannot be made here, and why."""


class Worker:
    """A module of this package that runs `serve` in a process of its own.

    Args:
        module: `"benchmarks.ours"` or `"benchmarks.peer"`.
        python: the interpreter.
        threads: cores that it may use.
        environment: further environment variables.
    """

    def __init__(
        self,
        module: str,
        python: str | os.PathLike[str] = sys.executable,
        threads: int = 1,
        environment: Mapping[str, str] | None = None,
    ):
        self.module = module
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  as long as the worker
        variables = {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(threads),
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
            "HF_HUB_OFFLINE": "1",
            "BENCHMARK_THREADS": str(threads),
        }
        self._process = subprocess.Popen(
            [str(python), "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            env={**os.environ, **variables, **(environment or {})},
            text=True,
            start_new_session=True,  # Ctrl-C is for the runner alone
        )
        self.pid = self._process.pid

    def request(self, name: str, /, **arguments: Any) -> Any:
        """Return what the worker's function `name` returns.

        Raises:
            Skip: the worker says that it cannot.
            WorkerError: it failed or died; after that `alive` says whether it can go on.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps([name, arguments]), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise WorkerError(f"{self.module} ended with code {code} in {name!r}: {self._tail()}")
        answer = json.loads(line)
        if "skip" in answer:
            raise Skip(answer["skip"])
        if "error" in answer:
            raise WorkerError(f"{self.module} failed in {name!r}: {answer['error']}")
        return answer["result"]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End the process; safe to call twice."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _tail(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return " | ".join(lines[-5:])


def serve(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until standard input ends; what else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = {"result": functions[name](**arguments)}
        except Skip as reason:
            answer = {"skip": str(reason)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def gathered(samples: list[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Return lists of several answers joined, key by key."""
    merged: dict[str, list[float]] = collections.defaultdict(list)
    for sample in samples:
        for key, values in sample.items():
            merged[key] += values
    return dict(merged)
