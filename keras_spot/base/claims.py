"""Who works on what: claims that several processes and hosts make in one shared folder.

A claim is a file `ID.N` that only one process can create (`O_EXCL`, which NFS honours too). Its
owner touches it now and then; one that has died, or has not touched it for long enough, loses
it to whoever creates `ID.N+1`, again only one. Nothing is renamed or removed on the way, so
there is no moment at which two takers can both win.
"""

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from keras_spot.base import reading
from keras_spot.base.errors import naming_file
from keras_spot.base.swap import make_folder

__all__ = ["BEATS", "STALE_AFTER", "Claims", "identity", "is_alive"]

STALE_AFTER = 180.0
"""Seconds without a sign of life after which a claim may be taken over."""
BEATS = 6
"""Signs of life in that time."""


class Claims:
    """The claims of one process in a folder.

    Args:
        folder: where the files lie; `take` makes it if it is missing.
        stale_after: seconds, see `STALE_AFTER`; the same for all who share the folder.
        at_once: tell by the file system's clock at the first look whether an owner is silent,
            instead of looking twice. Default False.
    """

    def __init__(
        self, folder: str | os.PathLike, stale_after: float = STALE_AFTER, at_once: bool = False
    ):
        self.folder = Path(folder)
        self.stale_after = stale_after
        self.at_once = at_once
        self._seen: dict[Path, tuple[int, float]] = {}

    def take(self, name: str) -> Path | None:
        """Claim a name; None where another holds it."""
        newest = self._newest(name)
        if newest is not None and not self._is_free(newest):
            return None
        number = 0 if newest is None else int(newest.suffix[1:]) + 1
        path = self.folder / f"{name}.{number}"
        make_folder(self.folder)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return None
        try:
            with naming_file(path), open(handle, "w", encoding="utf-8") as file:
                json.dump({**identity(), "time": time.time()}, file)
        except OSError:  # of a full disk
            path.unlink()
            raise
        return path

    def holds(self, path: Path) -> bool:
        """Whether a claim is still there, and nobody has taken it over."""
        return path.is_file() and self._newest(path.stem) == path

    @contextlib.contextmanager
    def kept(self, path: Path) -> Iterator[None]:
        """Keep a claim alive while the block runs; if it raises, free the name for others."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self.stale_after / BEATS):
                with contextlib.suppress(OSError):
                    os.utime(path)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                if self.holds(path):
                    _release(path)
            raise
        finally:
            done.set()
            thread.join()

    def drop(self, name: str) -> None:
        """Remove all claims on a name that is finished."""
        for path in self._all(name):
            path.unlink(missing_ok=True)

    def drop_all(self, names: Collection[str]) -> None:
        """Remove all claims on names that are finished, of a folder that has many others."""
        for path in self.folder.glob("*"):
            if path.suffix[1:].isdecimal() and path.stem in names:
                path.unlink(missing_ok=True)

    def holder(self, name: str) -> dict[str, Any] | None:
        """The owner of a name that is being worked on: host, pid, started, time."""
        newest = self._newest(name)
        if newest is None or self._is_free(newest):
            return None
        return _read(newest)

    def _all(self, name: str) -> list[Path]:
        files = self.folder.glob(f"{name}.*")
        return [path for path in files if path.suffix[1:].isdecimal() and path.stem == name]

    def _newest(self, name: str) -> Path | None:
        return max(self._all(name), default=None, key=lambda path: int(path.suffix[1:]))

    def _is_free(self, path: Path) -> bool:
        """Whether a claim was released, or its owner is dead or silent for too long."""
        owner = _read(path)
        if owner is None or owner.get("released"):
            return True
        if owner.get("host") == identity()["host"] and not is_alive(owner):
            return True
        # Silence is measured on our own clock, as hosts and file servers have their own times.
        try:
            touched = path.stat().st_mtime_ns
        except FileNotFoundError:
            return True
        if self.at_once:
            return self._now() - touched / 1e9 > self.stale_after
        before, since = self._seen.get(path, (None, 0.0))
        if touched != before:
            self._seen[path] = touched, time.monotonic()
            return False
        return time.monotonic() - since > self.stale_after

    def _now(self) -> float:
        """Return the time by the clock that files here are stamped with."""
        with tempfile.TemporaryFile(dir=self.folder) as file:
            return os.fstat(file.fileno()).st_mtime


def identity() -> dict[str, Any]:
    """This process: pid, when it started, and a host name in which that pid means something.

    Containers may share a host name and not their process numbers, so the kernel's boot and the
    process namespace belong to the name where the system tells them.
    """
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")[:8])
        parts.append(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    return {"host": "/".join(parts), "pid": os.getpid(), "started": _started(os.getpid())}


def is_alive(owner: dict[str, Any]) -> bool:
    """Whether an owner on this host still runs; its number may be another process' by now."""
    pid = owner.get("pid")
    if type(pid) is not int:  # the claim is being written
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    started = _started(pid)
    return started is None or owner.get("started") in (None, started)


def _release(path: Path) -> None:
    """Write over a claim; on a full disk, too, for what is shorter takes no more room."""
    with open(path, "r+", encoding="utf-8") as file:
        file.write(json.dumps({"released": True}))
        file.truncate()


def _started(pid: int) -> int | None:
    """Return when a process started, in the kernel's ticks; None where the system does not say."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(line.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a claim says: nothing where it is being written, None where it is gone."""
    try:
        return reading.read_record(path, limit=1 << 16)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
