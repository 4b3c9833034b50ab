"""Many clients for minutes, texts of every kind, prompts that come and go.

    python -m tests.serving.soak --minutes 10 --clients 8
    python -m tests.serving.soak --minutes 1 FOLDER    an exported folder, default: a bank on tiny

It ends with an error unless no request failed, every answer is what one client alone gets, and the
server's memory stays within 2% of what it was when it had warmed up.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time

from tests.serving.serving_client import serving, together

WARM = 0.3  # of the time
FLAT = 0.02
_LATE = 300  # seconds: this is about right answers, not quick ones
SENTENCE = "a fine film and the street is wet though nobody has seen it rain since noon"


def requests(models, seed=0):
    """Return paths, bodies and the statuses they must get."""
    rng = random.Random(seed)
    made = []
    for number in range(120):
        model = rng.choice(models)
        size = rng.choice([1, 1, 1, 2, 3, 8])
        rows = []
        for _ in range(size):
            length = rng.choice([1, 5, 20, 100, 700])
            text = " ".join(rng.choice(SENTENCE.split()) for _ in range(length))
            rows.append(dict.fromkeys(model["fields"], text))
        form, verb, status = "instances", "predict", 200
        if model["labels"] and number % 3:
            form, verb = "examples", "classify"
        if number % 10 == 9:
            rows, status = rng.choice([[], [1], ["\ud800"], ["x" * 10**6]]), 422
        made.append((f"{model['name']}:{verb}", {form: rows}, status))
    return made


def memory(server):
    """Return the resident bytes of a server."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def same(one, other):
    """Say whether answers agree; in another batch a probability may differ in its last digits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return abs(one - other) < 1e-3 if isinstance(one, float) else one == other


def soak(server, minutes, clients, held=None):
    """Ask for minutes; return what was seen."""
    models = server.get("/v1/models")[1]["models"]
    asked = requests(models)
    alone = [server.ask(path, body, timeout=_LATE) for path, body, _ in asked]
    begin, seen = time.monotonic(), {"requests": 0, "wrong": [], "memory": []}
    end, lock = begin + 60 * minutes, threading.Lock()

    def client(number):
        rng = random.Random(number)
        while time.monotonic() < end:
            which = rng.randrange(len(asked))
            path, body, status = asked[which]
            answer = server.ask(path, body, timeout=_LATE)
            good = answer[0] == status == alone[which][0] and same(answer[1], alone[which][1])
            with lock:
                seen["requests"] += 1
                if not good:
                    seen["wrong"].append((path, status, answer))

    def watch():
        while time.monotonic() < end:
            time.sleep(min(5, max(0.1, end - time.monotonic())))
            seen["memory"].append((time.monotonic() - begin, memory(server)))
            if held is not None:
                held()

    together([*(lambda number=number: client(number) for number in range(clients)), watch])
    return seen


def bank(folder):
    """Write a bank on the embedded backbone, as a SavedModel."""
    import keras_spot

    names = ["synthetic/movies", "synthetic/entailment"]
    model = keras_spot.build("tiny", num_prompts=len(names), prompt_names=names, prompt_length=20)
    model.export(folder, max_length=8, tasks=names)


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder
        if folder is None:
            folder = f"{scratch}/served"
            code = f"from tests.serving import soak; soak.bank({folder!r})"
            subprocess.run([sys.executable, "-c", code], check=True)
        command = ["-m", "keras_spot", "serve", folder, "--port", "0", "--timeout", str(_LATE)]
        with serving(*command) as server:
            seen = soak(server, given.minutes, given.clients)
            code = server.stop()
    warm = WARM * 60 * given.minutes
    after = [size for seconds, size in seen["memory"] if seconds >= warm]
    growth = max(after) / after[0] - 1
    report = {
        "requests": seen["requests"],
        "wrong": len(seen["wrong"]),
        "memory_mb": [round(size / 1e6) for _, size in seen["memory"][:: max(1, len(after) // 20)]],
        "growth_after_warm_up": round(growth, 4),
        "exit_code": code,
    }
    print(json.dumps(report, indent=1))
    for wrong in seen["wrong"][:5]:
        print(str(wrong)[:500], file=sys.stderr)
    return int(bool(seen["wrong"]) or growth > FLAT or code != 0)


if __name__ == "__main__":
    sys.exit(main())
