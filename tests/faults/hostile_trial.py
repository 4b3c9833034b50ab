"""One hostile file after the other, read in a process that may die of it.

A child process reads; this one writes the files and watches. What counts as a fault:

crash      the child died
hang       more than 2 seconds of processor time, or a minute by the clock
memory     more than 200 MB on top of what the child had
kind       an exception other than the package's own, or a system's error that names a file
unnamed    a message that does not name the file, nor its folder
long       a message of more than 2,000 letters
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
SECONDS, MEGABYTES, CLOCK, LETTERS = 2.0, 200, 60.0, 2_000


def read_here(reader, count):
    """Read so many hostile inputs in this process, which dies of a crash; return the row."""
    return _one_reader(reader, count, _Here(reader))


def run_one(reader, count):
    """Read so many hostile inputs of one reader in a process that may die of it.

    Returns:
        A row: `inputs`, `accepted`, `refused`, `faults` (kind -> count), `examples` of faults, and
        the largest `seconds` and `megabytes`.
    """
    return _one_reader(reader, count, _Child(reader.name))


def _one_reader(reader, count, place):
    import hostile_mutations
    import numpy as np

    row = {"reader": reader.name, "inputs": count, "accepted": 0, "refused": 0}
    row |= {"faults": {}, "examples": [], "seconds": 0.0, "megabytes": 0.0}
    with tempfile.TemporaryDirectory() as scratch, place as child:
        good = Path(scratch, "good")
        good.mkdir()
        reader.write(good)
        content = (good / reader.file).read_bytes()
        outcome = child.read(good)
        assert outcome["result"] == "accepted", (reader.name, outcome)
        for i in range(count):
            rng = np.random.default_rng([zlib.crc32(reader.name.encode()), i])
            what, changed = hostile_mutations.mutate(reader.kind, content, rng)
            (good / reader.file).write_bytes(changed)
            outcome = child.read(good)
            (good / reader.file).write_bytes(content)
            _count(row, reader, good, f"#{i} {what}", outcome)
    return row


def _count(row, reader, folder, what, outcome):
    row["seconds"] = max(row["seconds"], outcome.get("seconds", 0.0))
    row["megabytes"] = max(row["megabytes"], outcome.get("megabytes", 0.0))
    faults = []
    result = outcome["result"]
    if result in ("crash", "hang"):
        faults.append(result)
    else:
        row[result] += 1
        if outcome["seconds"] > SECONDS:
            faults.append("hang")
        if outcome["megabytes"] > MEGABYTES:
            faults.append("memory")
        names = (str(folder / reader.file), str((folder / reader.file).parent))
        for message in outcome["messages"]:
            if not any(name in message for name in names):
                faults.append("unnamed")
            if len(message) > LETTERS + len(str(folder)):
                faults.append("long")
        if not outcome["own"]:
            faults.append("kind")
    for fault in set(faults):
        row["faults"][fault] = row["faults"].get(fault, 0) + 1
        if len(row["examples"]) < 20:
            shown = {k: v for k, v in outcome.items() if k != "messages"}
            shown["messages"] = [message[:300] for message in outcome.get("messages", ())]
            row["examples"].append(f"{fault}: {what}: {shown}")


class _Here:
    """This process as the one that reads."""

    def __init__(self, reader):
        self.reader = reader

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def read(self, folder):
        return judged(self.reader, folder)


class _Child:
    """A process that reads what it is told to, started anew after each death."""

    def __init__(self, reader):
        self.reader = reader
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._end()

    def read(self, folder):
        if self.process is None:
            self._start()
        try:
            self.process.stdin.write(f"{folder}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._line()
        if line:
            return json.loads(line)
        hung = self.process.poll() is None
        self._end()
        return {"result": "hang" if hung else "crash"}

    def _line(self):
        import select

        end = time.monotonic() + CLOCK
        while time.monotonic() < end:
            ready, _, _ = select.select([self.process.stdout], [], [], 1.0)
            if ready:
                return self.process.stdout.readline()
        return ""

    def _start(self):
        root = HERE.parents[1]
        paths = [str(root), str(HERE), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "hostile_trial.py"), self.reader],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "-1",
            },
        )
        ready = self.process.stdout.readline()
        assert ready == "ready\n", "the child did not start"

    def _end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


# === The child ===


def _serve(name):
    import hostile_seeds

    reader = hostile_seeds.BY_NAME[name]
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print does not disturb the answers
    with tempfile.TemporaryDirectory() as scratch:  # imports are not the reader's cost
        reader.write(Path(scratch))
        reader.read(Path(scratch))
        shutil.rmtree(scratch, ignore_errors=True)
        os.mkdir(scratch)
    out.write("ready\n")
    for line in sys.stdin:
        out.write(json.dumps(judged(reader, Path(line.rstrip("\n")))) + "\n")


def judged(reader, folder):
    """Return what becomes of a read: `result`, whether errors are the package's `own`, costs."""
    from keras_spot.base.errors import USER_ERRORS

    before = _memory("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the highest memory so far is forgotten
    began = time.process_time()
    own, messages = True, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            reader.read(folder)
            result = "accepted"
        except Exception as error:
            result = "refused"
            messages.append(str(error))
            named = isinstance(error, OSError) and error.filename is not None
            own = isinstance(error, USER_ERRORS) or named
            if not own:
                messages[-1] = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - began
    # Others are for developers of libraries: deprecated calls, files that are closed late.
    own_warnings = (w for w in caught if "site-packages" not in w.filename)
    messages += [str(w.message) for w in own_warnings if w.category is UserWarning]
    megabytes = max(0.0, (_memory("VmHWM") - before) / 1024)
    return {
        "result": result,
        "own": own,
        "messages": [re.sub(r"[\ud800-\udfff]", "?", message) for message in messages],
        "seconds": round(seconds, 3),
        "megabytes": round(megabytes, 1),
    }


def _memory(key):
    with open("/proc/self/status", encoding="ascii") as file:
        return int(re.search(rf"{key}:\s+(\d+) kB", file.read())[1])


if __name__ == "__main__":
    _serve(sys.argv[1])
