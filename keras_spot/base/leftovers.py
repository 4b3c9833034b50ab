"""Names of temporary files and folders by which a later process knows whose they were.

    .prompt.npz.1f0c9a7e-4711-83350-x2k9w0ab

A name ends in a hash of the host (and boot, and process namespace), the process, when it started,
and letters by chance. What a dead process of this host has left may be cleared away; what another
host's may still be writing, and every other name, stays.
"""

import contextlib
import functools
import hashlib
import os
import re
import socket
from pathlib import Path

_LONGEST = 180  # letters of a name before the process, of the 255 that a file system takes
_NAME = re.compile(r"(\..+[.-])([0-9a-f]{8})-([0-9]{1,10})-([0-9]{1,20})-[a-z0-9_]{8}")
_looked: set[str] = set()


def prefix(lead: str) -> str:
    """Return the prefix of a temporary name for `tempfile`, which adds eight letters.

    Args:
        lead: how it begins: a dot first, a dot or a hyphen last.
    """
    pid = os.getpid()
    cut = lead if len(os.fsencode(lead)) <= _LONGEST else f"{lead[: _LONGEST // 4]}."
    return f"{cut}{_host()}-{pid}-{_started(pid) or 0}-"


def lead_of(name: str) -> str | None:
    """Return how the temporary name of a dead process of this host begins, None for others.

    >>> lead_of(prefix(".prompt.npz.") + "x2k9w0ab"), lead_of(".bashrc")
    (None, None)
    """
    match = _NAME.fullmatch(name)
    if match is None or match[2] != _host() or _is_alive(int(match[3]), int(match[4])):
        return None
    return match[1]


def left_in(folder: str | os.PathLike) -> list[Path]:
    """Return what dead processes of this host have left in a folder.

    A process looks once at each folder, for it may write to it thousands of times.
    """
    place = os.path.realpath(folder)
    if place in _looked:
        return []
    _looked.add(place)
    try:
        return [Path(place, name) for name in os.listdir(place) if lead_of(name) is not None]
    except OSError:
        return []


@functools.cache
def _host() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("/".join(parts).encode("utf-8", "replace")).hexdigest()[:8]


def _is_alive(pid: int, started: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return _started(pid) in (None, started)


def _started(pid: int) -> int | None:
    """Return when a process started, in the kernel's ticks; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
