"""Kill chains: a command killed again and again, run to its end, and compared with one left alone.

A kill comes at a random time of the run or at one of its file operations; in a chain of power
losses it comes with the loss of all that was not synced. After each kill what must always hold is
looked at; at the end the folder must be that of the command left alone, and nothing besides.
"""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import world as worlds

KILLS_IN_A_CHAIN = 10


class Chains:
    """The chains of one command.

    Args:
        verb: a `world.Verb`.
        world: the folder of `world.make`.
        scratch: a folder for places.
        server: a `forks.Server`.
        twice: make sure that the command left alone does the same each time.
    """

    def __init__(self, verb, world, scratch, server, twice=True):
        self.verb, self.world, self.server = verb, Path(world), server
        self.place, self.out = Path(scratch, "place"), Path(scratch, "out.txt")
        self.image = Path(scratch, "image")
        self.words = verb.words(self.world)
        self.before = self._begin()
        began = time.monotonic()
        status, self.operations = self._run()
        self.seconds = time.monotonic() - began
        assert status == 0, f"{verb.name}: {self.out.read_text()}"
        self.whole = worlds.picture(self.place)
        if not twice:
            return
        self._begin()
        self._run()
        different = _difference(self.whole, worlds.picture(self.place))
        assert not different, f"{verb.name} is not the same each time: {different}"

    def chain(self, number, power=False, kills=KILLS_IN_A_CHAIN):
        """Run a chain; return how many kills it had, and what was wrong, nothing if all is well."""
        rng = np.random.default_rng([number, int(power)])
        self._begin()
        done = 0
        for _ in range(kills):
            plan = self._plan(rng, power, is_first=done == 0)
            status, _ = self._run(**plan)
            if status == 0:
                break
            if status != -9:
                return done, [f"after {done} kills: {status}: {self._last_line()}"]
            done += 1
            if power:
                self._lose_power()
            wrong = self._wrong_now()
            if wrong:
                return done, [f"kill {done}, {plan}: {line}" for line in wrong]
        status, _ = self._run()
        if status != 0:
            return done, [f"after {done} kills: {status}: {self._last_line()}"]
        return done, _difference(self.whole, worlds.picture(self.place))

    def _plan(self, rng, power, is_first):
        # What goes on has less to do, and ends before a late kill.
        last = self.operations if is_first else max(1, self.operations // 3)
        place = int(rng.integers(1, last + 1))
        if power:
            return {"kill_at": place, "image": [str(self.image), bool(rng.integers(2))]}
        if rng.random() < 2 / 3:
            return {"kill_at": place}
        return {"kill_after": float(rng.uniform(0, self.seconds / 2))}

    def _begin(self):
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        self.verb.before(self.world, self.place)
        return worlds.picture(self.place)

    def _run(self, **plan):
        return self.server.run(self.words, self.place, self.out, eager=self.verb.eager, **plan)

    def _lose_power(self):
        """Put in the folder's place what the disk holds, long ago: the machine had to start."""
        shutil.rmtree(self.place)
        self.image.rename(self.place)
        for file in self.place.rglob("*"):
            os.utime(file, (1e9, 1e9), follow_symlinks=False)

    def _wrong_now(self):
        """Return what must not be at any moment."""
        if self.verb.whole:
            now = _named(worlds.picture(self.place), "out")
            if now not in (_named(self.before, "out"), _named(self.whole, "out")):
                return ["neither the old nor the new one: " + ", ".join(sorted(now)[:9])]
            return _changed(self.place / "out")
        if self.verb.name == "library add":
            return _wrong_with_library(self.place / "out")
        return []

    def _last_line(self):
        lines = self.out.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _changed(folder):
    """Return what of a folder is not as its own marker says."""
    from keras_spot.base import ownership

    here = set(ownership.listing(folder)) if folder.is_dir() else set()
    return (
        [f"not as marked: {name}" for name in here - set(ownership.unchanged(folder))]
        if here
        else []
    )


def _wrong_with_library(folder):
    from keras_spot import PromptLibrary

    library = PromptLibrary(folder)
    wrong = [line for line in library.verify() if "left by an unfinished or killed" not in line]
    names = set(library)
    return wrong + ([] if {"films", "books"} <= names else [f"only {sorted(names)} are left"])


def _named(picture, name):
    return {path: digest for path, digest in picture.items() if path.startswith(f"{name}/")}


def _difference(expected, now):
    """Return lines of what differs between two pictures."""
    missing = [f"missing: {name}" for name in expected.keys() - now.keys()]
    left = [f"left over: {name}" for name in now.keys() - expected.keys()]
    both = expected.keys() & now.keys()
    return missing + left + [f"different: {n}" for n in sorted(both) if expected[n] != now[n]]
