"""Faults of every kind, tried: `python -m tests.faults --full` for all of it, in hours.

    files      hostile files over every reader
    kills      commands killed at any moment and run again
    power      the same, where each kill loses what was not synced
    pairs      two commands in one folder at once
    network    the same, on a file system that is slow at every operation
    clients    many clients of an exported model

What has been tried is noted in the work folder; the same command goes on there. Prints a table for
each part and what was wrong; ends with 1 if anything was.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import forks
import hostile_seeds
import hostile_trial
import kills
import pairs
import world as worlds

PARTS = ("files", "kills", "power", "pairs", "network", "clients")
FULL = {"files": 20_000, "kills": 100, "power": 100, "pairs": 3, "network": 1, "clients": 600}
SAMPLE = {"files": 1_000, "kills": 10, "power": 10, "pairs": 1, "network": 1, "clients": 10}
CLIENTS, GROWTH = 8, 2.0  # percent of memory


class Notes:
    """What has been tried, a line of JSON each, in a file that a later run goes on with."""

    def __init__(self, file):
        self.file = file
        lines = file.read_text().splitlines() if file.is_file() else []
        self.rows = {tuple(row["key"]): row for row in map(json.loads, lines)}

    def tried(self, key, make):
        """Return the row of a try, from the file or made now by `make`."""
        if tuple(key) not in self.rows:
            row = {"key": list(key), **make()}
            self.rows[tuple(key)] = row
            with open(self.file, "a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{time.strftime('%H:%M:%S')} {' '.join(map(str, key))}: {_short(row)}", flush=True
            )
        return self.rows[tuple(key)]


def main():
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--full", action="store_true", help="all of it, else a sample")
    parser.add_argument("--only", help=f"some of {', '.join(PARTS)}, with commas between")
    parser.add_argument("--inputs", type=int, help="hostile files, kills of a command, ...")
    parser.add_argument("--name", default="", help="only readers and commands that hold this")
    parser.add_argument("--work", type=Path, required=True, help="a new folder, or to go on in")
    arguments = parser.parse_args()
    parts = arguments.only.split(",") if arguments.only else PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only {', '.join(unknown)}: must be of {', '.join(PARTS)}")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    sizes, notes = FULL if arguments.full else SAMPLE, Notes(work / "tried.jsonl")
    wrong = []
    for part in parts:
        count = arguments.inputs or sizes[part]
        print(f"\n## {part}\n")
        wrong += RUN[part](count, arguments.name, work, notes)
    print(f"\n{len(wrong)} faults", *wrong, sep="\n")
    return 1 if wrong else 0


# === Parts: each returns the lines of what was wrong ===


def try_files(count, name, work, notes):
    readers = [reader for reader in hostile_seeds.READERS if name in reader.name]
    total, rows = sum(reader.share for reader in hostile_seeds.READERS), []
    for reader in readers:
        inputs = -int(-count * reader.share // total)
        key = ["files", reader.name, inputs]
        rows.append(notes.tried(key, lambda r=reader, n=inputs: hostile_trial.run_one(r, n)))
    _table(
        "reader | inputs | accepted | refused | most seconds | most MB | faults",
        map(_of_reader, rows),
    )
    sums = [sum(row[name] for row in rows) for name in ("inputs", "accepted", "refused")]
    print("\n{} files: {} accepted, {} refused".format(*sums))
    return [f"{row['key'][1]}: {example}" for row in rows for example in row["examples"]]


def try_kills(count, name, work, notes, power=False):
    """A chain of each command, then the next of each, so that a run cut short tried them all."""
    part = "power" if power else "kills"
    tried = {verb.name: _Tried() for verb in worlds.VERBS if name in verb.name}
    with _server() as heavy, _server(light=True) as light:
        for number in range(4 * count):
            for verb in map(worlds.BY_NAME.get, tried):
                own = tried[verb.name]
                if own.killed >= count or own.stuck:
                    continue

                def make(verb=verb, own=own, number=number):
                    server, place = (light if verb.light else heavy)(), work / part
                    try:
                        own.chains = own.chains or kills.Chains(verb, _world(work), place, server)
                    except AssertionError as error:
                        return {"killed": 0, "wrong": [str(error)], "stuck": True}
                    killed, problems = own.chains.chain(number, power)
                    return {"killed": killed, "wrong": problems}

                row = notes.tried([part, verb.name, number], make)
                own.numbers, own.killed = number + 1, own.killed + row["killed"]
                own.stuck = row.get("stuck", False)
                own.wrong += [f"{part}, {verb.name}, chain {number}: {w}" for w in row["wrong"]]
    rows = [[n, own.numbers, own.killed, len(own.wrong)] for n, own in tried.items()]
    _table(f"command | chains | {'losses of power' if power else 'kills'} | faults", rows)
    return [line for own in tried.values() for line in own.wrong]


@dataclasses.dataclass
class _Tried:
    """What has been tried of one command."""

    chains: "kills.Chains | None" = None
    numbers: int = 0
    killed: int = 0
    stuck: bool = False
    wrong: list = dataclasses.field(default_factory=list)


def try_power(count, name, work, notes):
    return try_kills(count, name, work, notes, power=True)


def try_pairs(count, name, work, notes, delay=0.0):
    part, wrong, rows, both = "network" if delay else "pairs", [], [], None
    with _server() as one, _server() as two:
        for first, second in pairs.all_pairs(worlds.VERBS):
            if name not in first.name and name not in second.name:
                continue
            ends, lines = [], []
            for number in range(count):

                def make(first=first, second=second, number=number):
                    nonlocal both
                    if both is None:
                        both = pairs.Pairs(_world(work), work / part, [one(), two()])
                    words, problems = both.pair(first, second, number, delay)
                    return {"ends": words, "wrong": problems}

                row = notes.tried([part, first.name, second.name, number], make)
                ends.append(" and ".join(row["ends"]))
                lines += [f"{part}, {first.name} and {second.name}: {w}" for w in row["wrong"]]
            rows.append([first.name, second.name, ", ".join(ends), len(lines)])
            wrong += lines
    _table("one | other | ends | faults", rows)
    return wrong


def try_network(count, name, work, notes):
    return try_pairs(count, name, work, notes, pairs.DELAY)


def try_clients(seconds, name, work, notes):
    def make():
        place = work / "clients"
        place.mkdir(exist_ok=True)
        with forks.Server() as server:
            words = worlds.BY_NAME["export"].words(_world(work))
            status, _ = server.run(words, place, work / "out.txt")
        assert status == 0, (work / "out.txt").read_text()
        words = [sys.executable, HERE / "clients.py", place / "out", str(seconds), str(CLIENTS)]
        return json.loads(subprocess.check_output(words, text=True).splitlines()[-1])

    row = notes.tried(["clients", seconds], make)
    print(
        f"{CLIENTS} clients, {seconds} s: {row['requests']} requests, {row['count']} wrong; memory "
        f"from {row['megabytes'][0]} to {row['megabytes'][1]} MB ({row['growth']:+.2f}%)"
    )
    return row["errors"] + ([f"memory grew by {row['growth']}%"] if row["growth"] > GROWTH else [])


RUN = {
    "files": try_files,
    "kills": try_kills,
    "power": try_power,
    "pairs": try_pairs,
    "network": try_network,
    "clients": try_clients,
}


# === Helpers ===


class _server:
    """A server to fork from that starts when it is first asked for."""

    def __init__(self, light=False):
        self._light, self._server = light, None

    def __enter__(self):
        return self

    def __call__(self):
        self._server = self._server or forks.Server(self._light)
        return self._server

    def __exit__(self, *error):
        if self._server is not None:
            self._server.__exit__(*error)


def _world(work):
    """Return the folder of the toy world, made in a process of its own."""
    world = work / "world"
    if not (world / "whole").is_file():
        print("making the toy world", flush=True)
        paths = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"}
        words = [sys.executable, HERE / "world.py", world]
        subprocess.run(words, check=True, env=environment)
    return world


def _table(head, rows):
    print(f"\n| {head} |\n|{'---|' * (head.count('|') + 1)}")
    for row in rows:
        print("|", " | ".join(map(str, row)), "|")


def _of_reader(row):
    faults = row["faults"].items()
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(faults)) or "none"
    costs = f"{row['seconds']:.2f}", f"{row['megabytes']:.0f}"
    return [row["key"][1], row["inputs"], row["accepted"], row["refused"], *costs, counts]


def _short(row):
    text = json.dumps({name: value for name, value in row.items() if name != "key"})
    return text if len(text) < 300 else f"{text[:300]}…"


if __name__ == "__main__":
    sys.exit(main())
