"""Who works on which cell: claims that several processes and hosts make in one shared folder.

A claim is a file `ID.N` that only one process can create (`O_EXCL`, which NFS honours too). Its
owner touches it now and then; one that has died, or has not touched it for long enough, loses the
cell to whoever creates `ID.N+1`, again only one. Nothing is renamed or removed on the way, so
there is no moment at which two takers can both win.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_spot.base import reading

STALE_AFTER = 180.0
"""Seconds without a sign of life after which a claim may be taken over."""
BEATS = 6
"""Signs of life in that time."""


class Claims:
    """The claims of one process in a folder.

    Args:
        folder: where the files lie; `take` makes it if it is missing.
        stale_after: seconds, see `STALE_AFTER`; the same for all who share the folder.
    """

    def __init__(self, folder: str | os.PathLike, stale_after: float = STALE_AFTER):
        self.folder = Path(folder)
        self.stale_after = stale_after
        self._seen: dict[Path, tuple[int, float]] = {}

    def take(self, name: str) -> Path | None:
        """Claim a cell; None where another holds it."""
        newest = self._newest(name)
        if newest is not None and not self._is_free(newest):
            return None
        number = 0 if newest is None else int(newest.suffix[1:]) + 1
        path = self.folder / f"{name}.{number}"
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return None
        with open(handle, "w", encoding="utf-8") as file:
            json.dump({**identity(), "time": time.time()}, file)
        return path

    @contextlib.contextmanager
    def kept(self, path: Path) -> Iterator[None]:
        """Keep a claim alive while the block runs; if it raises, free the cell for others."""
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
            path.write_text(json.dumps({"released": True}), encoding="utf-8")
            raise
        finally:
            done.set()
            thread.join()

    def drop(self, name: str) -> None:
        """Remove all claims on a finished cell."""
        for path in self._all(name):
            path.unlink(missing_ok=True)

    def holder(self, name: str) -> dict[str, Any] | None:
        """The owner of a cell that is being worked on: host, pid, time."""
        newest = self._newest(name)
        if newest is None or self._is_free(newest):
            return None
        return _read(newest)

    def _all(self, name: str) -> list[Path]:
        found = self.folder.glob(f"{name}.*")
        return [path for path in found if path.suffix[1:].isdigit() and path.stem == name]

    def _newest(self, name: str) -> Path | None:
        return max(self._all(name), default=None, key=lambda path: int(path.suffix[1:]))

    def _is_free(self, path: Path) -> bool:
        """Whether a claim was released, or its owner is dead or silent for too long."""
        owner = _read(path)
        if owner is None or owner.get("released"):
            return True
        pid = owner.get("pid")
        if owner.get("host") == identity()["host"] and type(pid) is int and not _alive(pid):
            return True
        # Silence is measured on our own clock, as hosts and file servers have their own times.
        try:
            touched = path.stat().st_mtime_ns
        except FileNotFoundError:
            return True
        before, since = self._seen.get(path, (None, 0.0))
        if touched != before:
            self._seen[path] = touched, time.monotonic()
            return False
        return time.monotonic() - since > self.stale_after


def identity() -> dict[str, Any]:
    """This process: pid, and a host name in which that pid means something.

    Containers may share a host name and not their process numbers, so the kernel's boot and the
    process namespace belong to the name where the system tells them.
    """
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")[:8])
        parts.append(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    return {"host": "/".join(parts), "pid": os.getpid()}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:  # no number of a process
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a claim says: nothing where it is being written, None where it is gone."""
    try:
        return reading.read_record(path, limit=1 << 16)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
