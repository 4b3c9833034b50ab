"""Processes that are cheap to start and to kill: forks of one that has imported everything.

A server imports the package with TensorFlow once, starts no thread, and forks for every command.
Run as a program it is that server; `Server` starts and asks it.

A fork can die at a file operation of its own choice (`kill_at`), be slowed down at each of them
(`delay`), leave an image of what a disk would hold had the power gone (`image`), and run what
TensorFlow would compile at once instead (`eager`), which for toys takes half the time.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIGHT = ["keras_spot.cli", "keras_spot.transfer.library", "rich.table"]
HEAVY = ["tensorflow", "tensorflow_text", "keras_hub", "yaml", "matplotlib.pyplot"]
HEAVY += ["sklearn.metrics", "keras_spot.model.build", "keras_spot.model.export"]
HEAVY += ["keras_spot.training.session", "keras_spot.training.checkpoints", "rich.progress"]
HEAVY += ["keras_spot.training.evaluate", "keras_spot.transfer.retrieval"]
HEAVY += ["keras_spot.study.trainer", "keras_spot.study.report"]
MUTATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}
MUTATIONS |= {"os.truncate", "os.chmod", "os.utime", "fsync", "exchange"}


class Server:
    """A process to fork from.

    Args:
        light: import nothing that imports TensorFlow.
    """

    def __init__(self, light=False):
        paths = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "forks.py"), "light" if light else "heavy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a line that was read ahead would be invisible to `select`
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "KERAS_BACKEND": "tensorflow",
                "MPLBACKEND": "agg",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "-1",
                # Threads of the server are not in its forks.
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
        )
        self.threads = json.loads(self.process.stdout.readline())["threads"]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def start(self, words, cwd, out, **plan):
        """Start `keras-spot words` in a fork; `plan` has what the module tells."""
        order = {"words": [str(w) for w in words], "cwd": str(cwd), "out": str(out), **plan}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        return json.loads(self.process.stdout.readline())["pid"]

    def wait(self, seconds=None):
        """Return (exit code, -9 for a kill; file operations), None if it takes longer."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            return None
        answer = json.loads(self.process.stdout.readline())
        return answer["status"], answer["operations"]

    def run(self, words, cwd, out, kill_after=None, limit=120.0, **plan):
        """Run a command to its end, or kill it after so many seconds; return as `wait`."""
        pid = self.start(words, cwd, out, **plan)
        ended = self.wait(limit if kill_after is None else kill_after)
        if ended is None:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.kill(pid, signal.SIGKILL)
            ended = self.wait()
            if kill_after is None:
                raise TimeoutError(f"{' '.join(map(str, words))} took more than {limit} s")
        return ended


# === The server ===


class Operations:
    """Counts the file operations of this process below a folder, and dies at one of them."""

    def __init__(self, order):
        self.root = os.path.realpath(order["cwd"])
        self.kill_at, self.delay = order.get("kill_at"), order.get("delay", 0.0)
        self.image = order.get("image")
        self.count, self.busy = 0, False
        self.disk = None
        if self.image:
            import disk

            self.disk = disk.Disk(self.root)
        self._watch()

    def _watch(self):
        from keras_spot.base import atomic

        fsync, exchange = os.fsync, atomic.exchange

        def synced(handle):
            self.seen("fsync")
            fsync(handle)
            if self.disk is not None:
                self.disk.synced(handle)

        def exchanged(*names):
            self.seen("exchange")
            return exchange(*names)

        os.fsync, atomic.exchange = synced, exchanged
        sys.addaudithook(self._audit)

    def _audit(self, event, args):
        if self.busy:
            return
        if event == "open":
            path, _, flags = args
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if (writes or self.delay) and self._is_inside(path):
                self.seen(event, writes)
        elif event in MUTATIONS and any(map(self._is_inside, args)):
            self.seen(event)
        elif self.delay and event in ("os.listdir", "os.scandir") and self._is_inside(args[0]):
            self.seen(event, False)

    def _is_inside(self, path):
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        name = os.path.join(os.getcwd(), os.fsdecode(path))
        return name.startswith(self.root)

    def seen(self, event, counts=True):
        if self.delay:
            time.sleep(self.delay)
        if not counts:
            return
        self.count += 1
        if self.count == self.kill_at:
            if self.disk is not None:
                self.busy = True
                self.disk.write_image(*self.image)
            os.kill(os.getpid(), signal.SIGKILL)


def _serve(kind):
    import importlib

    sys.path.insert(0, str(HERE))
    for name in (*LIGHT, *(() if kind == "light" else HEAVY)):
        importlib.import_module(name)
    import keras_spot.cli

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    answers.write(json.dumps({"threads": len(os.listdir("/proc/self/task"))}) + "\n")
    while line := sys.stdin.readline():
        order = json.loads(line)
        counted, count = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(counted)
            answers.close()
            _be(order, keras_spot.cli.main, count)
        os.close(count)
        answers.write(json.dumps({"pid": pid}) + "\n")
        with os.fdopen(counted) as numbers:
            operations = int(numbers.read() or 0)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        answers.write(json.dumps({"status": code, "operations": operations}) + "\n")


def _be(order, main, count):
    """Be the fork: run the command, tell how many operations it made, and end."""
    code = 70
    try:
        os.setsid()
        out = os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(order["cwd"])
        if order.get("eager"):
            import warnings

            import tensorflow as tf

            tf.config.run_functions_eagerly(True)
            warnings.filterwarnings("ignore", ".*does not apply to tf.data functions")
        operations = Operations(order)
        sys.argv = ["keras-spot", *order["words"]]
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
        os.write(count, str(operations.count).encode())
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve(sys.argv[1])
