"""Two commands in one folder at the same time: each is refused in one line, or right."""

import itertools
import shutil
import time
from pathlib import Path

import numpy as np
import world as worlds

DELAY = 0.004  # seconds at each file operation, of a slow network file system


class Pairs:
    """The pairs of commands.

    Args:
        world: the folder of `world.make`.
        scratch: a folder for places.
        servers: two `forks.Server`.
    """

    def __init__(self, world, scratch, servers):
        self.world, self.servers = Path(world), servers
        self.place = Path(scratch, "place")
        self.outs = [Path(scratch, f"out{number}.txt") for number in range(2)]
        self.alone = {}

    def pair(self, first, second, number=0, delay=0.0):
        """Run two commands at once; return (how each ended, what was wrong).

        Args:
            first, second: `world.Verb`s. What each begins with is there if it is for both.
            number: of the try, by which the second starts a little later.
            delay: seconds at each file operation.
        """
        rng = np.random.default_rng([number])
        expected = [self._alone(verb) for verb in (first, second)]
        self._begin(first if first is second else None)
        for verb, server, out in zip((first, second), self.servers, self.outs):
            plan = {"delay": delay, "eager": verb.eager}
            server.start(verb.words(self.world), self.place, out, **plan)
            time.sleep(float(rng.uniform(0, 0.5)) if number else 0.0)
        ends = [server.wait(180.0) for server in self.servers]
        if None in ends:
            raise TimeoutError(f"{first.name} and {second.name}")
        now, wrong, words = worlds.picture(self.place), [], []
        for verb, (status, _), out, alone in zip((first, second), ends, self.outs, expected):
            lines = out.read_text(errors="replace").strip().splitlines()
            errors = [line for line in lines if line.startswith("error: ")]
            words.append({0: "done", 2: "refused"}.get(status, f"ended with {status}"))
            if status == 0:
                wrong += [f"{verb.name}: {line}" for line in _lacking(alone, now)]
            elif status != 2 or len(errors) != 1 or any("Traceback" in line for line in lines):
                wrong.append(f"{verb.name} ended with {status}: {lines[-1:]}")
        if not any(status == 0 for status, _ in ends):
            wrong.append("both were refused")
        left = [name for name in now if _is_left(name)]
        return words, wrong + [f"left over: {name}" for name in left]

    def _begin(self, verb):
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        if verb is not None:
            verb.before(self.world, self.place)

    def _alone(self, verb):
        """Return the picture of what a command writes alone."""
        if verb.name not in self.alone:
            self._begin(None)
            words, out = verb.words(self.world), self.outs[0]
            status, _ = self.servers[0].run(words, self.place, out, eager=verb.eager)
            assert status == 0, f"{verb.name}: {self.outs[0].read_text()}"
            self.alone[verb.name] = worlds.picture(self.place)
        return self.alone[verb.name]


def all_pairs(verbs):
    """Return every pair of commands, also of one with itself."""
    return list(itertools.combinations_with_replacement(verbs, 2))


def _lacking(alone, now):
    wrong = [f"missing: {name}" for name in alone.keys() - now.keys()]
    return wrong + [f"different: {n}" for n in alone.keys() & now.keys() if alone[n] != now[n]]


def _is_left(name):
    """Whether a name is that of a temporary file or a lock."""
    return (
        any(part.startswith(".") for part in name.rstrip("/").split("/")) and ".cache" not in name
    )
