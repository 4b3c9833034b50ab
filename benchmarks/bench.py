"""What the cases work with: the two sides, their turns, and what else the machine did meanwhile."""

import dataclasses
import functools
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import machine, workload
from benchmarks.protocol import Skip, Worker, gathered
from benchmarks.settings import Settings

PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Part:
    """One measurement: its case, its name within it, and what makes it."""

    case: str
    name: str
    run: Callable[["Bench"], dict[str, Any]]

    @property
    def key(self) -> str:
        return f"{self.case}: {self.name}"


class Bench:
    """The two sides and what they share.

    Args:
        settings: sizes.
        scratch: folder for weights and data of this run.
        threads: cores of each side.
        peer_python: interpreter of the peer's environment, None to do without the peer.
        data_dir: prepared TFDS data.
        tokenizer: SentencePiece file.
    """

    def __init__(
        self,
        settings: Settings,
        scratch: Path,
        threads: int,
        peer_python: Path | None,
        data_dir: Path,
        tokenizer: Path,
    ):
        self.settings, self.scratch, self.threads = settings, scratch, threads
        self.data_dir, self.tokenizer = data_dir, tokenizer
        self._pythons = {"ours": Path(sys.executable), "peer": peer_python}
        self._workers: dict[str, Worker] = {}
        self._others = [0.0, 0.0]
        self._peers_bfloat16: dict[Any, tuple[str, str]] = {}

    @property
    def has_peer(self) -> bool:
        return self._pythons["peer"] is not None

    @property
    def sides(self) -> list[str]:
        return ["ours", "peer"] if self.has_peer else ["ours"]

    # === Workers ===

    def fresh(self, side: str) -> Worker:
        """Return a new worker, for whoever wants a process of its own."""
        python = self._pythons[side]
        if python is None:
            raise Skip("needs the peer")
        return Worker(f"benchmarks.{side}", python, self.threads)

    def fresh_with(self, backend: str, **environment: str) -> Worker:
        """Return a new worker of ours on another backend of Keras', with further variables."""
        if importlib.util.find_spec(backend) is None:
            raise Skip(f"needs {backend}")
        path = os.pathsep.join(filter(None, sys.path))
        variables = {"KERAS_BACKEND": backend, "PYTHONPATH": path, **environment}
        return Worker("benchmarks.backend", sys.executable, self.threads, variables)

    def ask(self, side: str, name: str, /, **arguments: Any) -> Any:
        """Let a side do something; a worker that died before is replaced."""
        worker = self._workers.get(side)
        if worker is None or not worker.alive:
            worker = self._workers[side] = self.fresh(side)
        return self.watched(worker, name, **arguments)

    def watched(self, worker: Worker, name: str, /, **arguments: Any) -> Any:
        """Pass a request on and note the CPU seconds of all other processes meanwhile."""
        before = machine.busy_seconds()
        if before is None:
            return worker.request(name, **arguments)
        own = machine.process_seconds(worker.pid)
        answer = worker.request(name, **arguments)
        own = machine.process_seconds(worker.pid) - own
        self._others[0] += max(0.0, (machine.busy_seconds() or 0.0) - before - own)
        self._others[1] += own
        return answer

    def others(self) -> float:
        """Return other processes' CPU time as a share of ours since the last call."""
        others, own = self._others
        self._others = [0.0, 0.0]
        return round(others / own, 4) if own else 0.0

    def tidy(self) -> None:
        """Let both sides forget their models."""
        for worker in self._workers.values():
            if worker.alive:
                worker.request("free")

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.stop()

    # === Models ===

    def backbone(self, **changes: int) -> str:
        """Return the folder of the random backbone, or of one that differs from it."""
        shape = dataclasses.replace(self.settings.shape, **changes)
        folder = self.scratch / f"backbone-{shape.layers}"
        if not folder.exists():
            workload.write_backbone(folder, shape)
        return str(folder)

    def load(
        self, side: str, precision: str = "float32", cast: str | None = None, **options: Any
    ) -> Any:
        """Let a side build its model of the settings' shape.

        Args:
            cast: the peer's to bfloat16. Default: the faster in a training step.
        """
        shape = [self.settings.prompt, self.settings.shape.width]
        options = {"backbone": self.backbone(), "prompt": shape, **options}
        if side == "peer" and precision == "bfloat16":
            precision = cast or self.peers_bfloat16()[0]
        return self.ask(side, "load", precision=precision, **options)

    def peers_bfloat16(self, name: str = "step", **asked: Any) -> tuple[str, str]:
        """Return the faster of the peer's two ways to bfloat16, and a note that says so.

        Args:
            name: what is asked of both, with `asked`. Default: a training step.
        """
        asked = asked or self.batch(*self.settings.batches[0])
        key = name, *asked.values()
        if key not in self._peers_bfloat16:
            seconds = {}
            for cast in ("bfloat16", "autocast"):
                self.load("peer", "bfloat16", cast)
                answer = self.ask("peer", name, **asked, count=4)
                seconds[cast] = min(answer["wall"][1:])
            best = min(seconds, key=lambda cast: seconds[cast])
            each = ", ".join(f"{cast} {1e3 * s:.0f} ms" for cast, s in seconds.items())
            self._peers_bfloat16[key] = best, f"peer's bfloat16 is the faster of {each}"
        return self._peers_bfloat16[key]

    def against_peer(
        self, name: str, precision: str, target: float, *, warm: int, xla: bool, **asked: Any
    ) -> dict[str, Any]:
        """Time both sides' loaded models.

        Args:
            name: what to ask of them, with `asked`.
            target: of the ratio to the peer.
            warm: how many laps are not counted after compiling.
            xla: time ours through XLA too.

        Returns:
            `sides` and `comparisons` of a measurement.
        """

        def turn(side: str, **options: Any) -> Callable[[], dict[str, list[float]]]:
            count = self.settings.laps
            return lambda: without_loss(self.ask(side, name, **asked, **options, count=count))

        turns = {side: turn(side) for side in self.sides}
        pairs = [["ours", "peer", target]]
        if xla:
            self.load("ours", precision, key="XLA", xla=True)
            self.ask("ours", name, **asked, key="XLA", count=warm)
            turns["ours, XLA"] = turn("ours", key="XLA")
            pairs.append(["ours, XLA", "peer", target])
        return {"sides": in_turn(turns, self.settings.rounds), "comparisons": pairs}

    def own_in_turn(
        self, name: str, variants: dict[str, dict[str, Any]], *, warm: int, **asked: Any
    ) -> dict[str, dict[str, list[float]]]:
        """Time models of ours in turns; return the laps of each.

        Args:
            name: what to ask of them, with `asked`.
            variants: what each is called, and its options of `load`.
            warm: how many laps of each are not counted.
        """
        for key, options in variants.items():
            self.load("ours", key=key, **options)
            self.ask("ours", name, **asked, key=key, count=warm)
        count = self.settings.laps
        turns = {
            key: functools.partial(self.ask, "ours", name, **asked, key=key, count=count)
            for key in variants
        }
        samples = in_turn(turns, self.settings.rounds)
        return {key: without_loss(sample) for key, sample in samples.items()}

    def batch(self, rows: int, tokens: int) -> dict[str, int]:
        """Return the arguments of a `step` that say what to train on."""
        return {"rows": rows, "tokens": tokens, "targets": self.settings.targets}

    @functools.cached_property
    def gemm(self) -> dict[str, dict[str, float]]:
        """GFLOP/s of a product of square matrices: precision to side to rate."""
        return {
            precision: {
                side: round(self.ask(side, "gemm", dtype=precision, size=self.settings.gemm), 1)
                for side in self.sides
            }
            for precision in PRECISIONS
        }


def in_turn(
    turns: dict[str, Callable[[], dict[str, list[float]]]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Give every side its turn, `rounds` times; return the samples of each."""
    of_sides: dict[str, list[dict[str, list[float]]]] = {side: [] for side in turns}
    for _ in range(rounds):
        for side, turn in turns.items():
            of_sides[side].append(turn())
    return {side: gathered(samples) for side, samples in of_sides.items()}


def without_loss(samples: dict[str, Any]) -> dict[str, list[float]]:
    """Return the laps of samples alone."""
    return {key: samples[key] for key in ("wall", "cpu")}
